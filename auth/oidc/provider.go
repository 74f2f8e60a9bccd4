package oidc

import (
	"cmp"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"quorumhub/auth"
)

// Limits on what a provider is asked, and on its answers.
const (
	maxAnswer   = 256 << 10
	askTimeout  = 10 * time.Second
	readyTime   = 3 * time.Second  // how long a login waits to learn whether the provider answers
	readyFor    = 10 * time.Second // how long an answer to that counts
	downFor     = 5 * time.Second  // how long the lack of one counts
	refresh     = 15 * time.Minute
	longestWait = 5 * time.Minute
	skew        = 30 * time.Second
)

// Options describe a provider.
type Options struct {
	Name, Label string
	Issuer      string
	ClientID    string
	// Secret authenticates the hub at the token endpoint, or Key does (private_key_jwt, RFC 7523). Without both it is a public client.
	Secret []byte
	Key    crypto.Signer
	// KeyAlgorithm is the algorithm of what Key signs, such as ES256, and KeyID its kid; empty: none.
	KeyAlgorithm, KeyID string
	// Auth is client_secret_basic or client_secret_post; empty: as the provider's discovery says.
	Auth       string
	Scopes     []string // openid is added
	Algorithms []string // of ID tokens; empty: those of DefaultAlgorithms
	// Claims say whom the ID token names. Its Subject must be what the provider never gives to two people.
	Claims auth.ClaimMapping
	// NameClaims are JSON pointers to what pages call a person; the first that resolves counts. Empty: /name, /preferred_username.
	NameClaims []string
	// Wanted are JSON pointers without which nobody is let in until userinfo was asked for them, if the provider has it and the ID token
	// lacks them. A name is looked for there, too, but people do not fail for want of one.
	Wanted []string
	// AllowedDomains: only people with a verified email of these domains. Empty: everybody.
	AllowedDomains []string
	EndSession     bool // logging out here logs out at the provider, too

	// Transport decides which hosts may be called. Redirects are not followed.
	Transport http.RoundTripper
	// Used remembers which logout tokens were used.
	Used auth.Nonces
	Log  *slog.Logger
	Now  func() time.Time
}

// DefaultAlgorithms are the signature algorithms of ID tokens if Options names none: all with public keys.
var defaultAlgorithms = [...]string{oidc.RS256, oidc.PS256, oidc.ES256, oidc.EdDSA}

// Provider lets people log in with an identity provider. Safe for concurrent use.
type Provider struct {
	o      Options
	client *http.Client
	keys   *auth.KeySet

	asking chan struct{} // holds one: whoever asks for the discovery document

	mu    sync.Mutex
	found *discovery // the last good one; nil: never
	asked time.Time  // when it was last asked for; zero: never, or that is in doubt
	err   error      // of that
}

// discovery is what the provider says of itself.
type discovery struct {
	oauth2.Endpoint
	userinfo, endSession string
	issInCallback        bool // RFC 9207
	auths                []string
}

