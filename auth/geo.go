package auth

import (
	"context"
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // only for keys configured with it
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// GEOAuth configures GEO-Auth, an older scheme of signed requests that some callers still use. Its signature covers neither
// method nor path nor host; RFC 9421 (SignedRequests) covers all three.
type GEOAuth struct {
	// MaxAge is how far in the future geo-expires-by may be; default: 5m.
	MaxAge time.Duration `yaml:"max_age"`
	Keys   []GEOKey      `yaml:"keys"`
}

// GEOKey is a shared key of GEO-Auth.
type GEOKey struct {
	ID     string       `yaml:"id"`
	Secret SecretSource `yaml:",inline"`
	// Algorithm is sha512 (the default), sha256, or sha1 for callers that cannot do better.
	Algorithm string `yaml:"algorithm"`
	// NonceLength replaces UUID nonces by exactly so many letters, digits and dashes. With a variable length, somebody on the
	// way could move the boundary between nonce and body.
	NonceLength int `yaml:"nonce_length"`
	// Usernames are the users the key may speak for; empty: none, so its requests must not name any. SourceSystem, which also is
	// the client's name, and TargetSystem must match the request unless they are
	// empty.
	Usernames    []string `yaml:"usernames"`
	SourceSystem string   `yaml:"source_system"`
	TargetSystem string   `yaml:"target_system"`
	Scopes       []string `yaml:"scopes"`
	Roles        []string `yaml:"roles"`

	secret []byte
}

const geoSkew = 5 * time.Second

var (
	uuidForm  = regexp.MustCompile(`^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$`)
	nonceForm = regexp.MustCompile(`^[0-9A-Za-z-]+$`)
)

func (g *GEOAuth) check() error {
	if g.MaxAge == 0 {
		g.MaxAge = 5 * time.Minute
	}
	if g.MaxAge < time.Second || g.MaxAge > time.Hour {
		return fmt.Errorf("max_age: %s; expected 1s to 1h", g.MaxAge)
	}
	if len(g.Keys) == 0 {
		return fmt.Errorf("keys: is empty; expected at least one key")
	}
	seen := map[string]bool{}
	for i := range g.Keys {
		k := &g.Keys[i]
		where := fmt.Sprintf("keys[%d] (%s)", i, k.ID)
		if k.ID == "" || seen[k.ID] {
			return fmt.Errorf("%s: the id is empty or a duplicate", where)
		}
		seen[k.ID] = true
		switch k.Algorithm {
		case "":
			k.Algorithm = "sha512"
		case "sha512", "sha256", "sha1":
		default:
			return fmt.Errorf("%s: algorithm: %q; expected sha512, sha256 or sha1", where, k.Algorithm)
		}
		if k.NonceLength != 0 && (k.NonceLength < 16 || k.NonceLength > maxNonceBytes) {
			return fmt.Errorf("%s: nonce_length: %d; expected 16 to %d", where, k.NonceLength, maxNonceBytes)
		}
		var err error
		if k.secret, err = k.Secret.read(minSecretBytes); err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
	}
	return nil
}

// GEO authenticates requests signed with GEO-Auth: in the query of a GET, in the header GEO-Auth (or Authorization: GEO-Auth)
// of a POST.
type GEO struct {
	settings GEOAuth
	keys     map[string]*GEOKey
	nonces   Nonces
	now      func() time.Time
}

// NewGEO makes an Authenticator from checked settings. now is the clock.
func NewGEO(s GEOAuth, nonces Nonces, now func() time.Time) *GEO {
	g := &GEO{settings: s, keys: make(map[string]*GEOKey), nonces: nonces, now: now}
	for i := range s.Keys {
		g.keys[s.Keys[i].ID] = &s.Keys[i]
	}
	return g
}

// Challenge names the scheme.
func (g *GEO) Challenge() string { return `GEO-Auth realm="quorumhub"` }

// Authenticate checks form, key, time and signature, in this order. The nonce is claimed by Request.Settle.
func (g *GEO) Authenticate(_ context.Context, r *Request) (*Principal, error) {
	claimed, err := geoClaimOf(r)
	if err != nil {
		return nil, err
	}
	key := g.keys[claimed.fields["geo-key-id"]]
	if key == nil {
		return nil, refuse(MethodGEO, "key %q is not in the settings", clip(claimed.fields["geo-key-id"]))
	}
	expires, err := g.checkFields(claimed, key)
	if err != nil {
		return nil, err
	}
	if err := r.afford(); err != nil {
		return nil, err
	}
	if claimed.withBody {
		body, err := r.Body()
		if err != nil {
			return nil, err
		}
		claimed.signed += string(body)
	}
	if !key.verify(claimed.signed, claimed.signature) {
		return nil, refuse(MethodGEO, "invalid signature with key %s", key.ID)
	}
	r.Settle = claimLater(g.nonces, MethodGEO, key.principal(""), key.ID, claimed.fields["geo-nonce"], expires.Add(geoSkew))
	return &Principal{Method: MethodGEO, ID: key.principal(claimed.fields["geo-username"]), Subject: key.ID, User: claimed.fields["geo-username"], Client: key.SourceSystem,
		Scopes: key.Scopes, Roles: key.Roles, GEO: &GEONames{claimed.fields["geo-username"],
			claimed.fields["geo-source-system-name"], claimed.fields["geo-target-system-name"]}}, nil
}

func (g *GEO) checkFields(c *geoClaim, key *GEOKey) (expires time.Time, _ error) {
	nonce := c.fields["geo-nonce"]
	switch {
	case key.NonceLength == 0 && !uuidForm.MatchString(nonce):
		return expires, refuse(MethodGEO, "geo-nonce with key %s is not a UUID", key.ID)
	case key.NonceLength != 0 && (len(nonce) != key.NonceLength || !nonceForm.MatchString(nonce)):
		return expires, refuse(MethodGEO, "geo-nonce with key %s is not %d letters, digits and dashes", key.ID, key.NonceLength)
	}
	text := c.fields["geo-expires-by"]
	ms, err := strconv.ParseUint(text, 10, 63)
	if err != nil || len(text) > 15 { // 15 digits last until the year 33658
		return expires, refuse(MethodGEO, "geo-expires-by is not a number of milliseconds")
	}
	expires = time.UnixMilli(int64(ms))
	now := g.now()
	switch {
	case now.After(expires.Add(geoSkew)):
		return expires, refuse(MethodGEO, "expired at %s", expires.UTC().Format(time.RFC3339))
	case expires.Sub(now) > g.settings.MaxAge:
		return expires, refuse(MethodGEO, "valid until %s, which is more than %s ahead", expires.UTC().Format(time.RFC3339), g.settings.MaxAge)
	}
	for _, f := range []struct{ name, want string }{{"geo-source-system-name", key.SourceSystem}, {"geo-target-system-name", key.TargetSystem}} {
		if f.want != "" && c.fields[f.name] != f.want {
			return expires, refuse(MethodGEO, "%s %q, but key %s is for %q", f.name, clip(c.fields[f.name]), key.ID, f.want)
		}
	}
	if user := c.fields["geo-username"]; user != "" && !slices.Contains(key.Usernames, user) {
		return expires, refuse(MethodGEO, "key %s may not speak for user %q, which its usernames do not list", key.ID, clip(user))
	}
	return expires, nil
}

// principal returns the ID of the key or, if it speaks for one, of its user.
func (k *GEOKey) principal(user string) string {
	id := identity("signed:geo-auth", strings.NewReplacer("%", "%25", "/", "%2F").Replace(k.ID))
	if user == "" {
		return id
	}
	return identity(id, user)
}

// verify checks a signature in hex, base64 or base64url.
func (k *GEOKey) verify(signed, signature string) bool {
	var mac hash.Hash
	switch k.Algorithm {
	case "sha1":
		mac = hmac.New(sha1.New, k.secret)
	case "sha256":
		mac = hmac.New(sha256.New, k.secret)
	default:
		mac = hmac.New(sha512.New, k.secret)
	}
	mac.Write([]byte(signed))
	want := mac.Sum(nil)
	var got []byte
	var err error
	if len(signature) == 2*len(want) {
		got, err = hex.DecodeString(signature)
	} else {
		text := strings.TrimRight(strings.NewReplacer("-", "+", "_", "/").Replace(signature), "=")
		got, err = base64.RawStdEncoding.DecodeString(text)
	}
	return err == nil && hmac.Equal(got, want)
}
