package auth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dunglas/httpsfv"
)

// SignedRequests configures HTTP Message Signatures (RFC 9421).
type SignedRequests struct {
	// Tag is the tag a signature must have; default: websub-hub.
	Tag string `yaml:"tag"`
	// MaxAge bounds the time between a signature's created and expires; default: 5m.
	MaxAge time.Duration `yaml:"max_age"`
	Keys   []SigningKey  `yaml:"keys"`
}

// SigningKey is a key that requests may be signed with.
type SigningKey struct {
	ID string `yaml:"id"`
	// Algorithm is hmac-sha256, ed25519, ecdsa-p256-sha256, ecdsa-p384-sha384 or rsa-pss-sha512. It belongs to the key: a
	// request may repeat it but not choose another.
	Algorithm     string       `yaml:"algorithm"`
	PublicKeyFile string       `yaml:"public_key_file"`
	Secret        SecretSource `yaml:",inline"`
	// Subject is who signs with the key; empty: its ID. Rules may refer to User, Scopes and Roles.
	Subject string   `yaml:"subject"`
	User    string   `yaml:"user"`
	Scopes  []string `yaml:"scopes"`
	Roles   []string `yaml:"roles"`

	public crypto.PublicKey
	secret []byte
}

const (
	signatureSkew   = 5 * time.Second
	minSecretBytes  = 32
	maxNonceBytes   = 128
	maxSignatureLen = 4 << 10 // of each of the two header fields
)

func (s *SignedRequests) check() error {
	if s.Tag == "" {
		s.Tag = "websub-hub"
	}
	if s.MaxAge == 0 {
		s.MaxAge = 5 * time.Minute
	}
	if s.MaxAge < time.Second || s.MaxAge > time.Hour {
		return fmt.Errorf("max_age: %s; expected 1s to 1h", s.MaxAge)
	}
	if len(s.Keys) == 0 {
		return fmt.Errorf("keys: is empty; expected at least one key")
	}
	seen := map[string]bool{}
	for i := range s.Keys {
		k := &s.Keys[i]
		if k.ID == "" || len(k.ID) > 256 || seen[k.ID] {
			return fmt.Errorf("keys[%d]: id %q is empty, too long or a duplicate", i, k.ID)
		}
		seen[k.ID] = true
		if err := k.load(); err != nil {
			return fmt.Errorf("keys[%d] (%s): %w", i, k.ID, err)
		}
	}
	return nil
}

func (k *SigningKey) load() (err error) {
	switch k.Algorithm {
	case "hmac-sha256":
		if k.PublicKeyFile != "" {
			return fmt.Errorf("public_key_file: hmac-sha256 needs secret_file or secret_env instead")
		}
		k.secret, err = k.Secret.read(minSecretBytes)
	case "ed25519", "ecdsa-p256-sha256", "ecdsa-p384-sha384", "rsa-pss-sha512":
		if k.Secret != (SecretSource{}) {
			return fmt.Errorf("%s needs public_key_file and no secret", k.Algorithm)
		}
		k.public, err = readPublicKey(k.PublicKeyFile, k.Algorithm)
	default:
		return fmt.Errorf("algorithm: %q; expected hmac-sha256, ed25519, ecdsa-p256-sha256, ecdsa-p384-sha384 or rsa-pss-sha512", k.Algorithm)
	}
	if k.Subject == "" {
		k.Subject = k.ID
	}
	return err
}

// Signatures authenticates requests signed with RFC 9421. A signature must cover @method, @authority, @path and @query, and with
// a body also content-digest (RFC 9530) and content-type. It must have the parameters created, expires, nonce, keyid and tag. No
// component may have parameters. The nonce is claimed by Request.Settle.
type Signatures struct {
	settings SignedRequests
	keys     map[string]*SigningKey
	nonces   Nonces
	now      func() time.Time
}

