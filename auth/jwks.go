package auth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jws"
)

// Limits on what is read from an issuer, and how often.
const (
	maxKeySetBytes  = 256 << 10
	fetchTimeout    = 10 * time.Second
	refreshMin      = 5 * time.Minute
	refreshMax      = 15 * time.Minute
	retryMin        = time.Second
	retryMax        = 5 * time.Minute
	unknownKeyPause = 30 * time.Second // between fetches caused by unknown keys
	issuerKeyPause  = time.Second      // the same, in tokens that the issuer itself has just handed over
	staleKeys       = 24 * time.Hour   // how long keys stay valid while their issuer does not answer
)

// KeySet holds the public keys of one issuer (RFC 7517). It reads them at the start, again every 5 to 15 minutes as the issuer's
// Cache-Control says, and when a token names an unknown key, but at most once in 30 seconds however many such tokens arrive.
// While the issuer does not answer, the keys stay valid for 24 hours. Safe for concurrent use while Run runs.
type KeySet struct {
	issuer Issuer
	client *http.Client
	log    *slog.Logger
	now    func() time.Time
	wake   chan chan struct{} // asks Run for a fetch, which closes the channel when done

	reported string // of the last fetch; Run and Probe, which are not called at once, own it

	mu         sync.Mutex
	keys       []issuerKey
	readAt     time.Time // zero: never read
	err        error     // of the last fetch
	unknownAt  time.Time // when an unknown key last caused a fetch
	handedAt   time.Time // the same, in a token from the issuer itself
	inProgress chan struct{}
}

type issuerKey struct {
	kid, alg string
	key      crypto.PublicKey
}

// NewKeySet makes an empty KeySet. client decides which hosts may be called and must not follow redirects to others.
func NewKeySet(is Issuer, client *http.Client, log *slog.Logger, now func() time.Time) *KeySet {
	return &KeySet{issuer: is, client: client, log: log, now: now, wake: make(chan chan struct{}, 1)}
}

// Run reads the keys and keeps them fresh until ctx ends.
func (s *KeySet) Run(ctx context.Context) {
	failures := 0
	var asked chan struct{}
	for {
		next, err := s.fetch(ctx)
		if asked != nil {
			close(asked)
			asked = nil
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			s.log.Warn("cannot read an issuer's keys", "issuer", s.issuer.Name, "error", err)
			next = retryPause(failures, retryMax)
			failures++
		default:
			failures = 0
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case asked = <-s.wake:
			timer.Stop()
		}
	}
}

// Probe reads the keys once, to check that they can be read.
func (s *KeySet) Probe(ctx context.Context) error {
	if _, err := s.fetch(ctx); err != nil {
		return fmt.Errorf("issuer %s: cannot read keys: %w", s.issuer.Name, err)
	}
	return nil
}

// Ready returns nil once the keys are read and while they are not stale.
func (s *KeySet) Ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.readyLocked()
}

// Await is Ready, but while the keys were never read it has them asked for, at most once a second, and waits for that until ctx ends.
// Otherwise whoever starts while the issuer is silent would have to wait for the next try, long after the issuer has come back.
func (s *KeySet) Await(ctx context.Context) error {
	s.mu.Lock()
	err, wait := s.readyLocked(), s.inProgress
	if err != nil && wait == nil && s.now().Sub(s.handedAt) >= issuerKeyPause {
		done := make(chan struct{})
		select {
		case s.wake <- done:
			s.handedAt, s.inProgress, wait = s.now(), done, done
		default:
		}
	}
	s.mu.Unlock()
	if err == nil || wait == nil {
		return err
	}
	select {
	case <-wait:
	case <-ctx.Done():
	}
	return s.Ready()
}

func (s *KeySet) readyLocked() error {
	switch {
	case s.readAt.IsZero() && s.err != nil:
		return fmt.Errorf("issuer %s: keys not read yet: %w", s.issuer.Name, s.err)
	case s.readAt.IsZero():
		return fmt.Errorf("issuer %s: keys not read yet", s.issuer.Name)
	case s.now().Sub(s.readAt) > staleKeys:
		return fmt.Errorf("issuer %s: stale keys, last read at %s: %w", s.issuer.Name, s.readAt.UTC().Format(time.RFC3339), s.err)
	}
	return nil
}