// New makes a Provider.
func New(o Options) *Provider {
	if o.Algorithms == nil {
		o.Algorithms = defaultAlgorithms[:]
	}
	if o.NameClaims == nil {
		o.NameClaims = []string{"/name", "/preferred_username"}
	}
	if !slices.Contains(o.Scopes, oidc.ScopeOpenID) {
		o.Scopes = append([]string{oidc.ScopeOpenID}, o.Scopes...)
	}
	client := &http.Client{Transport: bounded{o.Transport}, Timeout: askTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	keys := auth.NewKeySet(auth.Issuer{Name: o.Name, URL: o.Issuer}, client, o.Log, o.Now)
	return &Provider{o: o, client: client, keys: keys, asking: make(chan struct{}, 1)}
}

// Name implements sequence.Interactive.
func (p *Provider) Name() string { return p.o.Name }

// Label implements sequence.Interactive.
func (p *Provider) Label() string { return cmp.Or(p.o.Label, p.o.Name) }

// Run keeps the provider's keys and its discovery document fresh until ctx ends.
func (p *Provider) Run(ctx context.Context) {
	var keys sync.WaitGroup
	defer keys.Wait()
	keys.Go(func() { p.keys.Run(ctx) })
	for failures := 0; ; {
		pause := refresh
		if _, err := p.discover(ctx, askTimeout, 0); err != nil && ctx.Err() == nil {
			p.o.Log.Warn("cannot read what an identity provider says of itself", "provider", p.o.Name, "error", err)
			pause = min(longestWait, time.Second<<min(failures, 16))
			pause = pause/2 + rand.N(pause/2+1)
			failures++
		} else {
			failures = 0
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// Ready implements sequence.Interactive. It asks the provider if it was not asked within 10 seconds, and waits 3 seconds for the answer.
func (p *Provider) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	if _, err := p.discover(ctx, readyTime, readyFor); err != nil {
		return err
	}
	if err := p.keys.Await(ctx); err != nil {
		return p.unavailable(err)
	}
	return nil
}

// Probe asks the provider once, to check that people could log in.
func (p *Provider) Probe(ctx context.Context) error {
	if _, err := p.discover(ctx, askTimeout, 0); err != nil {
		return err
	}
	return p.keys.Probe(ctx)
}

// Status returns nil if the provider answered when it was last asked, and its keys are known. It asks nobody.
func (p *Provider) Status() error {
	p.mu.Lock()
	err := p.err
	asked := p.asked
	p.mu.Unlock()
	switch {
	case asked.IsZero():
		return fmt.Errorf("identity provider %s: not asked yet, or it has just not answered", p.o.Name)
	case err != nil:
		return err
	}
	return p.keys.Ready()
}

// known returns the discovery document, however old it is, or asks for it.
func (p *Provider) known(ctx context.Context) (*discovery, error) {
	p.mu.Lock()
	found := p.found
	p.mu.Unlock()
	if found != nil {
		return found, nil
	}
	return p.discover(ctx, askTimeout, readyFor)
}

// discover returns the discovery document as it was read within fresh, or asks for it. One caller asks at a time. Errors are
// auth.ErrUnavailable, wrapped.
func (p *Provider) discover(ctx context.Context, timeout, fresh time.Duration) (*discovery, error) {
	if d, err, ok := p.lately(fresh); ok {
		return d, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	select {
	case p.asking <- struct{}{}:
		defer func() { <-p.asking }()
	case <-ctx.Done():
		return nil, p.unavailable(ctx.Err())
	}
	if d, err, ok := p.lately(fresh); ok {
		return d, err
	}
	d, err := p.read(ctx)
	if errors.Is(err, context.Canceled) {
		return nil, p.unavailable(err) // the caller has gone, which says nothing about the provider
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = p.o.Now()
	if p.err = nil; err != nil {
		p.err = p.unavailable(err)
		return nil, p.err
	}
	p.found = d
	return d, nil
}

// lately returns how the last question ended, if that was not long ago.
func (p *Provider) lately(fresh time.Duration) (*discovery, error, bool) { //nolint:revive // the error is part of what is kept
	p.mu.Lock()
	defer p.mu.Unlock()
	age := p.o.Now().Sub(p.asked)
	if p.err != nil {
		return nil, p.err, age < min(fresh, downFor)
	}
	return p.found, nil, p.found != nil && age < fresh
}

// doubt makes the next login ask whether the provider answers, because something else has just got no answer.
func (p *Provider) doubt() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.asked = time.Time{}
	}
}

func (p *Provider) read(ctx context.Context) (*discovery, error) {
	from, err := oidc.NewProvider(oidc.ClientContext(ctx, p.client), p.o.Issuer)
	if err != nil {
		return nil, fmt.Errorf("discovery: %w", clipped(err))
	}
	var more struct {
		EndSession    string   `json:"end_session_endpoint"`
		IssInCallback bool     `json:"authorization_response_iss_parameter_supported"`
		Auths         []string `json:"token_endpoint_auth_methods_supported"`
	}
	if err := from.Claims(&more); err != nil {
		return nil, fmt.Errorf("discovery: %w", clipped(err))
	}
	d := &discovery{Endpoint: from.Endpoint(), userinfo: from.UserInfoEndpoint(), endSession: more.EndSession, issInCallback: more.IssInCallback, auths: more.Auths}
	for _, e := range []struct {
		name, url string
		optional  bool
	}{{"authorization_endpoint", d.AuthURL, false}, {"token_endpoint", d.TokenURL, false}, {"userinfo_endpoint", d.userinfo, true}, {"end_session_endpoint", d.endSession, true}} {
		if e.url == "" && e.optional {
			continue
		}
		if err := auth.CheckEndpoint(e.url); err != nil {
			return nil, fmt.Errorf("discovery: %s: %w", e.name, err)
		}
	}
	return d, nil
}

func (p *Provider) unavailable(err error) error {
	if errors.Is(err, auth.ErrUnavailable) {
		return fmt.Errorf("identity provider %s: %w", p.o.Name, err)
	}
	return fmt.Errorf("identity provider %s: %w: %w", p.o.Name, auth.ErrUnavailable, err)
}

func (p *Provider) refuse(format string, args ...any) error {
	return &auth.RefusalError{Method: auth.MethodSession, Reason: fmt.Sprintf("identity provider %s: "+format, append([]any{p.o.Name}, args...)...)}
}

// bounded refuses to read more than maxAnswer of an answer.
type bounded struct{ http.RoundTripper }

func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	resp.Body = &boundedBody{resp.Body, maxAnswer}
	return resp, nil
}

type boundedBody struct {
	io.ReadCloser
	left int
}

var errTooLarge = fmt.Errorf("answer is larger than %d bytes", maxAnswer)

func (b *boundedBody) Read(into []byte) (int, error) {
	n, err := b.ReadCloser.Read(into[:min(len(into), b.left+1)])
	if b.left -= n; b.left < 0 {
		return 0, errTooLarge
	}
	return n, err
}

// clipped shortens what a library says, which may quote an answer of any length.
func clipped(err error) error {
	if text := err.Error(); len(text) > 200 {
		return &longError{text[:200] + "...", err}
	}
	return err
}

type longError struct {
	text  string
	cause error
}

func (e *longError) Error() string { return e.text }
func (e *longError) Unwrap() error { return e.cause }