// NewSignatures makes an Authenticator from checked settings. now is the clock.
func NewSignatures(s SignedRequests, nonces Nonces, now func() time.Time) *Signatures {
	a := &Signatures{settings: s, keys: make(map[string]*SigningKey), nonces: nonces, now: now}
	for i := range s.Keys {
		a.keys[s.Keys[i].ID] = &s.Keys[i]
	}
	return a
}

// Challenge is empty: RFC 9421 defines none for WWW-Authenticate.
func (a *Signatures) Challenge() string { return "" }

// Authenticate checks the request's signature.
func (a *Signatures) Authenticate(_ context.Context, r *Request) (*Principal, error) {
	if r.HTTP.Header["Signature-Input"] == nil && r.HTTP.Header["Signature"] == nil {
		return nil, ErrNotMine
	}
	input, signature, err := a.pick(r.HTTP.Header)
	if err != nil {
		return nil, err
	}
	p, err := signatureParams(input)
	if err != nil {
		return nil, err
	}
	if err := a.checkParams(p); err != nil {
		return nil, err
	}
	key := a.keys[p.keyID]
	if key == nil {
		return nil, refuse(MethodSignature, "key %q is not in the settings", clip(p.keyID))
	}
	if p.alg != "" && p.alg != key.Algorithm {
		return nil, refuse(MethodSignature, "alg %q; key %s is for %s", clip(p.alg), key.ID, key.Algorithm)
	}
	if err := r.afford(); err != nil {
		return nil, err
	}
	base, covered, err := signatureBase(r, input)
	if err != nil {
		return nil, err
	}
	if !key.verify([]byte(base), signature) {
		return nil, refuse(MethodSignature, "invalid signature with key %s", key.ID)
	}
	body, err := r.Body() // only now: it costs memory and time
	if err != nil {
		return nil, err
	}
	if len(body) > 0 {
		if err := mustCover(covered, "content-digest", "content-type"); err != nil {
			return nil, err
		}
	}
	// Also without a body, so that removing one on the way is noticed.
	if len(body) > 0 || r.HTTP.Header["Content-Digest"] != nil {
		if err := checkDigest(r.HTTP.Header, body); err != nil {
			return nil, err
		}
	}
	r.Settle = claimLater(a.nonces, MethodSignature, identity("signed:rfc9421", key.ID), key.ID, p.nonce, p.expires.Add(signatureSkew))
	return &Principal{Method: MethodSignature, ID: identity("signed:rfc9421", key.ID), Subject: key.Subject, User: key.User, Scopes: key.Scopes, Roles: key.Roles}, nil
}

// pick returns the only signature with the hub's tag. Signatures with other tags are for somebody else.
func (a *Signatures) pick(h http.Header) (httpsfv.InnerList, []byte, error) {
	var none httpsfv.InnerList
	for _, name := range []string{"Signature-Input", "Signature"} {
		n := 0
		for _, v := range h[name] {
			n += len(v)
		}
		if n > maxSignatureLen {
			return none, nil, refuse(MethodSignature, "%s of %d bytes; expected at most %d", name, n, maxSignatureLen)
		}
	}
	inputs, err := httpsfv.UnmarshalDictionary(h["Signature-Input"])
	if err != nil {
		return none, nil, refuse(MethodSignature, "Signature-Input: %v", err)
	}
	signatures, err := httpsfv.UnmarshalDictionary(h["Signature"])
	if err != nil {
		return none, nil, refuse(MethodSignature, "Signature: %v", err)
	}
	var found *httpsfv.InnerList
	var label string
	for _, name := range inputs.Names() {
		member, _ := inputs.Get(name)
		list, ok := member.(httpsfv.InnerList)
		if !ok {
			return none, nil, refuse(MethodSignature, "Signature-Input %s is not an inner list", clip(name))
		}
		if tag, _ := list.Params.Get("tag"); tag != a.settings.Tag {
			continue
		}
		if found != nil {
			return none, nil, refuse(MethodSignature, "more than one signature with tag %q", a.settings.Tag)
		}
		found, label = &list, name
	}
	if found == nil {
		return none, nil, refuse(MethodSignature, "no signature with tag %q", a.settings.Tag)
	}
	member, _ := signatures.Get(label)
	item, ok := member.(httpsfv.Item)
	if !ok {
		return none, nil, refuse(MethodSignature, "Signature has no item %s", clip(label))
	}
	raw, ok := item.Value.([]byte)
	if !ok {
		return none, nil, refuse(MethodSignature, "Signature %s is not a byte sequence", clip(label))
	}
	return *found, raw, nil
}

