package pages_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"quorumhub/auth"
	"quorumhub/auth/keyring"
	"quorumhub/auth/sequence"
	"quorumhub/auth/session"
	"quorumhub/web/login"
	"quorumhub/web/login/pages"
)

// world is a hub with two service providers of pages, and a browser that has a session or not.
type world struct {
	t       *testing.T
	handler *login.Handler
	session *session.Session // of the browser; nil: none
	others  []session.Login
	ended   []string // "principal id"
	asked   []*sequence.Request
	result  *sequence.Result
	refused []error
	audited []string
	tokens  []string // of back-channel logouts
	fails   error
	out     string // the identity provider's URL to log out at
	back    string // where it sends people back to, and the state
	state   string
	box     *keyring.Ring
}

const evil = `"><script>alert(1)</script>` + "\u202e"

func (w *world) Process(_ context.Context, q *sequence.Request) *sequence.Result {
	w.asked = append(w.asked, q)
	out := *w.result
	out.Provider, out.Return = q.Provider, q.Return
	return &out
}

func (w *world) Open(context.Context, string) (*session.Session, string, error) {
	if w.session == nil {
		return nil, "", session.ErrEnded
	}
	return w.session, "", nil
}

func (w *world) Of(context.Context, string) ([]session.Login, error) { return w.others, w.fails }

func (w *world) End(_ context.Context, principal string, id [32]byte) error {
	w.ended = append(w.ended, principal+" "+hex.EncodeToString(id[:2]))
	return w.fails
}

func (w *world) endSession(_ context.Context, _ *session.Session, returnTo, state string) string {
	w.back, w.state = returnTo, state
	return w.out
}

func newWorld(t *testing.T) *world {
	t.Helper()
	box, err := keyring.New(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, box: box, result: &sequence.Result{Status: sequence.Authenticated, Principal: &auth.Principal{ID: "issuer:corp/7"}}}
	p, err := pages.New(pages.Options{PublicURL: "https://example.org/hub", Providers: func() []auth.ServiceProvider { return []auth.ServiceProvider{{Name: "console"}, {Name: "payroll"}} },
		Extra: func(name string) bool { return name == "gateway:staff" }, Sessions: w, Challenges: func() []string { return []string{`Bearer realm="x"`, `GEO-Auth`} },
		Logout: &login.Logout{PublicURL: "https://example.org/hub", Sessions: w, Box: w.box, Now: time.Now, EndSession: w.endSession},
		BackChannel: func(_ context.Context, provider, token string) error {
			w.tokens = append(w.tokens, provider+" "+token)
			return w.fails
		}})
	if err != nil {
		t.Fatal(err)
	}
	w.handler, err = login.New(login.Options{PublicURL: "https://example.org/hub", Processor: w, Sessions: w, Protocols: []login.Protocol{p}, Ready: func() bool { return true },
		Protocol: func(string) (string, bool) { return pages.Name, true }})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) logIn() {
	at := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	w.session = &session.Session{ID: [32]byte{1}, Name: evil, Principal: &auth.Principal{Method: auth.MethodSession, ID: "issuer:corp/7", Roles: []string{evil, "staff"}},
		Passed: []session.Passed{{Authenticator: evil, Method: []string{"pwd", "otp"}, At: at}}, Started: at, Seen: at, Ends: at.Add(time.Hour)}
	w.others = []session.Login{{ID: [32]byte{1}, Client: "this one"}, {ID: [32]byte{2}, Client: evil, Started: at, Ends: at}}
}

func (w *world) send(method, target string, form url.Values, header ...string) (*http.Response, string) {
	w.t.Helper()
	r := httptest.NewRequestWithContext(w.t.Context(), method, target, strings.NewReader(form.Encode()))
	r.Header.Set("Accept", "text/html")
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.AddCookie(&http.Cookie{Name: session.CookieName, Value: "x"})
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	rec := httptest.NewRecorder()
	peer := &login.Peer{Client: "192.0.2.1", CorrelationID: "c0ffee", Reserve: func() error { return nil }, Return: func() {},
		Refused: func(_ context.Context, err error) { w.refused = append(w.refused, err) },
		Audit: func(_ context.Context, p *auth.Principal, action string, notes ...string) {
			w.audited = append(w.audited, fmt.Sprint(p.ID, " ", action, " ", notes))
		}}
	for _, rt := range w.handler.Routes() {
		prefix, below := strings.CutSuffix(rt.Path, "*")
		if (rt.Path == r.URL.Path || below && strings.HasPrefix(r.URL.Path, prefix)) && slices.Contains(rt.Methods, method) {
			w.handler.Serve(&rt, rec, r.WithContext(login.WithPeer(r.Context(), peer)))
			resp := rec.Result()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				w.t.Fatal(err)
			}
			return resp, string(body)
		}
	}
	w.t.Fatalf("no route %s %s", method, r.URL.Path)
	return nil, ""
}

