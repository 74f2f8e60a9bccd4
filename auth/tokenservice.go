package auth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
)

// TokenService configures a service that validates tokens, such as MOSIP's authmanager. The hub asks it about each token with
// GET <url>/authorize/admin/validateToken, passing the token in the cookie it came in.
type TokenService struct {
	// Name identifies the service in logs and rules.
	Name string `yaml:"name"`
	// URL is the base URL of /authorize/admin/validateToken.
	URL string `yaml:"url"`
	// PlainHTTP allows http beyond this machine, so that tokens travel unencrypted.
	PlainHTTP bool `yaml:"plain_http"`
	// Cookie names the cookie, from the caller and to the service. Empty: Authorization.
	Cookie string `yaml:"cookie"`
	// Cache is how long a token is trusted after the service accepted it, so a revoked token works for at most Cache longer.
	// RefusedCache is how long a refusal is remembered. 0: 30 s and 5 s.
	Cache        time.Duration `yaml:"cache"`
	RefusedCache time.Duration `yaml:"refused_cache"`
	// Timeout bounds one request to the service. 0: 5 s.
	Timeout time.Duration `yaml:"timeout"`
}

func (s *TokenService) check() error {
	if !validName(s.Name) {
		return fmt.Errorf("name: %q; expected at most 64 letters, digits, dots, dashes and underscores", s.Name)
	}
	checked := s.URL
	if s.PlainHTTP {
		if rest, ok := strings.CutPrefix(checked, "http://"); ok {
			checked = "https://" + rest
		}
	}
	if err := CheckEndpoint(checked); err != nil {
		if strings.HasPrefix(s.URL, "http://") && !s.PlainHTTP {
			return fmt.Errorf("url: %w; plain_http: true allows it, for networks that nobody else can read", err)
		}
		return fmt.Errorf("url: %w", err)
	}
	if strings.Contains(s.URL, "?") {
		return fmt.Errorf("url: %q has a query; expected the base URL of /authorize/admin/validateToken", clip(s.URL))
	}
	if s.Cookie == "" {
		s.Cookie = "Authorization"
	}
	if !validName(s.Cookie) {
		return fmt.Errorf("cookie: %q; expected a cookie name such as Authorization", s.Cookie)
	}
	for _, d := range []struct {
		name     string
		value    *time.Duration
		def, max time.Duration
	}{
		{"cache", &s.Cache, 30 * time.Second, 10 * time.Minute},
		{"refused_cache", &s.RefusedCache, 5 * time.Second, time.Minute},
		{"timeout", &s.Timeout, 5 * time.Second, 30 * time.Second},
	} {
		if *d.value == 0 {
			*d.value = d.def
		}
		if *d.value < 0 || *d.value > d.max {
			return fmt.Errorf("%s: %v; expected more than 0 and at most %v", d.name, *d.value, d.max)
		}
	}
	return nil
}

// Limits on the requests to a token service and its responses.
const (
	maxVerdictBytes  = 64 << 10
	maxVerdicts      = 8192 // remembered, of each kind
	maxQuestions     = 32   // in flight at a time
	clientQuestions  = 8    // of them, for one client; its further ones wait
	probeRetryMax    = 30 * time.Second
	serviceDown      = 10 * time.Minute // how long a stream goes on while the service does not answer
	serviceTokenSkew = 30 * time.Second // how far its clock may be behind a token's exp
)

// RemoteTokens authenticates tokens by asking a TokenService. Concurrent requests with the same token share one question. While
// the service is unreachable or its response is malformed, nobody is admitted. Safe for concurrent use while Run runs.
type RemoteTokens struct {
	service TokenService
	client  *http.Client
	log     *slog.Logger
	now     func() time.Time
	slots   chan struct{}
	retired atomic.Bool
	asked   sync.WaitGroup // questions under way, which outlive who asked

	mu      sync.Mutex
	good    verdicts // apart from bad, so that a flood of invalid tokens evicts no valid ones
	bad     verdicts
	asking  map[[sha256.Size]byte]*question
	clients map[netip.Addr]*clientShare
	reached bool  // the service has answered once
	failing error // of the last request; nil if it was answered
}

// verdict is the service's answer about a token.
type verdict struct {
	principal *Principal
	refusal   error
	until     time.Time
}

// clientShare is the slots of one client.
type clientShare struct {
	slots chan struct{}
	users int // that hold one or wait for one
}

