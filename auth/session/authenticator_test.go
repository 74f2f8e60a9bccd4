package session_test

import (
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"quorumhub/auth"
	"quorumhub/auth/session"
)

// asked returns what a guard makes of a request with a cookie, and the cookie that it sets.
func (r *rig) asked(method, cookie string, headers ...string) (p *auth.Principal, set *http.Cookie, err error) {
	r.Helper()
	guard := auth.NewGuard(auth.NewGate(r.settings, r.Authenticator()), auth.NewRuleSet(r.settings, r.log, slog.New(slog.DiscardHandler)), auth.AuditAll, "node-1", slog.New(slog.DiscardHandler))
	req := httptest.NewRequest(method, "https://hub.example.org/v1/topics", nil)
	if cookie != "" {
		req.Header.Set("Cookie", "other=1; "+session.CookieName+"="+cookie)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	p, err = guard.Authenticate(r.Context(), &auth.Request{HTTP: req, Host: req.Host, Scheme: "https", SetCookie: func(c *http.Cookie) { set = c }})
	return p, set, err
}

// A browser sends the cookie with whatever any page makes it send. It counts for what the hub's own pages and the person do.
func TestNoOtherSiteActsBySession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		_, cookie := r.login()
		const counts, ignored, refused = "counts", "ignored", "refused"
		fetch := func(site, mode, dest string, more ...string) []string {
			return append([]string{"Sec-Fetch-Site", site, "Sec-Fetch-Mode", mode, "Sec-Fetch-Dest", dest}, more...)
		}
		for name, tc := range map[string]struct {
			method  string
			headers []string
			want    string
		}{
			"a page of the hub reads":                {"GET", fetch("same-origin", "cors", "empty"), counts},
			"a page of the hub acts":                 {"POST", fetch("same-origin", "cors", "empty", "Origin", "https://hub.example.org"), counts},
			"a form of the hub":                      {"POST", fetch("same-origin", "navigate", "document", "Origin", "https://hub.example.org"), counts},
			"the address bar":                        {"GET", fetch("none", "navigate", "document"), counts},
			"a link elsewhere":                       {"GET", fetch("cross-site", "navigate", "document"), counts},
			"a link on a sibling host":               {"GET", fetch("same-site", "navigate", "document"), counts},
			"a frame elsewhere":                      {"GET", fetch("cross-site", "navigate", "iframe"), ignored},
			"a script elsewhere reads":               {"GET", fetch("cross-site", "cors", "empty", "Origin", "https://evil.example"), ignored},
			"an event stream elsewhere":              {"GET", fetch("cross-site", "cors", "empty", "Origin", "https://evil.example", "Accept", "text/event-stream"), ignored},
			"an event stream on a sibling host":      {"GET", fetch("same-site", "cors", "empty", "Origin", "https://app.example.org", "Accept", "text/event-stream"), ignored},
			"an image elsewhere":                     {"GET", fetch("cross-site", "no-cors", "image"), ignored},
			"a prefetch elsewhere":                   {"HEAD", fetch("cross-site", "no-cors", "empty"), ignored},
			"a form elsewhere":                       {"POST", fetch("cross-site", "navigate", "document", "Origin", "https://evil.example"), refused},
			"a form on a sibling host":               {"POST", fetch("same-site", "navigate", "document", "Origin", "https://app.example.org"), refused},
			"a form in a sandbox":                    {"POST", fetch("cross-site", "navigate", "document", "Origin", "null"), refused},
			"a script elsewhere deletes":             {"DELETE", fetch("cross-site", "cors", "empty", "Origin", "https://evil.example"), refused},
			"a browser without fetch metadata reads": {"GET", nil, counts},
			"the same, from a script elsewhere":      {"GET", []string{"Origin", "https://evil.example"}, ignored},
			"the same, a form of the hub":            {"POST", []string{"Origin", "https://hub.example.org"}, counts},
			"the same, a form elsewhere":             {"POST", []string{"Origin", "https://evil.example"}, refused},
			"the same, a form on another port":       {"POST", []string{"Origin", "https://hub.example.org:8443"}, refused},
			"the same, a form in a sandbox":          {"POST", []string{"Origin", "null"}, refused},
			"a program that does not say where from": {"POST", nil, refused},
			"an unknown word for where from":         {"GET", fetch("everywhere", "cors", "empty"), ignored},
			"an unknown word for where from, acting": {"PUT", fetch("everywhere", "cors", "empty"), refused},
		} {
			p, set, err := r.asked(tc.method, cookie, tc.headers...)
			got := counts
			var refusal *auth.RefusalError
			switch {
			case errors.As(err, &refusal):
				got = refused
			case err != nil:
				got = err.Error()
			case p.Method == auth.MethodAnonymous:
				got = ignored
			}
			if got != tc.want || set != nil {
				t.Errorf("%s: the session %s, want %s", name, got, tc.want)
			}
		}
	})
}

