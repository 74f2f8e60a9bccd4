package forward_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"quorumhub/auth"
	"quorumhub/auth/sequence"
	"quorumhub/auth/session"
	"quorumhub/web/login"
	"quorumhub/web/login/forward"
)

// box seals with a key that only this process has.
type box struct{ cipher.AEAD }

func newBox(t *testing.T) box {
	t.Helper()
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return box{gcm}
}

func (b box) Seal(plain []byte, bound string) ([]byte, error) {
	nonce := make([]byte, b.NonceSize())
	_, _ = rand.Read(nonce)
	return b.AEAD.Seal(nonce, nonce, plain, []byte(bound)), nil
}

func (b box) Open(sealed []byte, bound string) ([]byte, error) {
	if len(sealed) < b.NonceSize() {
		return nil, errors.New("too short")
	}
	return b.AEAD.Open(nil, sealed[:b.NonceSize()], sealed[b.NonceSize():], []byte(bound))
}

// world is a hub with two applications, one session and a clock.
type world struct {
	t       *testing.T
	handler *login.Handler
	now     time.Time
	session *session.Session
	claimed map[[32]byte]bool
	trusted bool
	refused []error
	logins  int // first requests of people
}

func (*world) Open(context.Context, string) (*session.Session, string, error) {
	return nil, "", errors.New("none")
}

func (w *world) Find(_ context.Context, id [32]byte) (*session.Session, bool) {
	if w.session == nil || w.session.ID != id {
		return nil, false
	}
	return &session.Session{ID: id, Principal: &auth.Principal{ID: w.session.Principal.ID}, Passed: w.session.Passed, Ends: w.session.Ends}, true
}

func (w *world) Claim(_ context.Context, _ string, nonce [32]byte, _ time.Time) (bool, error) {
	fresh := !w.claimed[nonce]
	w.claimed[nonce] = true
	return fresh, nil
}

// Process takes people by the session that they have at the hub, requests to applications by that of the application, and programs by a
// token.
func (w *world) Process(_ context.Context, q *sequence.Request) *sequence.Result {
	out := &sequence.Result{Provider: q.Provider, Return: q.Return, Challenges: []string{`Bearer realm="apps"`}}
	if !q.Interactive && q.Credentials.HTTP.Header["Cookie"] != nil {
		w.t.Error("cookies of the application's host are taken for credentials at the hub")
	}
	switch {
	case q.Interactive && w.session != nil:
		w.logins++
		out.Status, out.Session, out.Principal = sequence.Authenticated, w.session, w.session.Principal
	case q.Interactive:
		out.Status, out.Err = sequence.Failed, &auth.RefusalError{Reason: "nobody"}
	case q.Session != nil:
		out.Status, out.Session, out.Principal = sequence.Authenticated, q.Session, q.Session.Principal
	case q.Credentials != nil && q.Credentials.HTTP.Header.Get("Authorization") == "Bearer good":
		out.Status, out.Principal = sequence.Authenticated, &auth.Principal{Method: auth.MethodToken, ID: "issuer:corp/robot"}
	case q.Credentials != nil && q.Credentials.HTTP.Header.Get("Authorization") != "":
		out.Status, out.Err = sequence.Failed, &auth.RefusalError{Method: auth.MethodToken, Reason: "bad"}
	default:
		out.Status = sequence.Initial
	}
	return out
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, now: time.Unix(1_800_000_000, 0), claimed: map[[32]byte]bool{}, trusted: true}
	w.session = &session.Session{ID: [32]byte{1}, Name: "Jürgen, \r\nX-Principal-Roles: root", Ends: w.now.Add(12 * time.Hour),
		Principal: &auth.Principal{Method: auth.MethodSession, ID: "issuer:corp/7", Subject: "7", User: "jürgen", Roles: []string{"staff", "a,b", "100%"}},
		Passed:    []session.Passed{{Authenticator: "corp", Method: []string{"pwd", "otp"}}}}
	p := forward.New(forward.Options{PublicURL: "https://hub.example.org", Processor: w, Sessions: w, Claims: w, Box: newBox(t),
		Idle: func() time.Duration { return 30 * time.Minute }, Now: func() time.Time { return w.now }, Challenges: func() []string { return []string{"Bearer"} },
		Providers: func() []auth.ServiceProvider {
			return []auth.ServiceProvider{{Name: "wiki", Hosts: []string{"wiki.example.org"}, Claims: map[string]string{"Remote-User": "user"}}, {Name: "shop", Hosts: []string{"shop.example.org", "127.0.0.1:8081"}}}
		}})
	var err error
	w.handler, err = login.New(login.Options{PublicURL: "https://hub.example.org", Processor: w, Sessions: w, Protocols: []login.Protocol{p}, Ready: func() bool { return true },
		Protocol: func(string) (string, bool) { return forward.Name, true }})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// send sends a request to one of the routes.
