package broker_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"quorumhub/auth"
	"quorumhub/auth/keyring"
	"quorumhub/auth/sequence"
	"quorumhub/auth/session"
	"quorumhub/auth/ticket"
	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/test/memory"
	"quorumhub/web/login"
	"quorumhub/web/login/broker"
	"quorumhub/web/problem"
)

// cluster is three nodes that offer the broker under one address. Each request goes to the next node, and a node applies what others have
// written only when it is asked to catch up: what works here does not depend on which node is asked.
type cluster struct {
	*httptest.Server
	t        *testing.T
	nodes    [3]*node
	turn     atomic.Uint32
	settings atomic.Pointer[auth.Settings]

	mu      sync.Mutex
	entries []entry
	skew    time.Duration
	refused []error
	audited []string
	budget  int
	who     string // who logs in next
	corp    string // where people log out at their identity provider
}

type entry struct {
	at     time.Time
	events []*hubpb.Event
}

// node is one of them.
type node struct {
	*cluster
	*memory.Log
	applied uint64
	handler *login.Handler
	ring    *keyring.Ring
}

func (c *cluster) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.skew)
}

func (c *cluster) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.skew += d
}

// Propose implements hub.Proposer.
func (n *node) Propose(_ context.Context, events ...*hubpb.Event) ([]hub.Result, error) {
	at := n.now()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.entries = append(n.entries, entry{at, events})
	return n.catchUpLocked()
}

func (n *node) catchUpLocked() (last []hub.Result, err error) {
	for ; n.applied < uint64(len(n.entries)); n.applied++ {
		e := n.entries[n.applied]
		if last, _, err = n.Apply(e.at, e.events...); err != nil {
			return nil, err
		}
	}
	return last, nil
}

// Written implements broker.Reads.
func (n *node) Written() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.applied
}

// AwaitIndex implements broker.Reads.
func (n *node) AwaitIndex(_ context.Context, index uint64) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if index > n.applied {
		_, err := n.catchUpLocked()
		return err
	}
	return nil
}

// Consistent implements broker.Reads.
func (n *node) Consistent(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, err := n.catchUpLocked()
	return err
}

// FormerTokenKeys implements broker.Keys.
func (n *node) FormerTokenKeys() [][]byte { return nil }

// TokenKeys implements broker.Keys.
func (n *node) TokenKeys() []*ecdsa.PrivateKey { return n.ring.TokenKeys() }

// sessions are those of a node, which catches up first.
type sessions struct{ *node }

func (s sessions) manager() *session.Manager {
	return session.NewManager(session.Options{Box: boxOf(s), State: s, Sessions: func() session.Log { return s.service() }, Now: s.now, Log: slog.New(slog.DiscardHandler),
		Limits: func() auth.SessionSettings {
			return auth.SessionSettings{Idle: 24 * time.Hour, Absolute: 12 * time.Hour}
		},
		Standing: session.Standing(s.settings.Load, nil, s.now)})
}

// Open implements login.Sessions.
func (s sessions) Open(ctx context.Context, cookie string) (*session.Session, string, error) {
	if err := s.Consistent(ctx); err != nil {
		return nil, "", err
	}
	return s.manager().Open(ctx, cookie)
}

// Start implements broker.Sessions.
func (s sessions) Start(ctx context.Context, n *session.New) (*session.Session, string, error) {
	return s.manager().Start(ctx, n)
}

// End implements broker.Sessions.
func (s sessions) End(ctx context.Context, principal string, id [32]byte) error {
	return s.manager().End(ctx, principal, id)
}

func principal(who string) *auth.Principal {
	return &auth.Principal{Method: auth.MethodSession, ID: "issuer:corp/" + who, Authority: "corp", Subject: who, User: who + "@corp", Roles: []string{"buyer", "clerk"}}
}

func (n *node) service() *hub.Service {
	return hub.NewService(hub.Policy{Clock: clock{n.cluster}}, nil, n, n, n.ring)
}

type clock struct{ *cluster }

func (c clock) Now() time.Time { return c.now() }

// process stands in for the sequences, which are tested elsewhere: whoever has a session is who it says, and others are cluster.who.
type process struct{ *node }

