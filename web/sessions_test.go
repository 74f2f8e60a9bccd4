package web_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"quorumhub/auth"
	"quorumhub/auth/session"
	"quorumhub/hub"
	"quorumhub/web"
)

const identity = `
identity_providers:
  - {name: corp, kind: oidc, issuer: https://idp.example.org, client_id: hub}
  - {name: partner, kind: oidc, issuer: https://idp.example.com, client_id: hub}
sequences:
  staff: {steps: [{strategy: multi, of: [corp, partner]}]}
service_providers:
  - {name: console, protocol: pages, sequence: staff}
links:
  alice: [issuer:corp/alice, issuer:partner/al]
`

// sessionsOf returns the sessions of a server. They have no state but the log's.
func sessionsOf(settings *auth.Settings, o *web.Options, service **hub.Service) *session.Manager {
	return session.NewManager(session.Options{Box: secrets{}, State: o.State, Sessions: func() session.Log { return *service }, Now: o.Clock.Now,
		Limits:   func() auth.SessionSettings { return settings.Sessions },
		Standing: session.Standing(func() *auth.Settings { return settings }, auth.NewAPIKeyLookup(nil, o.State), o.Clock.Now), Log: slog.New(slog.DiscardHandler)})
}

// loggedIn is a hub to which people log in.
type loggedIn struct {
	*guarded
	sessions *session.Manager
}

func newLoggedIn(t *testing.T) *loggedIn {
	t.Helper()
	l := &loggedIn{guarded: newGuarded(t, identity)}
	l.use(t, l.fixture)
	return l
}

func (l *loggedIn) use(t *testing.T, f *fixture) {
	t.Helper()
	settings, err := auth.ParseSettings([]byte(identity))
	if err != nil {
		t.Fatal(err)
	}
	l.sessions = sessionsOf(settings, &web.Options{State: f.ledger, Clock: f.clock}, &f.Service)
}

// login returns the session of somebody and its cookie.
func (l *loggedIn) login(t *testing.T, principal string, roles ...string) (id, cookie string) {
	t.Helper()
	by, subject, _ := strings.Cut(strings.TrimPrefix(principal, "issuer:"), "/")
	s, cookie, err := l.sessions.Start(t.Context(), &session.New{Principal: &auth.Principal{Method: auth.MethodSession, ID: principal, Authority: by, Subject: subject, Roles: roles},
		Name: strings.ToUpper(subject), Client: "Firefox on Linux", Passed: []session.Passed{{Authenticator: by, At: l.clock.Now()}}})
	if err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(s.ID[:]), cookie
}