func (w *world) send(target string, header http.Header, cookies ...*http.Cookie) *http.Response {
	w.t.Helper()
	r := httptest.NewRequestWithContext(w.t.Context(), "GET", target, http.NoBody)
	for name, values := range header {
		r.Header[http.CanonicalHeaderKey(name)] = values
	}
	for _, c := range cookies {
		r.AddCookie(c)
	}
	rec := httptest.NewRecorder()
	peer := &login.Peer{Trusted: w.trusted, Client: "192.0.2.1", Credentials: &auth.Request{HTTP: r}, Audit: func(context.Context, *auth.Principal, string, ...string) {},
		Reserve: func() error { return nil }, Return: func() {},
		Refused: func(_ context.Context, err error) { w.refused = append(w.refused, err) }}
	for _, rt := range w.handler.Routes() {
		if rt.Path == r.URL.Path {
			w.handler.Serve(&rt, rec, r.WithContext(login.WithPeer(r.Context(), peer)))
			return rec.Result()
		}
	}
	w.t.Fatalf("no route %s", r.URL.Path)
	return nil
}

// asked is what a proxy sends about a browser's request.
func asked(method, target string, more ...string) http.Header {
	u, err := url.Parse(target)
	if err != nil {
		panic(err)
	}
	h := http.Header{"X-Forwarded-Method": {method}, "X-Forwarded-Proto": {u.Scheme}, "X-Forwarded-Host": {u.Host}, "X-Forwarded-Uri": {u.RequestURI()},
		"Accept": {"text/html"}, "Sec-Fetch-Mode": {"navigate"}}
	for i := 0; i+1 < len(more); i += 2 {
		h[more[i]] = []string{more[i+1]}
	}
	return h
}

// visit logs a browser in to an application, and returns its cookies there.
func (w *world) visit(target string) []*http.Cookie {
	w.t.Helper()
	first := w.send("/auth/forward", asked("GET", target))
	if first.StatusCode != http.StatusFound {
		w.t.Fatalf("a visitor without a session: got %d", first.StatusCode)
	}
	ticket := w.ticket(first)
	u, _ := url.Parse(target)
	r := w.send(ticket, http.Header{"X-Forwarded-Host": {u.Host}, "X-Forwarded-Proto": {u.Scheme}, "X-Forwarded-Method": {"GET"}, "X-Forwarded-Uri": {ticket}}, first.Cookies()...)
	if r.StatusCode != http.StatusSeeOther || r.Header.Get("Location") != u.RequestURI() {
		w.t.Fatalf("the ticket: got %d to %q: %s", r.StatusCode, r.Header.Get("Location"), text(r))
	}
	return append(first.Cookies(), r.Cookies()...)
}

// ticket follows a redirect to the hub, and returns the path with the ticket to which the hub sends the browser.
func (w *world) ticket(sent *http.Response) string {
	w.t.Helper()
	at := w.send(strings.TrimPrefix(sent.Header.Get("Location"), "https://hub.example.org"), http.Header{"Accept": {"text/html"}})
	to, err := url.Parse(at.Header.Get("Location"))
	if err != nil || at.StatusCode != http.StatusSeeOther || to.Path != "/.quorumhub/session" {
		w.t.Fatalf("the hub answers %d to %q: %s", at.StatusCode, at.Header.Get("Location"), text(at))
	}
	return to.RequestURI()
}

