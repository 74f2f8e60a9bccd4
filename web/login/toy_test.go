package login_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"quorumhub/auth"
	"quorumhub/auth/sequence"
	"quorumhub/auth/session"
	"quorumhub/web/login"
)

// toy is a protocol that nothing else knows of: adding one touches its own room, and the list of those that wire it.
type toy struct{ seen []*sequence.Result }

func (*toy) Name() string { return "toy" }

func (*toy) Routes() []login.Route {
	return []login.Route{{Path: "/toy", Methods: []string{http.MethodGet}, Begins: true},
		{Path: "/toy/about", Methods: []string{http.MethodGet}, Serve: func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, "a toy") }}}
}

func (*toy) Request(r *http.Request) (*sequence.Request, error) {
	return &sequence.Request{Interactive: true, Return: r.URL.Query().Get("back"), Hint: r.URL.Query().Get("idp")}, nil
}

// tellAppError is an error that the application is told by the toy itself.
type tellAppError struct{ error }

func (tellAppError) Answer(w http.ResponseWriter, r *http.Request) {
	login.Redirect(w, r, "https://app.example.org/?error=toy")
}

func (*toy) Provider(r *http.Request, _ *sequence.Request) (string, error) {
	if r.URL.Query().Get("app") == "broken" {
		return "", tellAppError{login.Mistake("app", "is broken")}
	}
	if name := r.URL.Query().Get("app"); name != "" {
		return name, nil
	}
	return "", login.Mistake("app", "is missing")
}

func (p *toy) Respond(w http.ResponseWriter, r *http.Request, res *sequence.Result) {
	p.seen = append(p.seen, res)
	if res.Status != sequence.Authenticated {
		login.Stop(w, r, res.Err, "/toy?app="+res.Provider)
		return
	}
	_, _ = fmt.Fprintf(w, "%s may play, and goes to %s", res.Principal.ID, res.Return)
}

// process is a login.Processor.
type process func(*sequence.Request) *sequence.Result

func (f process) Process(_ context.Context, q *sequence.Request) *sequence.Result { return f(q) }

type noSessions struct{}

func (noSessions) Open(context.Context, string) (*session.Session, string, error) {
	return nil, "", fmt.Errorf("none")
}

// hub is a Handler behind HTTP, as web puts it there.
type hub struct {
	*httptest.Server
	refused []error // told to the log
	budget  int     // refusals that are left
}

func serve(t *testing.T, p login.Processor, protocols ...login.Protocol) *hub {
	t.Helper()
	h := &hub{budget: 1000}
	handler, err := login.New(login.Options{PublicURL: "https://hub.example.org", Processor: p, Sessions: noSessions{}, Protocols: protocols, Ready: func() bool { return true },
		Protocol: func(provider string) (string, bool) { return "toy", provider == "ball" }})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	for _, rt := range handler.Routes() {
		mux.HandleFunc(strings.Replace(rt.Path, "*", "", 1), func(w http.ResponseWriter, r *http.Request) {
			taken := false
			peer := &login.Peer{Client: "192.0.2.1", CorrelationID: "c0ffee", Refused: func(_ context.Context, err error) { h.refused = append(h.refused, err) },
				Audit: func(context.Context, *auth.Principal, string, ...string) {},
				Reserve: func() error {
					if !taken && h.budget == 0 {
						return &auth.RefusalError{Reason: "too many"}
					}
					if !taken {
						h.budget--
					}
					taken = true
					return nil
				},
				Return: func() {
					if taken {
						h.budget++
					}
					taken = false
				}}
			handler.Serve(&rt, w, r.WithContext(login.WithPeer(r.Context(), peer)))
		})
	}
	h.Server = httptest.NewServer(mux)
	t.Cleanup(h.Close)
	return h
}

// do sends a request as a browser would, and returns the response and its body.
func (h *hub) do(t *testing.T, method, path string, form url.Values, cookies ...*http.Cookie) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, h.URL+path, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept", "text/html")
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for _, c := range cookies {
		r.AddCookie(c)
	}
	resp, err := (&http.Client{Transport: h.Client().Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var body strings.Builder
	if _, err := fmt.Fprint(&body, readAll(t, resp)); err != nil {
		t.Fatal(err)
	}
	return resp, body.String()
}

// TestToyProtocol: a protocol that only this file knows goes through the whole chain: request, validator, sequence, callback, response.
func TestToyProtocol(t *testing.T) {
	p := &toy{}
	var got []*sequence.Request
	h := serve(t, process(func(q *sequence.Request) *sequence.Result {
		got = append(got, q)
		if !q.Callback {
			return &sequence.Result{Status: sequence.Incomplete, Provider: q.Provider, Next: &sequence.Interaction{Redirect: "https://idp.example.org/authorize?state=s1"}, State: "s1", Context: "sealed"}
		}
		return &sequence.Result{Status: sequence.Authenticated, Provider: "ball", Return: "the garden", Principal: &auth.Principal{ID: "issuer:corp/7"}}
	}), p)

	resp, _ := h.do(t, "GET", "/toy?app=ball&back=the+garden&idp=corp", nil)
	if resp.StatusCode != http.StatusSeeOther || resp.Header.Get("Location") != "https://idp.example.org/authorize?state=s1" {
		t.Fatalf("got %d to %q", resp.StatusCode, resp.Header.Get("Location"))
	}
	if q := got[0]; q.Provider != "ball" || q.Return != "the garden" || q.Hint != "corp" || !q.Interactive || q.Callback || q.Client != "192.0.2.1" {
		t.Errorf("the first request is %+v", q)
	}
	resp, body := h.do(t, "GET", "/login/callback/corp?state=s1&code=c", nil, resp.Cookies()...)
	if resp.StatusCode != http.StatusOK || body != "issuer:corp/7 may play, and goes to the garden" {
		t.Fatalf("got %d: %s", resp.StatusCode, body)
	}
	if q := got[1]; !q.Callback || q.Context != "sealed" || q.Hint != "corp" || q.Form.Get("code") != "c" {
		t.Errorf("the callback is %+v", q)
	}
	if c := resp.Cookies(); len(c) != 1 || c[0].MaxAge >= 0 {
		t.Errorf("the context is kept: %v", c)
	}
	if _, body := h.do(t, "GET", "/toy/about", nil); body != "a toy" {
		t.Errorf("its own route: %s", body)
	}
	if resp, body := h.do(t, "GET", "/toy", nil); resp.StatusCode != http.StatusBadRequest || !strings.Contains(body, "app: is missing") || len(got) != 2 {
		t.Errorf("its validator refused: got %d: %s", resp.StatusCode, body)
	}
	if resp, _ := h.do(t, "GET", "/toy?app=broken", nil); resp.Header.Get("Location") != "https://app.example.org/?error=toy" || len(got) != 2 {
		t.Errorf("its own answer: got %d to %q", resp.StatusCode, resp.Header.Get("Location"))
	}
	if h.budget != 1000 || len(h.refused) != 0 {
		t.Errorf("%d refusals are left and %v was logged, though nothing was refused", h.budget, h.refused)
	}
	if _, err := login.New(login.Options{PublicURL: "https://hub.example.org", Protocols: []login.Protocol{p, p}}); err == nil {
		t.Error("the same protocol twice is accepted")
	}
}