// Keys returns the keys that may have signed a token with the given kid and alg: one, or more if the issuer gave them one kid. It
// waits for one fetch at most.
func (s *KeySet) Keys(ctx context.Context, kid, alg string) ([]crypto.PublicKey, error) {
	return s.wait(ctx, kid, alg, &s.unknownAt, unknownKeyPause)
}

// Verify checks the signature of a JWS in compact form, whose header names kid and alg. direct says that it came from the issuer itself
// over a connection that the hub opened: then an unknown key causes a fetch whatever strangers have sent. Errors are *RefusalError, or
// ErrUnavailable (wrapped).
func (s *KeySet) Verify(ctx context.Context, raw, kid, alg string, direct bool) error {
	last, pause := &s.unknownAt, unknownKeyPause
	if direct {
		last, pause = &s.handedAt, issuerKeyPause
	}
	keys, err := s.wait(ctx, kid, alg, last, pause)
	if err != nil {
		if trouble := s.trouble(); direct && trouble != nil && !errors.Is(err, ErrUnavailable) {
			return fmt.Errorf("issuer %s: %w: its keys cannot be read: %w", s.issuer.Name, ErrUnavailable, trouble)
		}
		return err
	}
	algorithm, _ := jwa.LookupSignatureAlgorithm(alg)
	for _, key := range keys {
		if _, err := jws.VerifyCompactFast(key, []byte(raw), algorithm); err == nil {
			return nil
		}
	}
	return refuse(MethodToken, "invalid signature for issuer %s", s.issuer.Name)
}

// rest waits until a fetch is allowed again.
func (s *KeySet) rest(ctx context.Context, last *time.Time, pause time.Duration) {
	s.mu.Lock()
	left := pause - s.now().Sub(*last)
	s.mu.Unlock()
	timer := time.NewTimer(min(left, pause))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// trouble returns the error of the last fetch.
func (s *KeySet) trouble() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *KeySet) wait(ctx context.Context, kid, alg string, last *time.Time, pause time.Duration) ([]crypto.PublicKey, error) {
	keys, wait, err := s.find(kid, alg, last, pause)
	var refused *RefusalError
	if pause == issuerKeyPause && wait == nil && errors.As(err, &refused) {
		s.rest(ctx, last, pause) // the key may be newer than the last fetch, and nobody but the issuer can have named it
		keys, wait, err = s.find(kid, alg, last, pause)
	}
	if wait == nil {
		return keys, err
	}
	select {
	case <-wait:
	case <-ctx.Done():
		return nil, fmt.Errorf("issuer %s: %w: %w", s.issuer.Name, ErrUnavailable, ctx.Err())
	}
	keys, _, err = s.find(kid, alg, nil, 0)
	return keys, err
}

// find looks up keys. With last, when the caller's kind last did so, it starts a fetch for an unknown key, unless that was within pause;
// wait is closed when the fetch ends.
func (s *KeySet) find(kid, alg string, last *time.Time, pause time.Duration) (_ []crypto.PublicKey, wait <-chan struct{}, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.readyLocked(); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	var found []crypto.PublicKey
	for _, k := range s.keys {
		if (kid == "" || k.kid == kid) && fits(k, alg) {
			found = append(found, k.key)
		}
	}
	switch {
	case len(found) == 1, len(found) > 1 && kid != "":
		return found, nil, nil
	case len(found) > 1:
		return nil, nil, refuse(MethodToken, "no kid, and issuer %s has %d keys for %s", s.issuer.Name, len(found), alg)
	case s.inProgress != nil && last != nil:
		return nil, s.inProgress, nil
	case last != nil && s.now().Sub(*last) >= pause:
		done := make(chan struct{})
		select {
		case s.wake <- done:
			*last = s.now()
			s.inProgress = done
			return nil, done, nil
		default:
		}
	}
	return nil, nil, refuse(MethodToken, "issuer %s has no key %q for %s", s.issuer.Name, clip(kid), alg)
}

