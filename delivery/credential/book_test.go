package credential_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"quorumhub/delivery/credential"
	"quorumhub/delivery/egress"
	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/test/fake"
)

type clock struct{ offset atomic.Int64 }

func (c *clock) Now() time.Time { return time.Now().Add(time.Duration(c.offset.Load())) }

type rig struct {
	*fake.Engine
	t     *testing.T
	book  *credential.Book
	clock *clock
}

func newRig(t *testing.T, client http.RoundTripper) *rig {
	r := &rig{Engine: fake.NewEngine(t), t: t, clock: &clock{}}
	r.book = credential.NewBook(credential.Options{State: r.Engine, Secrets: fake.Box{}, Client: client, Clock: r.clock, UserAgent: "quorumhub/test"})
	r.Observe(r.book)
	return r
}

func sealed(t *testing.T, c hub.Credentials, bound string) []byte {
	t.Helper()
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	text, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	out, err := fake.Box{}.Seal(text, bound)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (r *rig) set(pattern string, c hub.Credentials) {
	r.t.Helper()
	r.Do(&hubpb.Event{Kind: &hubpb.Event_CallbackCredentialsSet{CallbackCredentialsSet: &hubpb.CallbackCredentialsSet{
		Callback: pattern, Sealed: sealed(r.t, c, hub.CallbackBinding(pattern))}}})
}

func (r *rig) remove(pattern string) {
	r.Do(&hubpb.Event{Kind: &hubpb.Event_CallbackCredentialsSet{CallbackCredentialsSet: &hubpb.CallbackCredentialsSet{Callback: pattern}}})
}

func fields(t *testing.T, p *credential.Page) string {
	t.Helper()
	out, err := p.Append(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var text []string
	for _, f := range out {
		text = append(text, f.Name+": "+f.Value)
	}
	return strings.Join(text, ", ")
}

// What an operator sets goes before what the subscriber asked for, and a change applies to the next request.
func TestPage(t *testing.T) {
	r := newRig(t, nil)
	const cb = "https://a.example.org/cb"
	bound := hub.HeadersBinding("news", cb)
	own := string(sealed(t, hub.Credentials{Headers: map[string]string{"X-A": "1", "X-B": "2", "Authorization": "Own x"}}, bound))
	plain, with := r.book.For(cb, "", ""), r.book.For(cb, own, bound)
	other := r.book.For("https://a.example.org.evil/cb", "", "")
	step := func(wantPlain, wantWith string) {
		t.Helper()
		if got := fields(t, &plain); got != wantPlain {
			t.Errorf("without headers of its own: %q, want %q", got, wantPlain)
		}
		if got := fields(t, &with); got != wantWith {
			t.Errorf("with headers of its own: %q, want %q", got, wantWith)
		}
		if got := fields(t, &other); got != "" {
			t.Errorf("another host gets %q", got)
		}
	}
	step("", "Authorization: Own x, X-A: 1, X-B: 2")
	r.set("*.example.org", hub.Credentials{Headers: map[string]string{"X-B": "two"}, Basic: &hub.BasicCredentials{User: "u", Password: "p:w"}})
	step("Authorization: Basic dTpwOnc=, X-B: two", "Authorization: Basic dTpwOnc=, X-A: 1, X-B: two")
	r.set("a.example.org", hub.Credentials{Bearer: "tok"})
	step("Authorization: Bearer tok", "Authorization: Bearer tok, X-A: 1, X-B: 2")
	r.remove("a.example.org")
	r.remove("*.example.org")
	step("", "Authorization: Own x, X-A: 1, X-B: 2")

	var none *credential.Book
	empty := none.For(cb, own, bound)
	if got := fields(t, &empty); got != "" {
		t.Errorf("without a book: %q", got)
	}
	empty.Refused()
}

// Nothing goes out without what belongs to it.
func TestPageThatCannotBeOpened(t *testing.T) {
	r := newRig(t, nil)
	moved := string(sealed(t, hub.Credentials{Headers: map[string]string{"X-A": "s3cret"}}, hub.HeadersBinding("news", "https://a.example/")))
	bad, err := fake.Box{}.Seal([]byte(`{"s3cret`), "b")
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]credential.Page{"sealed for another callback": r.book.For("https://b.example/", moved, hub.HeadersBinding("news", "https://b.example/")),
		"damaged": r.book.For("https://b.example/", string(bad), "b")} {
		var e *credential.Error
		if _, err := p.Append(t.Context(), nil); !errors.As(err, &e) || e.Reason != egress.ReasonSecret || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNothingSetCostsNothing(t *testing.T) {
	r := newRig(t, nil)
	room := make([]egress.Field, 0, 8)
	p := r.book.For("https://a.example/", "", "")
	if n := testing.AllocsPerRun(100, func() {
		p = r.book.For("https://a.example/", "", "")
		if out, err := p.Append(t.Context(), room); err != nil || len(out) > 0 {
			t.Fatal(out, err)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// idp is a token service.
type idp struct {
	*httptest.Server
	mu     sync.Mutex
	asked  []string
	answer func(n int) (status int, body string)
	gate   chan struct{}
}

func newIDP(t *testing.T) *idp {
	s := &idp{answer: func(n int) (int, string) {
		return 200, fmt.Sprintf(`{"access_token":"t%d","token_type":"Bearer","expires_in":3600}`, n)
	}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, secret, _ := r.BasicAuth()
		_ = r.ParseForm()
		s.mu.Lock()
		s.asked = append(s.asked, strings.Join([]string{r.Method, r.URL.Path, id, secret, r.PostForm.Encode(), r.UserAgent()}, " "))
		n, gate := len(s.asked), s.gate
		status, body := s.answer(n)
		s.mu.Unlock()
		if gate != nil {
			select {
			case <-gate:
			case <-r.Context().Done():
			}
		}
		if status == http.StatusFound {
			w.Header().Set("Location", "/elsewhere")
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *idp) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

func (s *idp) client() hub.Credentials {
	return hub.Credentials{OAuth2: &hub.ClientCredentials{TokenURL: s.URL + "/token", ClientID: "hub one", ClientSecret: "s3:cret", Scope: "a b", Audience: "x"}}
}

// One token serves all callbacks of a pattern until shortly before its end, or until a callback refuses it.
func TestTokens(t *testing.T) {
	s := newIDP(t)
	r := newRig(t, fake.DevClient(t))
	r.set("*.example.org", s.client())
	a, b := r.book.For("https://a.example.org/", "", ""), r.book.For("https://b.example.org/", "", "")
	want := func(step, token string, n int) {
		t.Helper()
		for _, p := range []*credential.Page{&a, &b, &a} {
			if got := fields(t, p); got != "Authorization: Bearer "+token {
				t.Errorf("%s: %q, want the token %s", step, got, token)
			}
		}
		if got := len(s.requests()); got != n {
			t.Errorf("%s: the token service was asked %d times, want %d", step, got, n)
		}
	}
	want("first", "t1", 1)
	if got, form := s.requests()[0], "POST /token hub+one s3%3Acret audience=x&grant_type=client_credentials&scope=a+b quorumhub/test"; got != form {
		t.Errorf("asked as %q, want %q", got, form)
	}
	a.Refused() // just obtained: the client is refused, not the token
	want("refused at once", "t1", 1)
	r.clock.offset.Add(int64(10 * time.Second))
	a.Refused()
	want("refused later", "t2", 2)
	r.clock.offset.Add(int64(time.Hour - 35*time.Second))
	want("shortly before the margin", "t2", 2)
	r.clock.offset.Add(int64(10 * time.Second))
	want("within the margin", "t3", 3)
	changed := s.client()
	changed.OAuth2.ClientSecret = "another"
	r.set("*.example.org", changed)
	want("another secret", "t4", 4)
}

// A token service that fails is not asked for each message, and its answer shows nowhere.
func TestTokensThatCannotBeObtained(t *testing.T) {
	for name, answer := range map[string]struct {
		status int
		body   string
	}{
		"refused": {401, `{"error":"s3cret"}`}, "broken": {200, "s3cret"}, "empty": {200, `{"token_type":"bearer"}`}, "another type": {200, `{"access_token":"s3cret","token_type":"mac"}`},
		"endless": {200, `{"access_token":"` + strings.Repeat("s3cret", 20_000) + `"}`}, "header injection": {200, `{"access_token":"s3cret\r\nX: y"}`}, "elsewhere": {302, ""},
	} {
		s := newIDP(t)
		s.answer = func(int) (int, string) { return answer.status, answer.body }
		r := newRig(t, fake.DevClient(t))
		r.set("a.example.org", s.client())
		p := r.book.For("https://a.example.org/", "", "")
		for range 3 {
			var e *credential.Error
			if _, err := p.Append(t.Context(), nil); !errors.As(err, &e) || e.Reason != egress.ReasonCredentials || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("%s: %v", name, err)
			}
		}
		if got := len(s.requests()); got != 1 {
			t.Errorf("%s: asked %d times at once", name, got)
		}
		r.clock.offset.Add(int64(6 * time.Second))
		s.mu.Lock()
		s.answer = func(int) (int, string) { return 200, `{"access_token":"ok"}` }
		s.mu.Unlock()
		if got := fields(t, &p); got != "Authorization: Bearer ok" {
			t.Errorf("%s: later %q", name, got)
		}
	}
}

// Tokens are fetched through the guard.
func TestTokensComeThroughTheGuard(t *testing.T) {
	s := newIDP(t)
	c := egress.NewClient(fake.Policy(t, egress.PolicyOptions{}), egress.ClientOptions{})
	t.Cleanup(c.Close)
	r := newRig(t, c)
	r.set("a.example.org", s.client())
	p := r.book.For("https://a.example.org/", "", "")
	var e *credential.Error
	if _, err := p.Append(t.Context(), nil); !errors.As(err, &e) || !strings.Contains(err.Error(), string(egress.ReasonDenied)) || len(s.requests()) > 0 {
		t.Errorf("%v; %d requests", err, len(s.requests()))
	}
}

// Many deliveries ask once, and one that is cut off leaves the others alone.
func TestTokensAreAskedForOnce(t *testing.T) {
	s := newIDP(t)
	s.gate = make(chan struct{})
	r := newRig(t, fake.DevClient(t))
	r.set("a.example.org", s.client())
	first := r.book.For("https://a.example.org/", "", "")
	cut, cancel := context.WithCancel(t.Context())
	failed := make(chan error)
	go func() {
		_, err := first.Append(cut, nil)
		failed <- err
	}()
	for len(s.requests()) == 0 {
		time.Sleep(time.Millisecond)
	}
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			p := r.book.For("https://a.example.org/", "", "")
			if got, err := p.Append(t.Context(), nil); err != nil || len(got) != 1 || got[0].Value != "Bearer t2" {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("the one that was cut off: %v", err)
	}
	close(s.gate)
	all.Wait()
	if got := len(s.requests()); got != 2 {
		t.Errorf("asked %d times, want 2", got)
	}
}