func text(r *http.Response) string {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// TestForwardAuth: a browser without a session at an application is sent to log in and comes back with one; the proxy is told who it is,
// in headers that no name can break; and it ends with the hub's session.
func TestForwardAuth(t *testing.T) {
	w := newWorld(t)
	cookies := w.visit("https://wiki.example.org/page?x=1&y=%2F")
	for _, c := range cookies {
		if !strings.HasPrefix(c.Name, "__Host-") || !c.Secure || !c.HttpOnly || c.Path != "/" || c.Domain != "" || c.SameSite != http.SameSiteLaxMode {
			t.Errorf("cookie %+v", c)
		}
	}
	r := w.send("/auth/forward", asked("POST", "https://wiki.example.org/save", "X-Principal-Id", "issuer:corp/root"), cookies...)
	want := map[string]string{"X-Principal-Id": "issuer:corp/7", "X-Principal-Name": "J%C3%BCrgen, %0D%0AX-Principal-Roles: root", "X-Principal-Roles": "staff,a%2Cb,100%25",
		"X-Principal-Method": "session", "X-Principal-User": "j%C3%BCrgen", "Remote-User": "j%C3%BCrgen"}
	for name, value := range want {
		if got := r.Header[name]; r.StatusCode != http.StatusOK || len(got) != 1 || got[0] != value {
			t.Errorf("%d, %s: got %q, want %q", r.StatusCode, name, got, value)
		}
	}
	end := w.session.Ends
	w.session.Ends = w.now
	if r := w.send("/auth/forward", asked("GET", "https://wiki.example.org/"), cookies...); r.StatusCode != http.StatusFound {
		t.Errorf("at the session's absolute end: got %d", r.StatusCode)
	}
	w.session.Ends, w.session.Principal.ID = end, "issuer:corp/8"
	if r := w.send("/auth/forward", asked("GET", "https://wiki.example.org/"), cookies...); r.StatusCode != http.StatusFound {
		t.Errorf("the cookie names another principal than the session: got %d", r.StatusCode)
	}
	w.session = nil
	if r := w.send("/auth/forward", asked("GET", "https://wiki.example.org/"), cookies...); r.StatusCode != http.StatusFound {
		t.Errorf("after the session has ended: got %d", r.StatusCode)
	}
	if r := w.send("/auth/forward", asked("POST", "https://wiki.example.org/"), cookies...); r.StatusCode != http.StatusUnauthorized || r.Header.Get("Location") != "" {
		t.Errorf("a form after the session has ended: got %d", r.StatusCode)
	}
}

// TestForwardAuthIdle: an application alone keeps a session from idling away, by a visit at the hub from time to time; without any use
// the session is over there.
func TestForwardAuthIdle(t *testing.T) {
	w := newWorld(t)
	cookies := w.visit("https://wiki.example.org/")
	get := func() int {
		return w.send("/auth/forward", asked("GET", "https://wiki.example.org/"), cookies...).StatusCode
	}
	w.now = w.now.Add(9 * time.Minute)
	if got := get(); got != http.StatusOK {
		t.Errorf("after 9 minutes: got %d", got)
	}
	w.now = w.now.Add(2 * time.Minute)
	if got := get(); got != http.StatusFound {
		t.Errorf("after 11 minutes a page: got %d, want a visit at the hub", got)
	}
	if r := w.send("/auth/forward", asked("POST", "https://wiki.example.org/"), cookies...); r.StatusCode != http.StatusOK {
		t.Errorf("after 11 minutes a form: got %d", r.StatusCode)
	}
	w.now = w.now.Add(20 * time.Minute)
	if r := w.send("/auth/forward", asked("POST", "https://wiki.example.org/"), cookies...); r.StatusCode != http.StatusUnauthorized {
		t.Errorf("after 31 idle minutes: got %d", r.StatusCode)
	}
}

// TestForwardAuthAsks: programs, nginx and strangers each get what they can use.
func TestForwardAuthAsks(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		name, path string
		header     http.Header
		status     int
		location   bool
	}{
		{"a browser", "/auth/forward", asked("GET", "https://wiki.example.org/"), 302, true},
		{"a browser behind nginx", "/auth/forward?nginx=1", asked("GET", "https://wiki.example.org/"), 401, true},
		{"a script of a page", "/auth/forward", asked("GET", "https://wiki.example.org/", "Sec-Fetch-Mode", "cors"), 401, false},
		{"a program", "/auth/forward", asked("GET", "https://wiki.example.org/", "Accept", "*/*"), 401, false},
		{"a program with a token", "/auth/forward", asked("GET", "https://wiki.example.org/", "Authorization", "Bearer good"), 200, false},
		{"a program with a bad token", "/auth/forward", asked("GET", "https://wiki.example.org/", "Authorization", "Bearer bad"), 401, false},
		{"this machine", "/auth/forward", asked("GET", "http://127.0.0.1:8081/"), 302, true},
	} {
		r := w.send(c.path, c.header)
		if r.StatusCode != c.status || (r.Header.Get("Location") != "") != c.location {
			t.Errorf("%s: got %d, Location %q", c.name, r.StatusCode, r.Header.Get("Location"))
		}
		if r.StatusCode == 401 && !c.location && r.Header.Get("Www-Authenticate") == "" {
			t.Errorf("%s: no challenge", c.name)
		}
		if r.StatusCode != 200 && r.Header.Get("X-Principal-Id") != "" {
			t.Errorf("%s: somebody is named", c.name)
		}
	}
}

