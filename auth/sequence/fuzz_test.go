package sequence_test

import (
	"encoding/base64"
	"errors"
	"testing"

	"quorumhub/auth/sequence"
)

// FuzzContext sends back what nobody has sealed: it is refused, and no authenticator hears of it.
func FuzzContext(f *testing.F) {
	s := newStage(f, "[{strategy: multi, of: [corp, partner]}, {strategy: single, of: [emergency]}]")
	good := s.process(s.browser())
	f.Add("", "")
	f.Add(good.Context, "another state")
	f.Add(good.Context[:40], good.State)
	f.Add("AAAA", good.State)
	f.Fuzz(func(t *testing.T, text, state string) {
		s.t = t
		r := s.browser()
		r.Callback, r.Context = true, text
		r.Form = map[string][]string{sequence.FieldState: {state}, sequence.FieldChoice: {"corp"}}
		res := s.process(r)
		if text == good.Context && state == good.State {
			return
		}
		if res.Status != sequence.Failed || !errors.Is(res.Err, sequence.ErrContext) {
			t.Errorf("%s %v", res.Status, res.Err)
		}
		if len(s.at("corp").starts)+len(s.at("corp").finishes) != 0 {
			t.Error("a provider was asked")
		}
	})
}

// FuzzSealedContext opens whatever another version of the program may have sealed. It never panics, and never authenticates without an
// answer.
func FuzzSealedContext(f *testing.F) {
	f.Add(`{"p":"app","s":"x","u":99999999999,"i":0}`)
	f.Add(`{"p":"app","s":"x","u":99999999999,"i":1,"q":"emergency","t":2}`)
	f.Add(`{"p":"app","s":"x","u":99999999999,"i":0,"k":[{"i":0,"n":"corp","t":1,"d":"issuer:corp/ann"},{"i":7,"n":"x"}]}`)
	f.Add(`{"p":"app","s":"x","u":99999999999,"i":-1,"t":-5,"d":["corp",""],"x":"AAAA"}`)
	s := newStage(f, "[{strategy: failover, of: [corp, partner]}, {strategy: single, of: [emergency]}]")
	for _, name := range []string{"corp", "partner", "emergency"} {
		s.at(name).answer = fails(errWrong)
	}
	f.Fuzz(func(t *testing.T, plain string) {
		s.t = t
		sealed, err := s.box.Seal([]byte(plain), "quorumhub login context v1")
		if err != nil {
			t.Skip()
		}
		for _, choice := range []string{"", "corp"} {
			r := s.browser()
			r.Callback, r.Context = true, base64.RawURLEncoding.EncodeToString(sealed)
			r.Form = map[string][]string{sequence.FieldState: {"x"}, sequence.FieldChoice: {choice}}
			if res := s.process(r); res == nil || res.Status == sequence.Initial {
				t.Errorf("%+v", res)
			}
		}
	})
}