// The principal of a session is somebody only as long as the session is, which a stream learns by asking again.
func TestASessionsPrincipalEndsWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s, cookie := r.login()
		p, set, err := r.asked("GET", cookie)
		if err != nil || p.ID != "issuer:corp/alice" || set != nil {
			t.Fatalf("%v, %v, %v", p, set, err)
		}
		if !p.Until.Equal(time.Now().Add(30 * time.Minute)) {
			t.Errorf("a stream lasts until %s", p.Until)
		}
		if now, err := p.Again(t.Context()); err != nil || now.ID != p.ID || !now.HasRole("ops") || !now.Until.Equal(p.Until) {
			t.Errorf("again: %+v, %v", now, err)
		}
		time.Sleep(time.Minute)
		_, set, err = r.asked("GET", cookie)
		if err != nil || set == nil || set.Name != session.CookieName || set.Value == cookie || !set.Secure || !set.HttpOnly {
			t.Errorf("after a minute the cookie is %+v (%v)", set, err)
		}
		if err := r.End(t.Context(), p.ID, s.ID); err != nil {
			t.Fatal(err)
		}
		var refusal *auth.RefusalError
		if _, err := p.Again(t.Context()); !errors.As(err, &refusal) {
			t.Errorf("a stream of a session that has ended: %v", err)
		}
		time.Sleep(10 * time.Second)
		if p, set, err := r.asked("GET", cookie); err != nil || p.Method != auth.MethodAnonymous || set != nil {
			t.Errorf("its cookie: %v, %v, %v", p, set, err)
		}
		_, cookie = r.login(func(n *session.New) { n.Ends = time.Now().Add(time.Minute) })
		if p, _, err := r.asked("GET", cookie); err != nil || !p.Until.Equal(time.Now().Add(time.Minute)) {
			t.Errorf("a stream lasts until %s (%v)", p.Until, err)
		}
	})
}

func TestCookiesThatAreNoSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		_, cookie := r.login()
		if p, _, err := r.asked("GET", ""); err != nil || p.Method != auth.MethodAnonymous {
			t.Errorf("none: %v, %v", p, err)
		}
		var refusal *auth.RefusalError
		if _, _, err := r.asked("GET", cookie, "Cookie", session.CookieName+"="+cookie); !errors.As(err, &refusal) {
			t.Errorf("two: %v", err)
		}
		if _, _, err := r.asked("GET", cookie[:40]); !errors.As(err, &refusal) {
			t.Errorf("a forged one: %v", err)
		}
	})
}

// Ways by name take a session that has passed what they name, and no other.
func TestWaysTakeSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		_, cookie := r.login()
		gate := auth.NewGate(r.settings, r.Authenticator())
		for name, want := range map[string]auth.Method{"corp": auth.MethodSession, "staff": auth.MethodSession, "default": auth.MethodSession, "partner": auth.MethodAnonymous} {
			way, err := gate.Way(name)
			if err != nil {
				t.Fatal(err)
			}
			req := httptest.NewRequest("GET", "/", nil)
			req.AddCookie(session.Cookie(cookie))
			if p, err := way.Authenticate(t.Context(), &auth.Request{HTTP: req, Host: "hub.example.org"}); err != nil || p.Method != want {
				t.Errorf("%s: %v, %v; want %s", name, p, err, want)
			}
		}
	})
}