// TestForwardAuthHeaders: what a proxy would not send is refused, and an untrusted peer may not ask at all.
func TestForwardAuthHeaders(t *testing.T) {
	w := newWorld(t)
	cookies := w.visit("https://wiki.example.org/")
	twice := asked("GET", "https://wiki.example.org/")
	twice.Add("X-Forwarded-Host", "shop.example.org")
	for name, h := range map[string]http.Header{
		"two hosts":           twice,
		"a list of hosts":     asked("GET", "https://wiki.example.org/", "X-Forwarded-Host", "wiki.example.org, shop.example.org"),
		"no host":             asked("GET", "https://wiki.example.org/", "X-Forwarded-Host", ""),
		"a host with a user":  asked("GET", "https://wiki.example.org/", "X-Forwarded-Host", "wiki.example.org@evil.example"),
		"a host with a path":  asked("GET", "https://wiki.example.org/", "X-Forwarded-Host", "wiki.example.org/x"),
		"another host":        asked("GET", "https://wiki.example.org/", "X-Forwarded-Host", "evil.example"),
		"plain HTTP":          asked("GET", "http://wiki.example.org/"),
		"another scheme":      asked("GET", "https://wiki.example.org/", "X-Forwarded-Proto", "javascript"),
		"no path":             asked("GET", "https://wiki.example.org/", "X-Forwarded-Uri", ".evil.example/"),
		"a port of another":   asked("GET", "https://wiki.example.org/", "X-Forwarded-Uri", ":81@evil.example/"),
		"a control character": asked("GET", "https://wiki.example.org/", "X-Forwarded-Uri", "/\t/evil.example"),
		"a suffix":            asked("GET", "https://evil-wiki.example.org/"),
	} {
		if r := w.send("/auth/forward", h, cookies...); r.StatusCode != http.StatusBadRequest && r.StatusCode != http.StatusForbidden || r.Header.Get("Location") != "" {
			t.Errorf("%s: got %d to %q", name, r.StatusCode, r.Header.Get("Location"))
		}
	}
	w.trusted = false
	if r := w.send("/auth/forward", asked("GET", "https://wiki.example.org/"), cookies...); r.StatusCode != http.StatusForbidden || r.Header.Get("X-Principal-Id") != "" {
		t.Errorf("an untrusted peer: got %d, %v", r.StatusCode, r.Header)
	}
}