type params struct {
	created, expires          time.Time
	nonce, keyID, alg, tagged string
}

// signatureParams reads the parameters. Their types must be those of RFC 9421 section 2.3.
func signatureParams(input httpsfv.InnerList) (params, error) {
	var p params
	for _, name := range input.Params.Names() {
		v, _ := input.Params.Get(name)
		var ok bool
		switch name {
		case "created":
			p.created, ok = unixTime(v)
		case "expires":
			p.expires, ok = unixTime(v)
		case "nonce":
			p.nonce, ok = v.(string)
		case "keyid":
			p.keyID, ok = v.(string)
		case "alg":
			p.alg, ok = v.(string)
		case "tag":
			p.tagged, ok = v.(string)
		default:
			return p, refuse(MethodSignature, "unknown parameter %q", clip(name))
		}
		if !ok {
			return p, refuse(MethodSignature, "parameter %s has the wrong type", name)
		}
	}
	return p, nil
}

func unixTime(v any) (time.Time, bool) {
	n, ok := v.(int64)
	if !ok || n < 0 || n > 1<<40 {
		return time.Time{}, false
	}
	return time.Unix(n, 0), true
}

func (a *Signatures) checkParams(p params) error {
	now := a.now()
	switch {
	case p.created.IsZero() || p.expires.IsZero() || p.nonce == "" || p.keyID == "":
		return refuse(MethodSignature, "created, expires, nonce or keyid is missing")
	case len(p.nonce) > maxNonceBytes:
		return refuse(MethodSignature, "nonce of %d bytes; expected at most %d", len(p.nonce), maxNonceBytes)
	case p.created.After(now.Add(signatureSkew)):
		return refuse(MethodSignature, "created in the future, at %s", p.created.UTC().Format(time.RFC3339))
	case now.After(p.expires.Add(signatureSkew)):
		return refuse(MethodSignature, "expired at %s", p.expires.UTC().Format(time.RFC3339))
	case p.expires.Sub(p.created) > a.settings.MaxAge || !p.expires.After(p.created):
		return refuse(MethodSignature, "valid for %s; expected at most %s", p.expires.Sub(p.created), a.settings.MaxAge)
	}
	return nil
}

// signatureBase builds the text that was signed (RFC 9421 section 2.5).
func signatureBase(r *Request, input httpsfv.InnerList) (base string, covered []string, err error) {
	var b strings.Builder
	for _, item := range input.Items {
		name, ok := item.Value.(string)
		if !ok || len(item.Params.Names()) > 0 {
			return "", nil, refuse(MethodSignature, "a component is not a string or has parameters")
		}
		if slices.Contains(covered, name) {
			return "", nil, refuse(MethodSignature, "duplicate component %q", clip(name))
		}
		covered = append(covered, name)
		value, err := component(r, name)
		if err != nil {
			return "", nil, err
		}
		b.WriteString(strconv.Quote(name))
		b.WriteString(": ")
		b.WriteString(value)
		b.WriteByte('\n')
	}
	if err := mustCover(covered, "@method", "@authority", "@path", "@query"); err != nil {
		return "", nil, err
	}
	text, err := httpsfv.Marshal(httpsfv.List{input})
	if err != nil {
		return "", nil, refuse(MethodSignature, "Signature-Input: %v", err)
	}
	b.WriteString(`"@signature-params": `)
	b.WriteString(text)
	return b.String(), covered, nil
}