// fits reports whether a key can verify alg: the key's type decides, whatever the token says.
func fits(k issuerKey, alg string) bool {
	if k.alg != "" && k.alg != alg {
		return false
	}
	switch key := k.key.(type) {
	case *rsa.PublicKey:
		return strings.HasPrefix(alg, "RS") || strings.HasPrefix(alg, "PS")
	case *ecdsa.PublicKey:
		return alg == map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}[key.Curve.Params().BitSize]
	case ed25519.PublicKey:
		return alg == "EdDSA" || alg == "Ed25519"
	}
	return false
}

// fetch reads the key set and returns when to read it again.
func (s *KeySet) fetch(ctx context.Context) (next time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	keys, next, err := s.read(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
	s.inProgress = nil
	if err == nil {
		s.keys, s.readAt = keys, s.now()
	}
	return next, err
}

func (s *KeySet) read(ctx context.Context) ([]issuerKey, time.Duration, error) {
	at := s.issuer.KeysURL
	if at == "" {
		var doc struct {
			Issuer  string `json:"issuer"`
			KeysURL string `json:"jwks_uri"`
		}
		where := strings.TrimSuffix(s.issuer.URL, "/") + "/.well-known/openid-configuration"
		body, _, err := s.get(ctx, where)
		if err != nil {
			return nil, 0, err
		}
		if err := json.Unmarshal(body, &doc); err != nil {
			return nil, 0, fmt.Errorf("%s: %w", where, err)
		}
		if doc.Issuer != s.issuer.URL {
			return nil, 0, fmt.Errorf("%s names the issuer %q; expected exactly %q", where, clip(doc.Issuer), s.issuer.URL)
		}
		if err := CheckEndpoint(doc.KeysURL); err != nil {
			return nil, 0, fmt.Errorf("%s: jwks_uri: %w", where, err)
		}
		at = doc.KeysURL
	}
	body, head, err := s.get(ctx, at)
	if err != nil {
		return nil, 0, err
	}
	keys, skipped, err := parseKeys(body)
	s.report(skipped)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", at, err)
	}
	return keys, freshFor(head), nil
}

// report warns of keys that are not used, once for as long as they are the same.
func (s *KeySet) report(skipped []string) {
	text := strings.Join(skipped, "; ")
	if text != "" && text != s.reported {
		s.log.Warn("some of an issuer's keys are not used", "issuer", s.issuer.Name, "keys", text)
	}
	s.reported = text
}

func (s *KeySet) get(ctx context.Context, at string) ([]byte, http.Header, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("%s answered %s; expected 200", at, resp.Status)
	}
	body, err := readAtMost(resp.Body, maxKeySetBytes)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", at, err)
	}
	return body, resp.Header, nil
}

// retryPause returns how long to wait after a number of failures: exponential with jitter, longest at most.
func retryPause(failures int, longest time.Duration) time.Duration {
	pause := min(longest, retryMin<<min(failures, 16))
	return pause/2 + rand.N(pause/2+1)
}

func readAtMost(r io.Reader, limit int64) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(body)) > limit {
		return nil, fmt.Errorf("larger than %d bytes", limit)
	}
	return body, err
}

// freshFor returns the issuer's max-age, clamped to refreshMin and refreshMax.
func freshFor(h http.Header) time.Duration {
	for part := range strings.SplitSeq(h.Get("Cache-Control"), ",") {
		if v, ok := strings.CutPrefix(strings.TrimSpace(strings.ToLower(part)), "max-age="); ok {
			if n, err := strconv.ParseInt(v, 10, 32); err == nil {
				return min(max(time.Duration(n)*time.Second, refreshMin), refreshMax)
			}
		}
	}
	return refreshMax
}

// CheckEndpoint reports whether a URL may be called or be sent to: it requires https, or http on this machine for tests and development.
func CheckEndpoint(raw string) error {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.Fragment != "":
		return fmt.Errorf("%q is not an absolute URL; expected https://host/path", clip(raw))
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && slices.Contains([]string{"127.0.0.1", "::1", "localhost"}, u.Hostname()):
		return nil
	}
	return fmt.Errorf("%q: expected https; http is allowed only on this machine", clip(raw))
}
