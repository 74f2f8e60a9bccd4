package auth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
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

	"github.com/lestrrat-go/jwx/v3/jwk"
)

// Bounds of what is read of an issuer, and how often.
const (
	maxKeySetBytes  = 256 << 10
	maxKeys         = 50
	fetchTimeout    = 10 * time.Second
	refreshMin      = 5 * time.Minute
	refreshMax      = 15 * time.Minute
	retryMin        = time.Second
	retryMax        = 5 * time.Minute
	unknownKeyPause = 30 * time.Second // between two fetches that keys nobody knows cause
	staleKeys       = 24 * time.Hour   // how long keys are good when their issuer does not answer
)

// KeySource holds the public keys of one issuer: read at the start, then again every 5 to 15 minutes (as the
// issuer's Cache-Control says), and when a token names a key that is not known, at most once in 30 seconds however many
// such tokens come. When the issuer does not answer the keys stay good for 24 hours. Safe for concurrent use;
// Run must be running.
type KeySource struct {
	issuer Issuer
	client *http.Client
	log    *slog.Logger
	now    func() time.Time
	wake   chan chan struct{} // asks Run for a fetch; closed when it is done

	mu         sync.Mutex
	keys       []issuerKey
	readAt     time.Time // zero: never
	err        error     // of the last fetch
	unknownAt  time.Time // the last fetch that an unknown key caused
	inProgress chan struct{}
}

type issuerKey struct {
	kid, alg string
	key      crypto.PublicKey
}

// NewKeySource makes a source that has read nothing yet. client decides which hosts may be called and must not
// follow redirects to others.
func NewKeySource(is Issuer, client *http.Client, log *slog.Logger, now func() time.Time) *KeySource {
	return &KeySource{issuer: is, client: client, log: log, now: now, wake: make(chan chan struct{}, 1)}
}

// Run reads the keys and keeps them fresh until ctx ends.
func (s *KeySource) Run(ctx context.Context) {
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
			s.log.Warn("an issuer's keys could not be read", "issuer", s.issuer.Name, "error", err)
			next = min(retryMax, retryMin<<min(failures, 16))
			next = next/2 + rand.N(next/2+1)
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

// Probe reads the keys once, for who wants to know whether they can be had.
func (s *KeySource) Probe(ctx context.Context) error {
	if _, err := s.fetch(ctx); err != nil {
		return fmt.Errorf("issuer %s: keys cannot be read: %w", s.issuer.Name, err)
	}
	return nil
}

// Ready is nil once keys are there that are not stale.
func (s *KeySource) Ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ready()
}

func (s *KeySource) ready() error {
	switch {
	case s.readAt.IsZero() && s.err != nil:
		return fmt.Errorf("issuer %s: keys not read yet: %w", s.issuer.Name, s.err)
	case s.readAt.IsZero():
		return fmt.Errorf("issuer %s: keys not read yet", s.issuer.Name)
	case s.now().Sub(s.readAt) > staleKeys:
		return fmt.Errorf("issuer %s: keys were last read at %s, which is too long ago: %w", s.issuer.Name, s.readAt.UTC().Format(time.RFC3339), s.err)
	}
	return nil
}

// Key is the key that verifies a token with the given header. It waits for one fetch at most.
func (s *KeySource) Key(ctx context.Context, kid, alg string) (crypto.PublicKey, error) {
	key, wait, err := s.find(kid, alg, true)
	if wait == nil {
		return key, err
	}
	select {
	case <-wait:
	case <-ctx.Done():
		return nil, fmt.Errorf("issuer %s: %w: %w", s.issuer.Name, ErrUnavailable, ctx.Err())
	}
	key, _, err = s.find(kid, alg, false)
	return key, err
}