func (p process) Process(ctx context.Context, q *sequence.Request) *sequence.Result {
	res := &sequence.Result{Provider: q.Provider, Return: q.Return}
	p.mu.Lock()
	who := p.who
	p.mu.Unlock()
	switch s := q.Session; {
	case s != nil && !q.Anew && (q.MaxAge == 0 || p.now().Sub(s.Started) < q.MaxAge):
		res.Status, res.Principal, res.Session = sequence.Authenticated, s.Principal, s
	case !q.Interactive:
		res.Status, res.Err = sequence.Failed, &auth.RefusalError{Method: auth.MethodSession, Reason: "nobody is logged in"}
	case who == "":
		res.Status, res.Err = sequence.Failed, &auth.RefusalError{Method: auth.MethodSession, Reason: "a wrong password"}
	case who == "down":
		res.Status, res.Err = sequence.Failed, fmt.Errorf("corp: %w", auth.ErrUnavailable)
	default:
		s, cookie, err := sessions(p).Start(ctx, &session.New{Principal: principal(who), Name: "Name of " + who, Client: "a browser",
			Passed: []session.Passed{{Authenticator: "corp", Method: []string{"pwd", "otp"}, At: p.now()}}})
		if err != nil {
			return &sequence.Result{Status: sequence.Failed, Provider: q.Provider, Return: q.Return, Err: err}
		}
		res.Status, res.Principal, res.Session, res.Cookie = sequence.Authenticated, principal(who), s, cookie
	}
	return res
}

const shopSecret = "a long and random secret of the shop"

func settingsText() string {
	hash := sha256.Sum256([]byte(shopSecret))
	return fmt.Sprintf(`
identity_providers:
  - {name: corp, kind: oidc, issuer: https://corp.example, client_id: hub}
service_providers:
  - {name: shop, protocol: oidc, client_id: shop, client_secret_hash: %x, sequence: corp, redirect_uris: ["https://shop.example/cb", "https://shop.example/cb?tenant=1"],
     post_logout_redirect_uris: ["https://shop.example/bye"], claims: {name: name, groups: roles}}
  - {name: app, protocol: oidc, client_id: app, sequence: corp, redirect_uris: ["http://127.0.0.1/cb"], claims: {preferred_username: user}}
`, hash)
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, budget: 1 << 30, who: "alice"}
	c.Server = httptest.NewServer(http.HandlerFunc(c.serve))
	t.Cleanup(c.Close)
	s, err := auth.ParseSettings([]byte(settingsText()))
	if err != nil {
		t.Fatal(err)
	}
	c.settings.Store(s)
	for i := range c.nodes {
		n := &node{cluster: c, Log: memory.NewLog()}
		c.nodes[i] = n
		c.rotateOn(n, 1)
		b, err := broker.New(broker.Options{PublicURL: c.URL, Settings: c.settings.Load, Keys: n, Service: n.service, Reads: n, Sessions: sessions{n}, Now: c.now,
			Verifier: n.verifier(), Logout: &login.Logout{PublicURL: c.URL, Sessions: sessions{n}, EndSession: c.endSession, Box: boxOf{n}, Now: c.now},
			Challenges: func() []string { return []string{"Bearer"} }})
		if err != nil {
			t.Fatal(err)
		}
		if n.handler, err = login.New(login.Options{PublicURL: c.URL, Processor: process{n}, Sessions: sessions{n}, Ready: func() bool { return true },
			Protocols: []login.Protocol{b}, Protocol: func(string) (string, bool) { return broker.Name, true }}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.nodes[0].Propose(t.Context(), &hubpb.Event{Kind: &hubpb.Event_FeatureLevelSet{FeatureLevelSet: &hubpb.FeatureLevelSet{Level: hub.FeatureLevel}}}); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *cluster) endSession(_ context.Context, _ *session.Session, returnTo, state string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.corp == "" {
		return ""
	}
	return c.corp + "?" + url.Values{"post_logout_redirect_uri": {returnTo}, "state": {state}}.Encode()
}

func (n *node) verifier() *ticket.Verifier {
	return &ticket.Verifier{Sealer: ticket.Sealer{Box: boxOf{n}, Now: n.now}, State: n, Reads: n, Alive: sessions{n}.manager().Alive}
}

// boxOf is the present keyring of a node.
type boxOf struct{ *node }

func (b boxOf) Seal(secret []byte, bound string) ([]byte, error) { return b.ring.Seal(secret, bound) }
func (b boxOf) Open(sealed []byte, bound string) ([]byte, error) { return b.ring.Open(sealed, bound) }

// rotateOn gives a node keys, the first of which seals and signs.
func (c *cluster) rotateOn(n *node, keys ...byte) {
	var raw [][]byte
	for _, k := range keys {
		raw = append(raw, slices.Repeat([]byte{k}, 32))
	}
	ring, err := keyring.New(raw...)
	if err != nil {
		c.t.Fatal(err)
	}
	n.ring = ring
}

func (c *cluster) serve(w http.ResponseWriter, r *http.Request) {
	n := c.nodes[int(c.turn.Add(1))%len(c.nodes)]
	peer := &login.Peer{Audit: func(_ context.Context, p *auth.Principal, action string, notes ...string) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.audited = append(c.audited, fmt.Sprint(p.ID, " ", action, " ", notes))
	}, Client: "192.0.2.1", CorrelationID: "c0ffee", Return: func() { c.mu.Lock(); c.budget++; c.mu.Unlock() },
		Refused: func(_ context.Context, err error) { c.mu.Lock(); c.refused = append(c.refused, err); c.mu.Unlock() },
		Reserve: func() error {
			c.mu.Lock()
			defer c.mu.Unlock()
			if c.budget == 0 {
				return &problem.Details{Status: http.StatusTooManyRequests, Code: "rate_limited", Limit: "refused"}
			}
			c.budget--
			return nil
		}}
	for _, rt := range n.handler.Routes() {
		if rt.Path == r.URL.Path {
			if !slices.Contains(rt.Methods, r.Method) {
				w.WriteHeader(http.StatusMethodNotAllowed)
				return
			}
			n.handler.Serve(&rt, w, r.WithContext(login.WithPeer(r.Context(), peer)))
			return
		}
	}
	http.NotFound(w, r)
}