type question struct {
	done    chan struct{}
	verdict verdict
	err     error
}

// NewRemoteTokens makes an Authenticator that asks s. client decides which hosts may be called and must not follow redirects.
func NewRemoteTokens(s TokenService, client *http.Client, log *slog.Logger, now func() time.Time) *RemoteTokens {
	return &RemoteTokens{service: s, client: client, log: log, now: now, slots: make(chan struct{}, maxQuestions),
		asking: map[[sha256.Size]byte]*question{}, clients: map[netip.Addr]*clientShare{}}
}

// Retire ends what tokens of the service have opened: it is not asked any more.
func (t *RemoteTokens) Retire() { t.retired.Store(true) }

// Challenge is empty: no HTTP authentication scheme covers cookies.
func (t *RemoteTokens) Challenge() string { return "" }

// Authenticate asks the service about the token in the cookie, unless a recent answer is remembered.
func (t *RemoteTokens) Authenticate(ctx context.Context, r *Request) (*Principal, error) {
	raw, err := t.find(r.HTTP)
	if err != nil {
		return nil, err
	}
	return t.check(ctx, r, raw)
}

// again returns a check whether a token that was accepted just now still is. While the service does not answer the last answer holds,
// for serviceDown at most.
func (t *RemoteTokens) again(p *Principal, raw string) func(context.Context) (*Principal, error) {
	var accepted atomic.Pointer[time.Time]
	begin := t.now()
	accepted.Store(&begin)
	return func(ctx context.Context) (*Principal, error) {
		if t.retired.Load() {
			return nil, refuse(MethodToken, "token service %s is no longer in auth.file", t.service.Name)
		}
		now, err := t.check(ctx, &Request{}, raw)
		at := t.now()
		switch {
		case err == nil:
			accepted.Store(&at)
		case errors.Is(err, ErrUnavailable) && at.Sub(*accepted.Load()) > serviceDown:
			return nil, refuse(MethodToken, "token service %s has not answered for %s", t.service.Name, serviceDown)
		case errors.Is(err, ErrUnavailable):
			return p, nil
		}
		return now, err
	}
}

func (t *RemoteTokens) check(ctx context.Context, r *Request, raw string) (*Principal, error) {
	// The token's own exp is not proven, so it may only shorten the token's life.
	exp, dated := expiry(raw)
	if dated && t.now().After(exp.Add(serviceTokenSkew)) {
		return nil, refuse(MethodToken, "expired at %s", exp.UTC().Format(time.RFC3339))
	}
	v, err := t.verdict(ctx, r, raw, exp, dated)
	var spent *notAffordedError
	switch {
	case errors.As(err, &spent):
		return nil, spent.error
	case err != nil:
		return nil, fmt.Errorf("token service %s: %w: %w", t.service.Name, ErrUnavailable, err)
	}
	return v.principal, v.refusal
}

// find returns the token of a request.
func (t *RemoteTokens) find(r *http.Request) (string, error) {
	found := r.CookiesNamed(t.service.Cookie)
	if len(found) == 0 {
		return "", ErrNotMine
	}
	if len(found) > 1 {
		return "", refuse(MethodToken, "cookie %q is given %d times", t.service.Cookie, len(found))
	}
	if scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " "); strings.EqualFold(scheme, "Bearer") {
		return "", refuse(MethodToken, "both a bearer token and the cookie %q", t.service.Cookie)
	}
	raw := strings.TrimPrefix(found[0].Value, "Bearer ")
	switch {
	case raw == "":
		return "", refuse(MethodToken, "cookie %q is empty", t.service.Cookie)
	case len(raw) > maxTokenBytes:
		return "", refuse(MethodToken, "token of %d bytes; expected at most %d", len(raw), maxTokenBytes)
	case strings.ContainsFunc(raw, func(c rune) bool {
		return c > unicode.MaxASCII || !unicode.IsLetter(c) && !unicode.IsDigit(c) && !strings.ContainsRune("-._~+/=", c)
	}):
		return "", refuse(MethodToken, "cookie %q has characters that no token has", t.service.Cookie)
	}
	return raw, nil
}

// expiry returns the exp of a token if it is a JWT with one.
func expiry(raw string) (time.Time, bool) {
	_, claims, err := decodeToken(raw)
	if err != nil {
		return time.Time{}, false
	}
	return claims.time("exp")
}

