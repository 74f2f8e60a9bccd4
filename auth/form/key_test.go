package form_test

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"quorumhub/auth"
	"quorumhub/auth/form"
	"quorumhub/auth/sequence"
	"quorumhub/hub"
)

// keys is a hub's API keys.
type keys map[string]hub.APIKey

func (k keys) APIKey(id string) (hub.APIKey, bool) {
	key, ok := k[id]
	return key, ok
}

func TestLoginWithAKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text, id, hash, err := auth.GenerateAPIKey()
		if err != nil {
			t.Fatal(err)
		}
		known := keys{id: {ID: id, Name: "ops", Hash: hash, Roles: []string{"operator"}, ExpiresAt: time.Now().Add(time.Hour)}}
		var down error
		gate := auth.NewGate(&auth.Settings{}, auth.NewAPIKeys(known, time.Now))
		k := form.NewKey(form.KeyOptions{Name: "keys", Label: "API key", Now: time.Now, Authenticate: func(ctx context.Context, r *auth.Request) (*auth.Principal, error) {
			if down != nil {
				return nil, down
			}
			return gate.Authenticate(ctx, r)
		}})
		try := func(client, text string) (*sequence.Identity, error) {
			return k.Finish(t.Context(), &sequence.Finish{Form: url.Values{"key": {text}}, Client: client})
		}
		next, _, err := k.Start(t.Context(), &sequence.Start{})
		if err != nil || len(next.Form.Fields) != 1 || !next.Form.Fields[0].Secret || next.Form.Label != "API key" {
			t.Fatalf("%+v, %v", next, err)
		}
		who, err := try("192.0.2.1", "  "+text+"\n")
		if err != nil {
			t.Fatal(err)
		}
		p := who.Principal
		if p.ID != "key/"+id || p.Method != auth.MethodSession || !p.HasRole("operator") || who.Name != "ops" || !p.Until.Equal(time.Now().Add(time.Hour)) {
			t.Errorf("%+v, %+v", who, p)
		}
		for name, bad := range map[string]string{"nothing": "", "a word": "hello", "a wrong secret": text[:len(text)-4] + "AAAA", "two keys": text + " " + text,
			"a line break": text + "\r\nX-Api-Key: x\r\n" + text, "20 KiB": strings.Repeat("x", 20<<10), "not ASCII": "qhk_é"} {
			if _, err := try("198.51.100.1", bad); verdict(err) != "refused" {
				t.Errorf("%s: %v", name, err)
			}
		}
		// The key ends: so does who logged in with it.
		if now, err := p.Again(t.Context()); err != nil || now.ID != p.ID {
			t.Errorf("%+v, %v", now, err)
		}
		delete(known, id)
		if _, err := p.Again(t.Context()); verdict(err) != "refused" {
			t.Errorf("after the key was deleted: %v", err)
		}
		seen := map[string]int{}
		for i := range 60 {
			_, err := try("192.0.2.7", fmt.Sprintf("qhk_%012d_x", i))
			seen[verdict(err)]++
		}
		if seen["refused"] != 20 || seen["limit"] != 40 {
			t.Errorf("made-up keys: %v", seen)
		}
		down = fmt.Errorf("%w: no keys yet", auth.ErrUnavailable)
		for range 50 {
			if _, err := try("192.0.2.8", "a.b.c"); verdict(err) != "unavailable" {
				t.Fatal(err)
			}
		}
	})
}