// settle lets every node apply what the others have written.
func (c *cluster) settle() {
	for _, n := range c.nodes {
		if err := n.Consistent(c.t.Context()); err != nil {
			c.t.Fatal(err)
		}
	}
}

// logged returns what the log was told since the last call.
func (c *cluster) logged() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := errors.Join(c.refused...)
	c.refused = nil
	if err == nil {
		return ""
	}
	return err.Error()
}

// browser is a person's: it keeps cookies, and follows redirects on the hub only.
type browser struct {
	*http.Client
	c *cluster
}

// jar keeps Secure cookies for plain HTTP on this machine, as browsers do.
type jar struct{ *cookiejar.Jar }

func (j jar) SetCookies(u *url.URL, cookies []*http.Cookie) {
	for _, c := range cookies {
		c.Secure = false
	}
	j.Jar.SetCookies(u, cookies)
}

func (c *cluster) browser() *browser {
	cookies, err := cookiejar.New(nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return &browser{&http.Client{Jar: jar{cookies}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, c}
}

// visit sends the browser somewhere and returns where it ends up: the status and page on the hub, or the URL elsewhere.
func (b *browser) visit(at string) (to *url.URL, status int, page string) {
	b.c.t.Helper()
	for range 10 {
		r, err := http.NewRequestWithContext(b.c.t.Context(), http.MethodGet, at, nil)
		if err != nil {
			b.c.t.Fatal(err)
		}
		r.Header.Set("Accept", "text/html")
		resp, body := b.send(r)
		if resp.StatusCode/100 != 3 {
			return resp.Request.URL, resp.StatusCode, body
		}
		next, err := resp.Location()
		if err != nil {
			b.c.t.Fatal(err)
		}
		if at = next.String(); !strings.HasPrefix(at, b.c.URL+"/") {
			return next, resp.StatusCode, ""
		}
	}
	b.c.t.Fatal("too many redirects")
	return nil, 0, ""
}

func (b *browser) send(r *http.Request) (*http.Response, string) {
	b.c.t.Helper()
	resp, err := b.Do(r)
	if err != nil {
		b.c.t.Fatal(err)
	}
	defer resp.Body.Close()
	var text strings.Builder
	if _, err := fmt.Fprint(&text, readAll(b.c.t, resp)); err != nil {
		b.c.t.Fatal(err)
	}
	return resp, text.String()
}

// post sends a form as a page of the hub does.
func (b *browser) post(path string, form url.Values) (*http.Response, string) {
	b.c.t.Helper()
	r, err := http.NewRequestWithContext(b.c.t.Context(), http.MethodPost, b.c.URL+path, strings.NewReader(form.Encode()))
	if err != nil {
		b.c.t.Fatal(err)
	}
	r.Header.Set("Accept", "text/html")
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return b.send(r)
}