// verdict returns the service's answer about a token, from memory if that is fresh.
func (t *RemoteTokens) verdict(ctx context.Context, r *Request, raw string, exp time.Time, dated bool) (verdict, error) {
	key := sha256.Sum256([]byte(raw))
	t.mu.Lock()
	if v, ok := t.rememberedLocked(key); ok {
		t.mu.Unlock()
		return v, nil
	}
	if q := t.asking[key]; q != nil {
		t.mu.Unlock()
		return q.wait(ctx)
	}
	// Under the lock, so that whoever asks can afford it; others would share the failure.
	if err := r.afford(); err != nil {
		t.mu.Unlock()
		return verdict{}, &notAffordedError{err}
	}
	q := &question{done: make(chan struct{}), err: errors.New("the request was abandoned")}
	t.asking[key] = q
	t.mu.Unlock()
	// Others wait for this answer, so it must outlive the request that happened to ask first.
	client := r.Client
	t.asked.Go(func() {
		defer func() {
			t.mu.Lock()
			delete(t.asking, key)
			t.mu.Unlock()
			close(q.done)
		}()
		if q.verdict, q.err = t.ask(context.WithoutCancel(ctx), client, raw); q.err == nil {
			t.remember(key, q, raw, exp, dated)
		}
	})
	return q.wait(ctx)
}

func (q *question) wait(ctx context.Context) (verdict, error) {
	select {
	case <-q.done:
		return q.verdict, q.err
	case <-ctx.Done():
		return verdict{}, ctx.Err()
	}
}

// remember keeps the answer to a question for the next ones.
func (t *RemoteTokens) remember(key [sha256.Size]byte, q *question, raw string, exp time.Time, dated bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if q.verdict.refusal != nil {
		q.verdict.until = t.now().Add(t.service.RefusedCache)
		t.bad.put(key, q.verdict)
		return
	}
	p := q.verdict.principal
	if dated {
		p.Until = exp
	}
	p.again = t.again(p, raw)
	q.verdict.until = t.now().Add(t.service.Cache)
	if dated && exp.Before(q.verdict.until) {
		q.verdict.until = exp
	}
	t.good.put(key, q.verdict)
}

// Close waits for the questions under way, each of which has its time. Nothing may be asked any more.
func (t *RemoteTokens) Close() { t.asked.Wait() }

func (t *RemoteTokens) rememberedLocked(key [sha256.Size]byte) (verdict, bool) {
	for _, m := range []*verdicts{&t.good, &t.bad} {
		if v, ok := m.get(key); ok && t.now().Before(v.until) {
			return v, true
		}
	}
	return verdict{}, false
}

// notAffordedError is an error of Request.Afford.
type notAffordedError struct{ error }

// enter waits for one of a client's slots. leave gives it back.
func (t *RemoteTokens) enter(ctx context.Context, client netip.Addr) (leave func(), _ error) {
	t.mu.Lock()
	s := t.clients[client]
	if s == nil {
		s = &clientShare{slots: make(chan struct{}, clientQuestions)}
		t.clients[client] = s
	}
	s.users++
	t.mu.Unlock()
	done := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if s.users--; s.users == 0 {
			delete(t.clients, client)
		}
	}
	select {
	case s.slots <- struct{}{}:
		return func() { <-s.slots; done() }, nil
	case <-ctx.Done():
		done()
		return nil, fmt.Errorf("%d requests of this client are already in flight", clientQuestions)
	}
}

// ask asks the service about a token. An empty raw only checks that it answers.
func (t *RemoteTokens) ask(ctx context.Context, client netip.Addr, raw string) (verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, t.service.Timeout)
	defer cancel()
	leave, err := t.enter(ctx, client)
	if err != nil {
		return verdict{}, err
	}
	defer leave()
	select {
	case t.slots <- struct{}{}:
		defer func() { <-t.slots }()
	case <-ctx.Done():
		return verdict{}, fmt.Errorf("%d requests are already in flight", maxQuestions)
	}
	v, err := t.read(ctx, raw)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failing = err
	t.reached = t.reached || err == nil
	return v, err
}