// TestForwardAuthLogin: the hub sends nobody with a ticket to a host that is no application's.
func TestForwardAuthLogin(t *testing.T) {
	w := newWorld(t)
	bind := "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	if r := w.send("/auth/login?"+url.Values{"to": {"https://wiki.example.org/x"}, "bind": {bind}}.Encode(), http.Header{"Accept": {"text/html"}}); r.StatusCode != http.StatusSeeOther {
		t.Fatalf("the application: got %d: %s", r.StatusCode, text(r))
	}
	for _, to := range []string{"https://evil.example/", "http://wiki.example.org/", "//wiki.example.org/", "https://wiki.example.org@evil.example/", `https://evil.example\@wiki.example.org/`,
		"https://wiki.example.org.evil.example/", "javascript://wiki.example.org/%0aalert(1)", "https://wiki.example.org", "https://wiki.example.org/#x", "https://wiki.example.org:444/", "https://ann@wiki.example.org/", "https://ann:pw@wiki.example.org/",
		"https://wiki.example.org/\r\nX: y", "", "https://wiki.example.org/" + strings.Repeat("a", 2000)} {
		logins := w.logins
		r := w.send("/auth/login?"+url.Values{"to": {to}, "bind": {bind}}.Encode(), http.Header{"Accept": {"text/html"}})
		if r.StatusCode != http.StatusBadRequest || r.Header.Get("Location") != "" || w.logins != logins {
			t.Errorf("%q: got %d to %q", to, r.StatusCode, r.Header.Get("Location"))
		}
	}
	for _, q := range []string{"to=https://wiki.example.org/", "to=https://wiki.example.org/&bind=x", "bind=" + bind, "to=https://wiki.example.org/&to=https://evil.example/&bind=" + bind} {
		if r := w.send("/auth/login?"+q, http.Header{"Accept": {"text/html"}}); r.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: got %d", q, r.StatusCode)
		}
	}
}

