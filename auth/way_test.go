package auth_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"quorumhub/auth"
	"quorumhub/hub"
)

// oneKey knows one API key.
type oneKey struct{ key hub.APIKey }

func (o oneKey) APIKey(id string) (hub.APIKey, bool) { return o.key, id == o.key.ID }

// wayGate is a gate of API keys and GEO-Auth, with a valid key.
func wayGate(t *testing.T, links string) (gate *auth.Gate, key string) {
	t.Helper()
	key, id, hash, err := auth.GenerateAPIKey()
	if err != nil {
		t.Fatal(err)
	}
	s, err := auth.ParseSettings([]byte(strings.ReplaceAll(links, "KEY", id)))
	if err != nil {
		t.Fatal(err)
	}
	keys := auth.NewAPIKeys(oneKey{hub.APIKey{ID: id, Name: "svc", Hash: hash}}, func() time.Time { return geoTime })
	return auth.NewGate(s, geo(t, &memory{}, geoUser), keys), key
}

func TestWayTakesOnlyItsAuthenticator(t *testing.T) {
	gate, key := wayGate(t, "")
	way := func(name string) *auth.Way {
		w, err := gate.Way(name)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	for _, c := range []struct {
		way    string
		header string
		want   auth.Method
	}{
		{"key", key, auth.MethodAPIKey}, {"default", key, auth.MethodAPIKey},
		{"geo", key, auth.MethodAnonymous}, {"key", "", auth.MethodAnonymous},
	} {
		r := request("GET", "/x", "")
		if c.header != "" {
			r.HTTP.Header.Set("X-Api-Key", c.header)
		}
		p, err := way(c.way).Authenticate(t.Context(), r)
		if err != nil || p.Method != c.want {
			t.Errorf("way %s with key %t: %v %v, want %s", c.way, c.header != "", p, err, c.want)
		}
	}
	signed := request("GET", geoQuery(), "")
	p, err := way("geo").Authenticate(t.Context(), signed)
	if err != nil || p.GEO == nil || *p.GEO != (auth.GEONames{Username: "geo", SourceSystem: "INT", TargetSystem: "HRMS"}) {
		t.Fatalf("%+v %v, want the signed names", p, err)
	}
	if signed.Settle == nil || signed.Settle(t.Context()) != nil {
		t.Error("the nonce was not claimed once")
	}
	if _, err := gate.Way("gee"); err == nil || !strings.Contains(err.Error(), "default, geo, key") {
		t.Errorf("an unknown name: %v, want the names there are", err)
	}
	if got := way("geo").Challenges(); len(got) != 1 || !strings.HasPrefix(got[0], "GEO-Auth") {
		t.Errorf("challenges %q, want GEO-Auth alone", got)
	}
}

func geoQuery() string { return "/x?" + geoBiz + geoSigned }

const geoSigned = "&geo-username=geo&geo-key-id=GEOSystem&geo-source-system-name=INT&geo-target-system-name=HRMS&geo-expires-by=1368200000000&geo-nonce=" + geoNonce +
	"&geo-signature=wh6qzN8xbkKuVda1qVvY9W8C%2FR12IEjCibULassFZmOs71nU22qSXKnyDik5ZEFGPn15Dm%2BKdg8yq41bjDDulQ%3D%3D"

func TestSequences(t *testing.T) {
	const linked = "links:\n  one: [key/KEY, signed:geo-auth/GEOSystem/geo]\n"
	for name, c := range map[string]struct {
		steps      []auth.Step
		links      string
		key, geo   bool
		want       auth.Method
		refused    bool
		wantSettle bool
	}{
		"two steps need both": {steps: []auth.Step{{Strategy: "single", Of: []string{"key"}}, {Strategy: "single", Of: []string{"geo"}}}, key: true, want: auth.MethodAnonymous},
		"the first step says who": {steps: []auth.Step{{Strategy: "single", Of: []string{"key"}}, {Strategy: "single", Of: []string{"geo"}}}, key: true, geo: true,
			want: auth.MethodAPIKey, wantSettle: true},
		"multi takes what is there":    {steps: []auth.Step{{Strategy: "multi", Of: []string{"geo", "key"}}}, key: true, want: auth.MethodAPIKey},
		"parallel needs all":           {steps: []auth.Step{{Strategy: "parallel", Of: []string{"geo", "key"}}}, key: true, want: auth.MethodAnonymous},
		"parallel, any":                {steps: []auth.Step{{Strategy: "parallel", Of: []string{"geo", "key"}, Require: "any"}}, key: true, want: auth.MethodAPIKey},
		"parallel, two callers":        {steps: []auth.Step{{Strategy: "parallel", Of: []string{"geo", "key"}}}, key: true, geo: true, refused: true},
		"parallel, one caller, linked": {steps: []auth.Step{{Strategy: "parallel", Of: []string{"geo", "key"}}}, links: linked, key: true, geo: true, want: auth.MethodGEO, wantSettle: true},
	} {
		t.Run(name, func(t *testing.T) {
			gate, key := wayGate(t, c.links)
			way, err := gate.Sequence(c.steps)
			if err != nil {
				t.Fatal(err)
			}
			r := request("GET", "/x", "")
			if c.geo {
				r = request("GET", geoQuery(), "")
			}
			if c.key {
				r.HTTP.Header.Set("X-Api-Key", key)
			}
			p, err := way.Authenticate(t.Context(), r)
			var refusal *auth.RefusalError
			switch {
			case c.refused && !errors.As(err, &refusal):
				t.Errorf("%v %v, want a refusal", p, err)
			case !c.refused && (err != nil || p.Method != c.want):
				t.Errorf("%v %v, want %s", p, err, c.want)
			}
			if (r.Settle != nil) != c.wantSettle {
				t.Errorf("settles: %t, want %t", r.Settle != nil, c.wantSettle)
			}
		})
	}
}

// broken is an authenticator whose answers are given.
type broken struct{ err error }

func (b broken) Challenge() string { return "" }
func (b broken) Authenticate(context.Context, *auth.Request) (*auth.Principal, error) {
	return nil, b.err
}

func TestFailoverPassesOverOutagesOnly(t *testing.T) {
	down, wrong := auth.ErrUnavailable, &auth.RefusalError{Method: auth.MethodToken, Reason: "bad"}
	key, id, hash, err := auth.GenerateAPIKey()
	if err != nil {
		t.Fatal(err)
	}
	keys := auth.NewAPIKeys(oneKey{hub.APIKey{ID: id, Name: "svc", Hash: hash}}, time.Now)
	for _, c := range []struct {
		first error
		want  auth.Method
	}{{down, auth.MethodAPIKey}, {wrong, ""}} {
		gate := auth.NewGate(&auth.Settings{}, broken{c.first}, keys)
		way, err := gate.Sequence([]auth.Step{{Strategy: "failover", Of: []string{"default", "key"}}})
		if err != nil {
			t.Fatal(err)
		}
		r := request("GET", "/x", "", "X-Api-Key", key)
		p, err := way.Authenticate(t.Context(), r)
		if c.want == "" {
			if !errors.Is(err, c.first) {
				t.Errorf("after %v: %v %v, want that error", c.first, p, err)
			}
		} else if err != nil || p.Method != c.want {
			t.Errorf("after %v: %v %v, want %s", c.first, p, err, c.want)
		}
	}
}

func TestSequencesThatMakeNoSense(t *testing.T) {
	gate, _ := wayGate(t, "")
	for _, s := range []auth.Step{{Strategy: "single", Of: []string{"key", "geo"}}, {Strategy: "multi", Of: []string{"key"}}, {Strategy: "race", Of: []string{"key"}},
		{Strategy: "parallel", Of: []string{"key", "geo"}, Min: 3}, {Strategy: "parallel", Of: []string{"key", "geo"}, Require: "most"}, {Strategy: "single", Of: []string{"kerberos"}}} {
		if _, err := gate.Sequence([]auth.Step{s}); err == nil {
			t.Errorf("%+v is accepted", s)
		}
	}
	if _, err := gate.Sequence(nil); err == nil {
		t.Error("no steps are accepted")
	}
}

func TestRulesOnResources(t *testing.T) {
	rs := rules(t, `
rules:
  - {name: hr, may: [call], resources: ["hr.*"], who: [{role: clerk}]}
  - {name: kyc, may: [call], resources: ["kyc.{level}"], who: [{scope: "kyc-{level}"}]}
  - {name: all-topics, may: ["*"], topics: ["**"], who: [{role: admin}]}
  - {name: all, may: ["*"], topics: ["**"], resources: ["**"], who: [{role: root}]}
`)
	p := func(role, scope string) *auth.Principal {
		return &auth.Principal{Method: auth.MethodAPIKey, ID: "key/1", Roles: []string{role}, Scopes: []string{scope}}
	}
	for _, c := range []struct {
		p        *auth.Principal
		resource string
		want     bool
	}{
		{p("clerk", ""), "hr.address", true}, {p("clerk", ""), "hr.address.home", false}, {p("clerk", ""), "pay.slip", false}, {p("clerk", ""), "hr", false},
		{p("", "kyc-full"), "kyc.full", true}, {p("", "kyc-basic"), "kyc.full", false},
		{p("admin", ""), "hr.address", false}, {p("root", ""), "hr.address.home", true}, {p("root", ""), "", false},
	} {
		if d := auth.Decide(rs, c.p, auth.ActionCall, c.resource); d.Allowed != c.want {
			t.Errorf("%v on %q: %t (%s), want %t", c.p.Roles, c.resource, d.Allowed, d.Reason(), c.want)
		}
	}
	for _, r := range []string{
		`{name: r, may: [call], who: [{anonymous: true}]}`, `{name: r, may: [read], topics: [a], resources: [b], who: [{anonymous: true}]}`,
		`{name: r, may: [call], resources: ["hr/x"], who: [{anonymous: true}]}`, `{name: r, may: [call], resources: ["hr..x"], who: [{anonymous: true}]}`,
		`{name: r, may: [call], resources: ["{owner}"], who: [{anonymous: true}]}`, `{name: r, may: [call], resources: ["hr.*"]}`,
	} {
		if _, err := auth.ParseSettings([]byte("rules:\n  - " + r + "\n")); err == nil {
			t.Errorf("%s is accepted", r)
		}
	}
}
