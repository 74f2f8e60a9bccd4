package sequence_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"quorumhub/auth"
	"quorumhub/auth/keyring"
	"quorumhub/auth/sequence"
	"quorumhub/auth/session"
)

// stage is a Processor with all it needs: API keys, client certificates and a token service as credentials of programs, and whatever
// providers people log in at. It stands for one node; sharing with another is by copying its fields.
type stage struct {
	t        testing.TB
	settings *auth.Settings
	gate     *auth.Gate
	key      string // a valid API key
	service  *service
	people   map[string]sequence.Interactive
	claims   *claims
	sessions *sessions
	box      sequence.Box
	p        *sequence.Processor
}

// service is a token service whose answers are given.
type service struct {
	answer func(ctx context.Context) (int, string)
}

func (s *service) RoundTrip(r *http.Request) (*http.Response, error) {
	code, body := s.answer(r.Context())
	if code == 0 {
		return nil, errors.New("no answer")
	}
	return &http.Response{StatusCode: code, Status: http.StatusText(code), Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

func accepts(context.Context) (int, string) {
	return 200, `{"response":{"userId":"ann","role":"A"},"errors":null}`
}
func refuses(context.Context) (int, string) { return 401, "" }
func isDown(context.Context) (int, string)  { return 0, "" }
func hangs(ctx context.Context) (int, string) {
	<-ctx.Done()
	return 0, ""
}

// claims remembers states as the replicated log does.
type claims struct {
	mu   sync.Mutex
	seen map[[32]byte]bool
	err  error
	n    int
}

func (c *claims) ClaimLogin(_ context.Context, state [32]byte, _ string, _ time.Time) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	if c.err != nil {
		return false, c.err
	}
	fresh := !c.seen[state]
	c.seen[state] = true
	return fresh, nil
}

// sessions keeps what sessions were begun with.
type sessions struct {
	began []*session.New
	err   error
}

func (s *sessions) Start(_ context.Context, n *session.New) (*session.Session, string, error) {
	if s.err != nil {
		return nil, "", s.err
	}
	s.began = append(s.began, n)
	out := &session.Session{Principal: n.Principal, Name: n.Name, Passed: n.Passed, IDToken: n.IDToken, Started: time.Now(), Seen: time.Now(), Ends: n.Ends}
	_, _ = rand.Read(out.ID[:])
	if out.Ends.IsZero() {
		out.Ends = time.Now().Add(12 * time.Hour)
	}
	return out, fmt.Sprintf("cookie-%x", out.ID[:4]), nil
}

// person is an Interactive whose answers are given.
type person struct {
	name     string
	form     bool
	ready    error
	start    error
	panics   bool
	private  string
	starts   []*sequence.Start
	finishes []*sequence.Finish
	answer   func(*sequence.Finish) (*sequence.Identity, error)
}

func (p *person) Name() string                { return p.name }
func (p *person) Label() string               { return "The " + p.name }
func (p *person) Ready(context.Context) error { return p.ready }
func (p *person) Start(_ context.Context, s *sequence.Start) (*sequence.Interaction, []byte, error) {
	if p.panics {
		panic("odd")
	}
	p.starts = append(p.starts, s)
	if p.start != nil {
		return nil, nil, p.start
	}
	if p.form {
		return &sequence.Interaction{Form: &sequence.Form{Authenticator: p.name, Label: p.Label(), Fields: []sequence.Field{{Name: "password", Secret: true}}}}, []byte(p.private), nil
	}
	return &sequence.Interaction{Redirect: "https://" + p.name + ".example.org/authorize?state=" + s.State}, []byte(p.private), nil
}

func (p *person) Finish(_ context.Context, f *sequence.Finish) (*sequence.Identity, error) {
	p.finishes = append(p.finishes, f)
	return p.answer(f)
}

var (
	errWrong = &auth.RefusalError{Method: auth.MethodSession, Reason: "wrong password"}
	errDown  = fmt.Errorf("%w: temporarily_unavailable", auth.ErrUnavailable)
)

func is(id string) func(*sequence.Finish) (*sequence.Identity, error) {
	return func(*sequence.Finish) (*sequence.Identity, error) {
		_, subject, _ := strings.Cut(id, "/")
		return &sequence.Identity{Principal: &auth.Principal{Method: auth.MethodSession, ID: id, Subject: subject, Roles: []string{"clerk"}}, Name: "Ann",
			Passed: session.Passed{Method: []string{"pwd"}}, IDToken: "id-token"}, nil
	}
}

func fails(err error) func(*sequence.Finish) (*sequence.Identity, error) {
	return func(*sequence.Finish) (*sequence.Identity, error) { return nil, err }
}

const common = `
token_service: {name: svc, url: "http://127.0.0.1:1", timeout: 30s, refused_cache: 1ms, cache: 1ms}
client_certificates: {subject: dns}
links: {ann: ["issuer:corp/ann", "issuer:partner/ann", "key/KEY", "cert/ann.example.org", "token-service:svc/ann", "local/ann"]}
identity_providers:
  - {name: corp, kind: oidc, issuer: https://corp.example.org, client_id: hub}
  - {name: partner, kind: oidc, issuer: https://partner.example.org, client_id: hub}
  - {name: emergency, kind: local, accounts: [{name: ann, password_hash: "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHRzb21lc2FsdA$RdescudvJCsgt3ub+b5dWRWJTmaaDdYZ8rTJ5QGx2YY"}]}
`

// keys are the API keys of settings. Looking for another one is a panic: there is no state.
func keys(s *auth.Settings) auth.APIKeyLookup { return auth.NewAPIKeyLookup(s.APIKeys, nil) }

// newStage makes a stage whose service provider app has the steps, a list in YAML.
func newStage(t testing.TB, steps string, known ...auth.Known) *stage {
	t.Helper()
	key, id, hash, err := auth.GenerateAPIKey()
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(common, "KEY", id, 1) + fmt.Sprintf("api_keys: [{id: '%s', name: ann, sha256: %x}]\n", id, hash) + "sequences: {seq: {steps: " + steps + "}}\nservice_providers: [{name: app, protocol: pages, sequence: seq}]\n"
	settings, err := auth.ParseSettings([]byte(text), known...)
	if err != nil {
		t.Fatal(err)
	}
	box, err := keyring.New(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{t: t, settings: settings, key: key, service: &service{accepts}, claims: &claims{seen: map[[32]byte]bool{}}, sessions: &sessions{}, box: box,
		people: map[string]sequence.Interactive{"corp": &person{name: "corp", answer: is("issuer:corp/ann"), private: "nonce and verifier"},
			"partner": &person{name: "partner", answer: is("issuer:partner/ann")}, "emergency": &person{name: "emergency", form: true, answer: is("local/ann")}}}
	client := &http.Client{Transport: s.service}
	remote := auth.NewRemoteTokens(*settings.TokenService, client, slog.New(slog.DiscardHandler), time.Now)
	t.Cleanup(remote.Close)
	s.gate = auth.NewGate(settings, auth.NewAPIKeys(keys(settings), time.Now),
		remote, auth.NewCertificates(*settings.ClientCertificates, time.Now, nil))
	s.p = s.node()
	return s
}

// node returns another node's processor.
func (s *stage) node() *sequence.Processor {
	s.t.Helper()
	p, err := sequence.New(sequence.Options{Settings: s.settings, Gate: s.gate, Interactive: s.people, Box: s.box, Claims: s.claims, Sessions: s.sessions,
		Callback: func(name string) string { return "https://hub.example.org/login/callback/" + name }})
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

// person returns the provider of a name.
func (s *stage) at(name string) *person { return s.people[name].(*person) }

// with returns a request of a program that carries credentials: key, wrong-key, odd-key, cert, other-cert and svc.
func (s *stage) with(credentials ...string) *sequence.Request {
	r := httptest.NewRequest(http.MethodGet, "https://hub.example.org/x", nil)
	r.TLS = nil
	for _, c := range credentials {
		switch c {
		case "key":
			r.Header.Set("X-Api-Key", s.key)
		case "wrong-key":
			r.Header.Set("X-Api-Key", s.key[:len(s.key)-2]+"--")
		case "odd-key":
			r.Header.Set("X-Api-Key", "qhk_panic0panic0_x")
		case "svc":
			r.AddCookie(&http.Cookie{Name: "Authorization", Value: "token"})
		case "cert", "other-cert":
			name := map[string]string{"cert": "ann.example.org", "other-cert": "bob.example.org"}[c]
			cert := &x509.Certificate{DNSNames: []string{name}}
			r.TLS = &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}, VerifiedChains: [][]*x509.Certificate{{cert}}}
		default:
			s.t.Fatalf("credentials %q", c)
		}
	}
	return &sequence.Request{Provider: "app", Credentials: &auth.Request{HTTP: r, Host: "hub.example.org", Scheme: "https"}, Client: "192.0.2.1"}
}

// browser returns a request of somebody who can act.
func (s *stage) browser() *sequence.Request {
	r := s.with()
	r.Interactive, r.Return = true, "/console"
	return r
}

// in returns a session of ann that passed authenticators an hour ago.
func (s *stage) in(authenticators ...string) *session.Session {
	out := &session.Session{Principal: &auth.Principal{Method: auth.MethodSession, ID: "issuer:corp/ann", Subject: "ann"}, Name: "Ann",
		Started: time.Now().Add(-time.Hour), Seen: time.Now(), Ends: time.Now().Add(3 * time.Hour), IDToken: "old-id-token"}
	out.Principal = s.gate.Linked(out.Principal)
	_, _ = rand.Read(out.ID[:])
	for _, a := range authenticators {
		out.Passed = append(out.Passed, session.Passed{Authenticator: a, At: time.Now().Add(-time.Hour)})
	}
	return out
}

func (s *stage) process(r *sequence.Request) *sequence.Result { return s.p.Process(s.t.Context(), r) }

// back returns what comes back for a result with something to do: form values are given in pairs.
func (s *stage) back(res *sequence.Result, form ...string) *sequence.Request {
	s.t.Helper()
	if res.Status != sequence.Incomplete || res.Context == "" || res.State == "" || res.Next == nil {
		s.t.Fatalf("%s: %v; want something to do, with a context", res.Status, res.Err)
	}
	r := s.browser()
	r.Provider, r.Return, r.Callback, r.Context = "", "", true, res.Context
	r.Form = url.Values{sequence.FieldState: {res.State}}
	for i := 0; i+1 < len(form); i += 2 {
		r.Form.Set(form[i], form[i+1])
	}
	return r
}

// answered is process of back.
func (s *stage) answered(res *sequence.Result, form ...string) *sequence.Result {
	s.t.Helper()
	return s.process(s.back(res, form...))
}