func mustCover(covered []string, names ...string) error {
	for _, n := range names {
		if !slices.Contains(covered, n) {
			return refuse(MethodSignature, "does not cover %s", n)
		}
	}
	return nil
}

// component returns the value of a covered component (RFC 9421 sections 2.1 and 2.2).
func component(r *Request, name string) (string, error) {
	switch name {
	case "@method":
		return r.HTTP.Method, nil
	case "@authority":
		host := strings.ToLower(r.Host)
		if port, ok := map[string]string{"http": ":80", "https": ":443"}[r.Scheme]; ok {
			host = strings.TrimSuffix(host, port)
		}
		return host, nil
	case "@scheme":
		return r.Scheme, nil
	case "@path":
		if path := r.HTTP.URL.EscapedPath(); path != "" {
			return path, nil
		}
		return "/", nil
	case "@query":
		return "?" + r.HTTP.URL.RawQuery, nil
	case "@request-target":
		return r.HTTP.RequestURI, nil
	}
	if strings.HasPrefix(name, "@") || name != strings.ToLower(name) {
		return "", refuse(MethodSignature, "unknown component %q", clip(name))
	}
	values := r.HTTP.Header[http.CanonicalHeaderKey(name)]
	if len(values) == 0 {
		return "", refuse(MethodSignature, "covers %s, which the request lacks", clip(name))
	}
	trimmed := make([]string, len(values))
	for i, v := range values {
		trimmed[i] = strings.Trim(v, " \t")
	}
	return strings.Join(trimmed, ", "), nil
}

// checkDigest compares Content-Digest (RFC 9530) with the body. At least one digest must be of a secure algorithm, and all of
// those must match.
func checkDigest(h http.Header, body []byte) error {
	dict, err := httpsfv.UnmarshalDictionary(h["Content-Digest"])
	if err != nil {
		return refuse(MethodSignature, "Content-Digest: %v", err)
	}
	checked := 0
	for _, name := range dict.Names() {
		var want []byte
		switch name {
		case "sha-256":
			sum := sha256.Sum256(body)
			want = sum[:]
		case "sha-512":
			sum := sha512.Sum512(body)
			want = sum[:]
		default:
			continue
		}
		member, _ := dict.Get(name)
		item, ok := member.(httpsfv.Item)
		if !ok {
			return refuse(MethodSignature, "Content-Digest %s is not an item", name)
		}
		got, ok := item.Value.([]byte)
		if !ok || subtle.ConstantTimeCompare(got, want) != 1 {
			return refuse(MethodSignature, "Content-Digest %s does not match the body", name)
		}
		checked++
	}
	if checked == 0 {
		return refuse(MethodSignature, "Content-Digest has neither sha-256 nor sha-512")
	}
	return nil
}

// verify checks a signature with the key's own algorithm (RFC 9421 section 3.3).
func (k *SigningKey) verify(base, signature []byte) bool {
	switch key := k.public.(type) {
	case nil:
		mac := hmac.New(sha256.New, k.secret)
		mac.Write(base)
		return hmac.Equal(mac.Sum(nil), signature)
	case ed25519.PublicKey:
		return ed25519.Verify(key, base, signature)
	case *ecdsa.PublicKey:
		size := (key.Curve.Params().BitSize + 7) / 8
		if len(signature) != 2*size {
			return false
		}
		var digest []byte
		if size == 32 {
			sum := sha256.Sum256(base)
			digest = sum[:]
		} else {
			sum := sha512.Sum384(base)
			digest = sum[:]
		}
		return ecdsa.Verify(key, digest, new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:]))
	case *rsa.PublicKey:
		sum := sha512.Sum512(base)
		// RFC 9421 section 3.3.1 asks for a salt of 64 bytes, but common signers use the greatest that fits; its length proves nothing.
		return rsa.VerifyPSS(key, crypto.SHA512, sum[:], signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto}) == nil
	}
	return false
}