// TestLoginGoesOnHere: after logging in somebody is sent to a path of this hub, whatever the query says.
func TestLoginGoesOnHere(t *testing.T) {
	w := newWorld(t)
	for target, want := range map[string]string{"/login": "/hub/login/me", "/login?return=/hub/api/x%3Fa%3D1": "/hub/api/x?a=1", "/login?sp=payroll&idp=corp&return=/": "/"} {
		if r, body := w.send("GET", target, nil); r.StatusCode != http.StatusSeeOther || r.Header.Get("Location") != want {
			t.Errorf("%s: got %d to %q: %s", target, r.StatusCode, r.Header.Get("Location"), body)
		}
	}
	if q := w.asked[len(w.asked)-1]; len(w.asked) != 3 || !q.Interactive || q.Client != "192.0.2.1" {
		t.Errorf("asked %+v", w.asked)
	}
	for _, target := range []string{"/login?return=https://evil.example", "/login?return=//evil.example", "/login?return=%2F%5Cevil.example", "/login?return=/&return=//evil.example",
		"/login?sp=nobody", "/login?sp=gateway:others", "/login?return="} {
		asked := len(w.asked)
		if r, _ := w.send("GET", target, nil); r.StatusCode != http.StatusBadRequest || r.Header.Get("Location") != "" || len(w.asked) != asked {
			t.Errorf("%s: got %d to %q", target, r.StatusCode, r.Header.Get("Location"))
		}
	}
	if r, _ := w.send("GET", "/login?sp=gateway:staff&return=/hub/x", nil); r.StatusCode != http.StatusSeeOther {
		t.Errorf("a route of the gateway: got %d", r.StatusCode)
	}
	w.result = &sequence.Result{Status: sequence.Initial, Challenges: []string{"Bearer"}}
	for _, accept := range []string{"text/html", "application/json"} {
		if r, body := w.send("GET", "/login", nil, "Accept", accept); r.StatusCode != http.StatusUnauthorized || r.Header.Get("Www-Authenticate") != "Bearer" {
			t.Errorf("where nobody can act, %s: got %d to %q: %s", accept, r.StatusCode, r.Header.Get("Location"), body)
		}
		if q := w.asked[len(w.asked)-1]; q.Interactive != (accept == "text/html") {
			t.Errorf("%s: asked %+v", accept, q)
		}
	}
	w.result = &sequence.Result{Status: sequence.Failed, Err: &auth.RefusalError{Reason: "no"}}
	if r, body := w.send("GET", "/login?sp=payroll&return=/hub/x", nil); r.StatusCode != http.StatusForbidden || !strings.Contains(body, `href="/hub/login?return=%2Fhub%2Fx&amp;sp=payroll"`) {
		t.Errorf("refused: got %d: %s", r.StatusCode, body)
	}
}

// TestMe: a page shows who somebody is and how, without a script of anybody's; strangers are sent to log in, and programs get challenges.
func TestMe(t *testing.T) {
	w := newWorld(t)
	if r, _ := w.send("GET", "/login/me", nil); r.StatusCode != http.StatusSeeOther || r.Header.Get("Location") != "/hub/login?return=%2Fhub%2Flogin%2Fme" {
		t.Errorf("a stranger: got %d to %q", r.StatusCode, r.Header.Get("Location"))
	}
	for name, header := range map[string][]string{"a program": {"Accept", "application/json"}, "a script": {"Sec-Fetch-Mode", "cors"}} {
		if r, _ := w.send("GET", "/login/me", nil, header...); r.StatusCode != http.StatusUnauthorized || len(r.Header.Values("Www-Authenticate")) != 2 {
			t.Errorf("%s: got %d, %v", name, r.StatusCode, r.Header)
		}
	}
	w.logIn()
	r, body := w.send("GET", "/login/me", nil)
	for _, want := range []string{"issuer:corp/7", "staff", "(pwd, otp)", "30 November 2026, 12:00:00 UTC", `action="/hub/login/logout"`, "Another session of yours", `value="0200`} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q: %s", want, body)
		}
	}
	if r.StatusCode != 200 || strings.Contains(body, "<script") || strings.Contains(body, "this one") || strings.Contains(body, `value="0100`) {
		t.Errorf("got %d: %s", r.StatusCode, body)
	}
	if _, body := w.send("GET", "/login/me", nil, "Accept", "application/json"); !strings.Contains(body, `"principal":"issuer:corp/7"`) || !strings.Contains(body, `"method":["pwd","otp"]`) || !strings.Contains(body, `"ends_at":"2026-11-30T13:00:00Z"`) {
		t.Errorf("JSON: got %s", body)
	}
	w.fails = errors.New("the log is gone")
	if r, body := w.send("GET", "/login/me", nil); r.StatusCode != 200 || !strings.Contains(body, "cannot be listed") {
		t.Errorf("without a list: got %d: %s", r.StatusCode, body)
	}
}