func (t *RemoteTokens) read(ctx context.Context, raw string) (verdict, error) {
	at := strings.TrimSuffix(t.service.URL, "/") + "/authorize/admin/validateToken"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return verdict{}, err
	}
	req.Header.Set("Accept", "application/json")
	if raw != "" {
		req.Header.Set("Cookie", t.service.Cookie+"="+raw)
	}
	resp, err := t.client.Do(req)
	if err != nil {
		return verdict{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden {
		return verdict{refusal: refuse(MethodToken, "token service %s answered %s", t.service.Name, resp.Status)}, nil
	}
	if resp.StatusCode != http.StatusOK {
		return verdict{}, fmt.Errorf("%s answered %s; expected 200, or 401 for an invalid token", at, resp.Status)
	}
	body, err := readAtMost(resp.Body, maxVerdictBytes)
	if err != nil {
		return verdict{}, fmt.Errorf("%s: %w", at, err)
	}
	v, err := t.parse(body)
	if err != nil {
		return verdict{}, fmt.Errorf("%s: %w", at, err)
	}
	return v, nil
}

// parse decodes {"response":{"userId":"..","role":"A,B"},"errors":null}. Errors take precedence over a response.
func (t *RemoteTokens) parse(body []byte) (verdict, error) {
	const expected = `expected {"response":{"userId":"..","role":".."},"errors":null}`
	var answer struct {
		Response *struct {
			UserID string `json:"userId"`
			Role   string `json:"role"`
		} `json:"response"`
		Errors json.RawMessage `json:"errors"`
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	if err := dec.Decode(&answer); err != nil {
		return verdict{}, fmt.Errorf("unreadable response (%w); %s", err, expected)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return verdict{}, fmt.Errorf("data after the JSON; %s", expected)
	}
	switch said := string(bytes.TrimSpace(answer.Errors)); said {
	case "", "null", "[]":
	default:
		return verdict{refusal: refuse(MethodToken, "token service %s: %s", t.service.Name, clip(said))}, nil
	}
	if answer.Response == nil {
		return verdict{}, fmt.Errorf("neither response nor errors; %s", expected)
	}
	user := strings.TrimSpace(answer.Response.UserID)
	if user == "" || len(user) > 255 || strings.ContainsFunc(user, unicode.IsControl) {
		return verdict{}, fmt.Errorf("invalid userId %q; %s", clip(user), expected)
	}
	p := &Principal{Method: MethodToken, ID: identity("token-service:"+t.service.Name, user), Authority: t.service.Name, Subject: user, User: user}
	for role := range strings.SplitSeq(answer.Response.Role, ",") {
		if role = strings.TrimSpace(role); role != "" {
			p.Roles = append(p.Roles, role)
		}
	}
	return verdict{principal: p}, nil
}

// Run asks until the service has answered once, so that a missing service is known before the first caller arrives. It returns
// then, or when ctx ends.
func (t *RemoteTokens) Run(ctx context.Context) {
	for failures := 0; ; failures++ {
		if t.Ready() == nil {
			return
		}
		_, err := t.ask(ctx, netip.Addr{}, "")
		if err == nil || ctx.Err() != nil {
			return
		}
		t.log.Warn("a token service does not answer", "service", t.service.Name, "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(retryPause(failures, probeRetryMax)):
		}
	}
}

// Probe asks the service once, to check that it answers.
func (t *RemoteTokens) Probe(ctx context.Context) error {
	if _, err := t.ask(ctx, netip.Addr{}, ""); err != nil {
		return fmt.Errorf("token service %s: %w", t.service.Name, err)
	}
	return nil
}

// Ready returns nil once the service has answered.
func (t *RemoteTokens) Ready() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.reached:
		return nil
	case t.failing != nil:
		return fmt.Errorf("token service %s has not answered yet: %w", t.service.Name, t.failing)
	}
	return fmt.Errorf("token service %s has not answered yet", t.service.Name)
}

// Warning reports that the service, having answered before, does not answer now; else it is empty.
func (t *RemoteTokens) Warning() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.reached || t.failing == nil {
		return ""
	}
	return fmt.Sprintf("token service %s does not answer: %v", t.service.Name, t.failing)
}

// verdicts remembers up to 2 × maxVerdicts answers and never forgets the newest maxVerdicts.
type verdicts struct {
	now, before map[[sha256.Size]byte]verdict
}

func (m *verdicts) get(key [sha256.Size]byte) (verdict, bool) {
	if v, ok := m.now[key]; ok {
		return v, true
	}
	v, ok := m.before[key]
	return v, ok
}

func (m *verdicts) put(key [sha256.Size]byte, v verdict) {
	if m.now == nil || len(m.now) >= maxVerdicts {
		m.now, m.before = make(map[[sha256.Size]byte]verdict), m.now
	}
	m.now[key] = v
}