// TestForwardAuthTickets: a ticket is for one use, one host, one browser and one minute, and its cookie is for one host.
func TestForwardAuthTickets(t *testing.T) {
	w := newWorld(t)
	first := w.send("/auth/forward", asked("GET", "https://wiki.example.org/"))
	mine := first.Cookies()
	other := w.send("/auth/forward", asked("GET", "https://wiki.example.org/")).Cookies()
	at := func(host, ticket string, cookies ...*http.Cookie) *http.Response {
		return w.send(ticket, http.Header{"X-Forwarded-Host": {host}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Method": {"GET"}, "X-Forwarded-Uri": {ticket}, "Accept": {"text/html"}}, cookies...)
	}
	refused := func(name string, r *http.Response) {
		t.Helper()
		if body := text(r); r.StatusCode != http.StatusBadRequest || len(r.Cookies()) != 0 || !strings.Contains(body, "Start again") {
			t.Errorf("%s: got %d, %v: %s", name, r.StatusCode, r.Cookies(), body)
		}
	}
	ticket := w.ticket(first)
	refused("another browser", at("wiki.example.org", ticket, other...))
	refused("no browser", at("wiki.example.org", ticket))
	refused("another host", at("shop.example.org", ticket, mine...))
	refused("a changed ticket", at("wiki.example.org", ticket[:len(ticket)-4]+"AAAA", mine...))
	refused("no ticket", at("wiki.example.org", "/.quorumhub/session", mine...))
	refused("two tickets", at("wiki.example.org", ticket+"&ticket=x", mine...))
	r := at("wiki.example.org", ticket, mine...)
	if r.StatusCode != http.StatusSeeOther {
		t.Fatalf("the ticket: got %d: %s", r.StatusCode, text(r))
	}
	visitor := r.Cookies()
	refused("a second use", at("wiki.example.org", ticket, mine...))
	if r := w.send("/auth/forward", asked("GET", "https://shop.example.org/"), visitor...); r.StatusCode != http.StatusFound {
		t.Errorf("the cookie at another application: got %d", r.StatusCode)
	}
	ticket = w.ticket(first)
	w.now = w.now.Add(61 * time.Second)
	refused("after a minute", at("wiki.example.org", ticket, mine...))
	ticket = w.ticket(first)
	w.session = nil
	refused("after the session", at("wiki.example.org", ticket, mine...))
	if len(w.refused) != 9 {
		t.Errorf("the log has %d reasons, want 9: %v", len(w.refused), w.refused)
	}
}

// TestForwardAuthLargePrincipal: somebody with more roles than a cookie holds gets in without them, and not at all if even the ID is too
// long.
func TestForwardAuthLargePrincipal(t *testing.T) {
	w := newWorld(t)
	for i := range 500 {
		w.session.Principal.Roles = append(w.session.Principal.Roles, fmt.Sprintf("role-number-%d", i))
	}
	cookies := w.visit("https://wiki.example.org/")
	for _, c := range cookies {
		if len(c.Name)+len(c.Value) > 4096 {
			t.Errorf("cookie %s has %d bytes", c.Name, len(c.Value))
		}
	}
	if r := w.send("/auth/forward", asked("GET", "https://wiki.example.org/"), cookies...); r.StatusCode != http.StatusOK || r.Header.Get("X-Principal-Id") != "issuer:corp/7" || r.Header.Get("X-Principal-Roles") != "" {
		t.Errorf("got %d: %v", r.StatusCode, r.Header)
	}
}

// TestForwardAuthTakesTicketsWhereItIsAsked: a proxy that asks about the path of tickets, too, needs no rule for it.
func TestForwardAuthTakesTicketsWhereItIsAsked(t *testing.T) {
	w := newWorld(t)
	first := w.send("/auth/forward", asked("GET", "https://wiki.example.org/a?b=c"))
	ticket := w.ticket(first)
	r := w.send("/auth/forward", asked("GET", "https://wiki.example.org"+ticket), first.Cookies()...)
	if r.StatusCode != http.StatusSeeOther || r.Header.Get("Location") != "/a?b=c" || len(r.Cookies()) != 1 {
		t.Fatalf("got %d to %q: %s", r.StatusCode, r.Header.Get("Location"), text(r))
	}
	if r := w.send("/auth/forward", asked("GET", "https://wiki.example.org/a"), r.Cookies()...); r.StatusCode != http.StatusOK {
		t.Errorf("with its cookie: got %d", r.StatusCode)
	}
	if r := w.send("/auth/forward", asked("GET", "https://wiki.example.org"+ticket), first.Cookies()...); r.StatusCode != http.StatusBadRequest {
		t.Errorf("a second use: got %d", r.StatusCode)
	}
}

// FuzzForwardAuth: whatever a proxy passes on, nobody is named without a session, and nobody is sent anywhere but to the hub.
func FuzzForwardAuth(f *testing.F) {
	f.Add("GET", "https", "wiki.example.org", "/page?x=1", "text/html")
	f.Add("GET", "https", "wiki.example.org@evil.example", "/", "text/html")
	f.Add("GET", "https", "wiki.example.org", "//evil.example/%2e%2e/\\x", "text/html")
	f.Add("POST", "http", "127.0.0.1:8081", "/.quorumhub/session?ticket=AAAA", "*/*")
	f.Fuzz(func(t *testing.T, method, proto, host, uri, accept string) {
		w := newWorld(t)
		r := w.send("/auth/forward", http.Header{"X-Forwarded-Method": {method}, "X-Forwarded-Proto": {proto}, "X-Forwarded-Host": {host}, "X-Forwarded-Uri": {uri}, "Accept": {accept}})
		if r.StatusCode == http.StatusOK || r.Header.Get("X-Principal-Id") != "" {
			t.Fatalf("got %d, %v", r.StatusCode, r.Header)
		}
		at := r.Header.Get("Location")
		if at == "" {
			return
		}
		u, err := url.Parse(at)
		if err != nil || u.Scheme != "https" || u.Host != "hub.example.org" || u.Path != "/auth/login" {
			t.Fatalf("sent to %q", at)
		}
		to, err := url.Parse(u.Query().Get("to"))
		if err != nil || to.Host != host && !strings.EqualFold(to.Host, host) || to.User != nil {
			t.Fatalf("comes back to %q, from %q", u.Query().Get("to"), host)
		}
	})
}