// find looks the key up. With mayAsk it starts a fetch for a key that is not there, unless one was made lately; wait is
// closed when that one is through.
func (s *KeySource) find(kid, alg string, mayAsk bool) (_ crypto.PublicKey, wait <-chan struct{}, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.ready(); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	var found []issuerKey
	for _, k := range s.keys {
		if (kid == "" || k.kid == kid) && fits(k, alg) {
			found = append(found, k)
		}
	}
	switch {
	case len(found) == 1:
		return found[0].key, nil, nil
	case len(found) > 1:
		return nil, nil, refuse(MethodToken, "names no kid, and issuer %s has %d keys for %s", s.issuer.Name, len(found), alg)
	case s.inProgress != nil && mayAsk:
		return nil, s.inProgress, nil
	case mayAsk && s.now().Sub(s.unknownAt) >= unknownKeyPause:
		done := make(chan struct{})
		select {
		case s.wake <- done:
			s.unknownAt = s.now()
			s.inProgress = done
			return nil, done, nil
		default:
		}
	}
	return nil, nil, refuse(MethodToken, "key %q for %s is not among those of issuer %s", clip(kid), alg, s.issuer.Name)
}

// fits tells whether a key can verify alg: the algorithm must belong to the key's type, whatever the token says.
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

// fetch reads the key set and tells when to do so again.
func (s *KeySource) fetch(ctx context.Context) (next time.Duration, err error) {
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

func (s *KeySource) read(ctx context.Context) ([]issuerKey, time.Duration, error) {
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
			return nil, 0, fmt.Errorf("%s names the issuer %q; expected %q, exactly", where, clip(doc.Issuer), s.issuer.URL)
		}
		if err := checkEndpoint(doc.KeysURL); err != nil {
			return nil, 0, fmt.Errorf("%s: jwks_uri: %w", where, err)
		}
		at = doc.KeysURL
	}
	body, head, err := s.get(ctx, at)
	if err != nil {
		return nil, 0, err
	}
	keys, err := parseKeys(body)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", at, err)
	}
	return keys, freshFor(head), nil
}

func (s *KeySource) get(ctx context.Context, at string) ([]byte, http.Header, error) {
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
		return nil, nil, fmt.Errorf("%s answers %s; expected 200", at, resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxKeySetBytes+1))
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", at, err)
	}
	if len(body) > maxKeySetBytes {
		return nil, nil, fmt.Errorf("%s is larger than %d bytes", at, maxKeySetBytes)
	}
	return body, resp.Header, nil
}

// parseKeys keeps the public signature keys of a set. A set that names one key twice, or holds a key too weak, is
// refused as a whole: something is wrong with it. (jwx refuses RSA below 2048 bits.)
func parseKeys(body []byte) ([]issuerKey, error) {
	set, err := jwk.Parse(body, jwk.WithMaxKeys(maxKeys), jwk.WithRejectDuplicateKID(true))
	if err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	var out []issuerKey
	for i := range set.Len() {
		k, _ := set.Key(i)
		if use, ok := k.KeyUsage(); ok && use != "sig" {
			continue
		}
		public, err := k.PublicKey()
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
		var raw any
		if err := jwk.Export(public, &raw); err != nil {
			continue // of a type that signs nothing here
		}
		kid, _ := k.KeyID()
		ik := issuerKey{kid: kid}
		if alg, ok := k.Algorithm(); ok {
			ik.alg = alg.String()
		}
		switch key := raw.(type) {
		case *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey:
			ik.key = key
		default:
			continue // symmetric keys verify nothing that others could not have made
		}
		out = append(out, ik)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no public signature key among the %d keys", set.Len())
	}
	return out, nil
}

// freshFor is the issuer's max-age within our bounds.
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

// checkEndpoint demands https; plain http is for issuers on this machine, as tests and development have them.
func checkEndpoint(raw string) error {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.Fragment != "":
		return fmt.Errorf("%q is no absolute URL; expected https://host/path", clip(raw))
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && slices.Contains([]string{"127.0.0.1", "::1", "localhost"}, u.Hostname()):
		return nil
	}
	return fmt.Errorf("%q: expected https (http only on this machine)", clip(raw))
}