// TestLogout: a logout ends the session on all nodes before the cookie goes, and goes on to the identity provider if that is configured.
// A GET only asks.
func TestLogout(t *testing.T) {
	w := newWorld(t)
	w.logIn()
	if r, body := w.send("GET", "/login/logout", nil); r.StatusCode != 200 || !strings.Contains(body, `action="/hub/login/logout"`) || len(w.ended) != 0 || len(r.Cookies()) != 0 {
		t.Errorf("GET: got %d, ended %v: %s", r.StatusCode, w.ended, body)
	}
	r, _ := w.send("POST", "/login/logout", nil)
	if c := r.Cookies(); r.Header.Get("Location") != "/hub/login/bye" || len(c) != 1 || c[0].Name != session.CookieName || c[0].MaxAge >= 0 || !slices.Equal(w.ended, []string{"issuer:corp/7 0100"}) {
		t.Errorf("POST: got %d to %q, %v, ended %v", r.StatusCode, r.Header.Get("Location"), c, w.ended)
	}
	if !slices.Equal(w.audited, []string{"issuer:corp/7 logout [session 010000000000]"}) {
		t.Errorf("audited %v", w.audited)
	}
	w.out = "https://idp.example.org/logout?x=1"
	if r, _ := w.send("POST", "/login/logout", nil); r.Header.Get("Location") != w.out {
		t.Errorf("with an identity provider: got %q", r.Header.Get("Location"))
	}
	if w.back != "https://example.org/hub/login/bye" || w.state != "" {
		t.Errorf("it sends people back to %q with %q", w.back, w.state)
	}
	w.fails = errors.New("SECRET: no leader")
	if r, body := w.send("POST", "/login/logout", nil); r.StatusCode != http.StatusInternalServerError || len(r.Cookies()) != 0 || strings.Contains(body, "SECRET") {
		t.Errorf("a logout that the log did not take: got %d, %v: %s", r.StatusCode, r.Cookies(), body)
	}
	w.fails, w.session = nil, nil
	if r, _ := w.send("POST", "/login/logout", nil); r.Header.Get("Location") != "/hub/login/bye" {
		t.Errorf("a stranger: got %q", r.Header.Get("Location"))
	}
	if _, body := w.send("GET", "/login/bye", nil); !strings.Contains(body, "logged out") {
		t.Errorf("bye: %s", body)
	}
}

// TestEndOwnSession: somebody ends another session of theirs; whose it is decides the log.
func TestEndOwnSession(t *testing.T) {
	w := newWorld(t)
	id := url.Values{"session": {"02" + strings.Repeat("00", 31)}}
	if r, _ := w.send("POST", "/login/end", id); r.StatusCode != http.StatusUnauthorized || len(w.ended) != 0 {
		t.Errorf("a stranger: got %d, ended %v", r.StatusCode, w.ended)
	}
	w.logIn()
	if r, _ := w.send("POST", "/login/end", id); r.StatusCode != http.StatusSeeOther || !slices.Equal(w.ended, []string{"issuer:corp/7 0200"}) {
		t.Errorf("got %d, ended %v", r.StatusCode, w.ended)
	}
	for _, bad := range []string{"", "02", "zz", strings.Repeat("00", 33), evil} {
		if r, body := w.send("POST", "/login/end", url.Values{"session": {bad}}); r.StatusCode != http.StatusBadRequest || len(w.ended) != 1 || strings.Contains(body, "<script") {
			t.Errorf("%q: got %d: %s", bad, r.StatusCode, body)
		}
	}
}

// TestBackChannel: an identity provider's logout token is passed on, and answers are as its specification has them.
func TestBackChannel(t *testing.T) {
	w := newWorld(t)
	token := url.Values{"logout_token": {"jwt"}}
	if r, _ := w.send("POST", "/login/backchannel/corp", token); r.StatusCode != 200 || r.Header.Get("Cache-Control") != "no-store" || !slices.Equal(w.tokens, []string{"corp jwt"}) {
		t.Errorf("got %d, %v", r.StatusCode, w.tokens)
	}
	for _, bad := range []url.Values{nil, {"logout_token": {"a", "b"}}} {
		if r, _ := w.send("POST", "/login/backchannel/corp", bad); r.StatusCode != http.StatusBadRequest || len(w.tokens) != 1 {
			t.Errorf("%v: got %d", bad, r.StatusCode)
		}
	}
	w.fails = &auth.RefusalError{Reason: "SECRET"}
	if r, body := w.send("POST", "/login/backchannel/corp", token); r.StatusCode != http.StatusBadRequest || strings.Contains(body, "SECRET") || len(w.refused) != 1 {
		t.Errorf("a forged token: got %d: %s", r.StatusCode, body)
	}
	w.fails = fmt.Errorf("%w: SECRET", auth.ErrUnavailable)
	if r, body := w.send("POST", "/login/backchannel/corp", token); r.StatusCode != http.StatusServiceUnavailable || strings.Contains(body, "SECRET") {
		t.Errorf("no leader: got %d: %s", r.StatusCode, body)
	}
	w.fails = errors.New("SECRET")
	if r, body := w.send("POST", "/login/backchannel/corp", token); r.StatusCode != http.StatusInternalServerError || strings.Contains(body, "SECRET") {
		t.Errorf("an internal error: got %d: %s", r.StatusCode, body)
	}
}