// as sends a request as a page of the hub does.
func (l *loggedIn) as(cookie, method, target, body string, header ...string) *httptest.ResponseRecorder {
	return l.send(method, target, body, append([]string{"Cookie", session.CookieName + "=" + cookie, "Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "cors"}, header...)...)
}

func (l *loggedIn) list(t *testing.T, cookie, query string) (out []string) {
	t.Helper()
	for more := ""; ; {
		var page struct {
			Items []struct {
				ID, Principal, Name, Client string
				Passed                      []struct{ Authenticator string }
				StartedAt                   time.Time `json:"started_at"`
				EndsAt                      time.Time `json:"ends_at"`
			}
			Next string
		}
		if err := json.Unmarshal([]byte(want(t, l.as(cookie, "GET", "/v1/auth/sessions"+query+more, ""), 200)), &page); err != nil {
			t.Fatal(err)
		}
		for _, i := range page.Items {
			if len(i.ID) != 64 || i.Name == "" || i.Client != "Firefox on Linux" || len(i.Passed) != 1 || i.EndsAt.Sub(i.StartedAt) != 12*time.Hour {
				t.Errorf("%+v", i)
			}
			out = append(out, i.Principal+" by "+i.Passed[0].Authenticator)
		}
		if page.Next == "" {
			return out
		}
		more = "&cursor=" + page.Next
		if query == "" {
			more = "?cursor=" + page.Next
		}
	}
}

// People see and end their own sessions, under whichever of their IDs they have logged in, and operators all.
func TestSessionsAreTheirOwners(t *testing.T) {
	l := newLoggedIn(t)
	_, alice := l.login(t, "issuer:corp/alice")
	second, _ := l.login(t, "issuer:corp/alice")
	_, al := l.login(t, "issuer:partner/al")
	bobs, bob := l.login(t, "issuer:corp/bob")
	_, root := l.login(t, "issuer:corp/root", "root")
	for name, tc := range map[string]struct {
		cookie, query string
		want          int
	}{
		"alice": {alice, "", 3}, "alice by another login": {al, "", 3}, "alice, by name": {alice, "?principal=issuer:partner/al", 3}, "alice's at corp": {alice, "?authenticator=corp", 2}, "bob": {bob, "", 1},
		"an operator": {root, "", 5}, "an operator, page by page": {root, "?limit=2", 5}, "an operator, of bob": {root, "?principal=issuer:corp/bob", 1}, "an operator, of partner": {root, "?authenticator=partner", 1},
		"an operator, of all that is alice": {root, "?principal=issuer:corp/alice&limit=2", 3},
	} {
		if got := l.list(t, tc.cookie, tc.query); len(got) != tc.want {
			t.Errorf("%s: %q", name, got)
		}
	}
	want(t, l.as(alice, "GET", "/v1/auth/sessions?principal=issuer:corp/bob", ""), 403)
	for _, bad := range []string{"?cursor=12", "?limit=0", "?owner=x", "?principal=a&principal=b"} {
		want(t, l.as(alice, "GET", "/v1/auth/sessions"+bad, ""), 400)
	}
	want(t, l.send("GET", "/v1/auth/sessions", ""), 401)

	want(t, l.as(alice, "DELETE", "/v1/auth/sessions/"+bobs, ""), 404)
	for _, bad := range []string{bobs[:11], bobs + "0", "zzzzzzzzzzzz"} {
		want(t, l.as(alice, "DELETE", "/v1/auth/sessions/"+bad, ""), 400)
	}
	want(t, l.as(alice, "POST", "/v1/auth/sessions/end", `{"all":true}`, "Content-Type", "application/json"), 403)
	want(t, l.as(alice, "DELETE", "/v1/auth/sessions/"+second[:13], ""), 204)
	want(t, l.as(alice, "DELETE", "/v1/auth/sessions/"+second, ""), 404)
	want(t, l.as(root, "DELETE", "/v1/auth/sessions/"+strings.ToUpper(bobs[:12]), ""), 204)
	want(t, l.as(bob, "GET", "/v1/auth/sessions", ""), 401)
	if got := l.list(t, root, ""); len(got) != 3 {
		t.Errorf("left are %q", got)
	}
	for _, line := range []string{"object.session=" + second[:12], "object.principal=issuer:corp/bob"} {
		if !strings.Contains(l.logged.String(), line) {
			t.Errorf("the audit log lacks %s", line)
		}
	}
}

func TestOperatorsEndSessions(t *testing.T) {
	for body, ended := range map[string]int{
		`{"principal":"issuer:corp/alice"}`: 2, `{"principal":"issuer:partner/al"}`: 2, `{"principal":"issuer:corp/nobody"}`: 0, `{"authenticator":"partner"}`: 1, `{"all":true}`: 4,
	} {
		l := newLoggedIn(t)
		l.login(t, "issuer:corp/alice")
		l.login(t, "issuer:partner/al")
		l.login(t, "issuer:corp/bob")
		_, root := l.login(t, "issuer:corp/root", "root")
		if got := want(t, l.as(root, "POST", "/v1/auth/sessions/end", body, "Content-Type", "application/json"), 200); strings.TrimSpace(got) != fmt.Sprintf(`{"sessions_ended":%d}`, ended) {
			t.Errorf("%s: %s", body, got)
		}
		if want := ended == 4; (l.as(root, "GET", "/v1/auth/sessions", "").Code == 401) != want {
			t.Errorf("%s: the operator's own session", body)
		}
	}
	l := newLoggedIn(t)
	_, root := l.login(t, "issuer:corp/root", "root")
	for _, bad := range []string{`{}`, `{"all":true,"principal":"issuer:corp/alice"}`, `{"who":"x"}`, ``} {
		want(t, l.as(root, "POST", "/v1/auth/sessions/end", bad, "Content-Type", "application/json"), 400)
	}
	l.login(t, "issuer:corp/alice")
	l.login(t, "issuer:partner/al")
	if got := want(t, l.as(root, "POST", "/v1/auth/end-owner", `{"owner":"issuer:corp/alice"}`, "Content-Type", "application/json"), 200); !strings.Contains(got, `"sessions_ended":2`) {
		t.Errorf("the end of a principal: %s", got)
	}
	if got := l.list(t, root, ""); len(got) != 1 {
		t.Errorf("left are %q", got)
	}
}

// A session is a credential like any other, with what makes a browser's safe: it acts only for the hub's own pages.
func TestASessionIsACredential(t *testing.T) {
	l := newLoggedIn(t)
	_, root := l.login(t, "issuer:corp/root", "root")
	if got := want(t, l.as(root, "GET", "/v1/auth/whoami", ""), 200); !strings.Contains(got, `"method":"session"`) || !strings.Contains(got, `"principal":"issuer:corp/root"`) {
		t.Errorf("%s", got)
	}
	const rule = `{"may":["read"],"topics":["x"],"who":[{"role":"r"}]}`
	put := func(header ...string) int {
		return l.send("PUT", "/v1/auth/rules/x", rule, append([]string{"Cookie", session.CookieName + "=" + root, "Content-Type", "application/json"}, header...)...).Code
	}
	for name, tc := range map[string]struct {
		header []string
		want   int
	}{
		"a page of the hub":     {[]string{"Sec-Fetch-Site", "same-origin"}, 200},
		"another site":          {[]string{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}, 403},
		"a sibling host":        {[]string{"Sec-Fetch-Site", "same-site", "Origin", "https://app.example.net"}, 403},
		"an old browser":        {[]string{"Origin", "http://hub.example.net"}, 200},
		"an old browser, there": {[]string{"Origin", "https://evil.example"}, 403},
		"who does not say":      {nil, 401},
	} {
		if got := put(tc.header...); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
	// An event stream that a page elsewhere opens is nobody's: it reads what anybody may.
	elsewhere := []string{"Cookie", session.CookieName + "=" + root, "Accept", "text/event-stream", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "cors", "Origin", "https://evil.example"}
	want(t, l.send("GET", "/topics/orders/eu", "", elsewhere...), 401)
}

// A cookie is made anew within a minute of use, and no cache keeps the response that brings it.
func TestTheCookieIsMadeAnew(t *testing.T) {
	l := newLoggedIn(t)
	_, root := l.login(t, "issuer:corp/root", "root")
	want(t, l.as(root, "PUT", "/v1/auth/rules/x", `{"may":["read"],"topics":["orders/eu"],"who":[{"role":"root"}]}`, "Content-Type", "application/json"), 200)
	want(t, l.send("POST", "/topics/orders/eu", "m1", "X-API-Key", l.key(t, "writer", "orders.write")), 200)
	if w := l.as(root, "GET", "/topics/orders/eu", ""); w.Code != 200 || len(w.Result().Cookies()) != 0 || w.Header().Get("Cache-Control") != "no-cache" {
		t.Errorf("at once: %d %v", w.Code, w.Header())
	}
	l.clock.advance(time.Minute)
	w := l.as(root, "GET", "/topics/orders/eu", "")
	set := w.Result().Cookies()
	if len(set) != 1 || set[0].Name != session.CookieName || set[0].Value == root || !set[0].Secure || w.Header().Get("Cache-Control") != "no-store" {
		t.Fatalf("after a minute: %v", w.Header())
	}
	l.clock.advance(29*time.Minute + 30*time.Second)
	want(t, l.as(root, "GET", "/v1/topics", ""), 401)
	want(t, l.as(set[0].Value, "GET", "/v1/topics", ""), 200)
}

// A stream that a session has opened ends within a heartbeat of the session, which may have ended on another node.
func TestStreamsEndWithTheirSession(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, l *loggedIn, id string){
		"logout": func(t *testing.T, l *loggedIn, id string) {
			raw, _ := hex.DecodeString(id)
			if err := l.sessions.End(t.Context(), "issuer:corp/alice", [32]byte(raw)); err != nil {
				t.Fatal(err)
			}
		},
		"the end of the principal": func(t *testing.T, l *loggedIn, _ string) {
			want(t, l.send("POST", "/v1/auth/end-owner", `{"owner":"issuer:corp/alice"}`, "X-API-Key", l.root, "Content-Type", "application/json"), 200)
		},
		"its time": func(_ *testing.T, l *loggedIn, _ string) { l.clock.advance(13 * time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			guard, root, bind := guarding(t, identity)
			v := &vouched{running: start(t, func(p *hub.Policy, o *web.Options) {
				guard(p, o)
				o.StreamHeartbeat = 50 * time.Millisecond
			})}
			bind(v.running.Service)
			v.guarded = &guarded{fixture: v.running.fixture, root: root}
			l := &loggedIn{guarded: v.guarded}
			l.use(t, v.running.fixture)
			l.clock.advance(time.Since(l.clock.Now()))
			want(t, l.send("PUT", "/v1/auth/rules/staff", `{"may":["read"],"topics":["orders/eu"],"who":[{"role":"staff"}]}`, "X-API-Key", root), 200)
			want(t, l.send("POST", "/topics/orders/eu", "m1", "X-API-Key", l.key(t, "writer", "orders.write")), 200)
			id, cookie := l.login(t, "issuer:corp/alice", "staff")
			rd := v.follow(t, "/topics/orders/eu?start=earliest", "Cookie", session.CookieName+"="+cookie, "Sec-Fetch-Site", "same-origin")
			rd.next(t)
			end(t, l, id)
			all := rd.rest(t)
			if last := all[len(all)-1]; last.kind != "end" || last.data != `{"reason":"forbidden"}` {
				t.Errorf("the stream ended with %+v", last)
			}
		})
	}
}
