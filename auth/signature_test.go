package auth_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	httpsig "github.com/remitly-oss/httpsig-go"

	"quorumhub/auth"
)

const hmacSecret = "a secret of thirty-two bytes or more"

// signers returns a key of every algorithm: the hub's settings for them, and the private keys for an independent implementation
// of RFC 9421.
func signers(t *testing.T) (settings string, keys map[string]httpsig.SigningKey) {
	t.Helper()
	dir := t.TempDir()
	keys = map[string]httpsig.SigningKey{}
	var b strings.Builder
	b.WriteString("signed_requests:\n  keys:\n")
	add := func(algorithm string, private crypto.Signer) {
		der, err := x509.MarshalPKIXPublicKey(private.Public())
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, algorithm+".pem")
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "    - {id: k-%s, algorithm: %s, public_key_file: %s, subject: meter, roles: [device]}\n", algorithm, algorithm, path)
		keys[algorithm] = httpsig.SigningKey{Key: private, MetaKeyID: "k-" + algorithm, MetaTag: "websub-hub"}
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	add("ed25519", ed)
	add("ecdsa-p256-sha256", ecKey(t))
	add("ecdsa-p384-sha384", p384)
	add("rsa-pss-sha512", rsaKey(t, 2048))
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte(hmacSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&b, "    - {id: k-hmac-sha256, algorithm: hmac-sha256, secret_file: %s, subject: meter, roles: [device]}\n", secret)
	keys["hmac-sha256"] = httpsig.SigningKey{Secret: []byte(hmacSecret), MetaKeyID: "k-hmac-sha256", MetaTag: "websub-hub"}
	return b.String(), keys
}

var fullProfile = httpsig.SigningProfile{Digest: httpsig.DigestSHA256,
	Fields:          httpsig.Fields("@method", "@authority", "@path", "@query", "content-digest", "content-type"),
	Metadata:        []httpsig.Metadata{httpsig.MetaCreated, httpsig.MetaExpires, httpsig.MetaNonce, httpsig.MetaKeyID, httpsig.MetaTag},
	ExpiresDuration: time.Minute, Nonce: httpsig.NonceRandom32}

// signedBy makes a signed request.
func signedBy(t *testing.T, key httpsig.SigningKey, algorithm string, profile httpsig.SigningProfile) *http.Request {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "http://hub.example/hub?hub.mode=publish&hub.topic=a%2Fb", strings.NewReader(`{"a":1}`))
	r.Header.Set("Content-Type", "application/json")
	profile.Algorithm = httpsig.Algorithm(algorithm)
	if err := httpsig.Sign(r, profile, key); err != nil {
		t.Fatal(err)
	}
	return r
}

func seen(t *testing.T, r *http.Request) *auth.Request {
	t.Helper()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return &auth.Request{HTTP: r, Host: r.Host, Scheme: "http", Body: func() ([]byte, error) { return body, nil }}
}

func TestSignedRequests(t *testing.T) {
	text, keys := signers(t)
	s, err := auth.ParseSettings([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	a := auth.NewSignatures(*s.SignedRequests, &memory{}, time.Now)
	for algorithm, key := range keys {
		r := seen(t, signedBy(t, key, algorithm, fullProfile))
		p, err := admitted(t, a, r)
		if err != nil || p.String() != "signature:meter" || p.ID != "signed:rfc9421/k-"+algorithm || !p.HasRole("device") {
			t.Errorf("%s: %v, %v", algorithm, p, err)
			continue
		}
		if _, err := admitted(t, a, r); err == nil || !strings.Contains(err.Error(), "already used") {
			t.Errorf("%s: replayed: %v", algorithm, err)
		}
	}

	// A GET has no body to cover.
	r := httptest.NewRequest(http.MethodGet, "http://hub.example/v1/topics", nil)
	profile := fullProfile
	profile.Algorithm, profile.Fields = httpsig.Algo_ED25519, httpsig.Fields("@method", "@authority", "@path", "@query")
	if err := httpsig.Sign(r, profile, keys["ed25519"]); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Authenticate(t.Context(), seen(t, r)); err != nil {
		t.Errorf("GET: %v", err)
	}
}

// withoutField is fullProfile without one covered component.
func withoutField(field string) httpsig.SigningProfile {
	p := fullProfile
	p.Fields = nil
	for _, f := range fullProfile.Fields {
		if f.Name != field {
			p.Fields = append(p.Fields, f)
		}
	}
	return p
}

// withoutParameter is fullProfile without one parameter of the signature.
func withoutParameter(m httpsig.Metadata) httpsig.SigningProfile {
	p := fullProfile
	p.Metadata = nil
	for _, x := range fullProfile.Metadata {
		if x != m {
			p.Metadata = append(p.Metadata, x)
		}
	}
	return p
}

// as is a key that claims another ID and tag.
func as(k httpsig.SigningKey, id, tag string) httpsig.SigningKey {
	k.MetaKeyID, k.MetaTag = id, tag
	return k
}

// edit replaces a part of a header.
func edit(t *testing.T, header, pattern, with string) func(*http.Request) {
	return func(r *http.Request) {
		old := r.Header.Get(header)
		r.Header.Set(header, regexp.MustCompile(pattern).ReplaceAllString(old, with))
		if r.Header.Get(header) == old {
			t.Errorf("nothing in %s matches %s", old, pattern)
		}
	}
}

type invalidRequest struct {
	key     httpsig.SigningKey
	profile httpsig.SigningProfile
	change  func(*http.Request)
	at      time.Duration
	want    string
}

func invalidRequests(t *testing.T, h httpsig.SigningKey) map[string]invalidRequest {
	t.Helper()
	long := fullProfile
	long.ExpiresDuration = 10 * time.Minute
	withAlg := fullProfile
	withAlg.Metadata = append([]httpsig.Metadata{httpsig.MetaAlgorithm}, fullProfile.Metadata...)
	return map[string]invalidRequest{
		"another method":        {h, fullProfile, func(r *http.Request) { r.Method = "PUT" }, 0, "invalid signature"},
		"another host":          {h, fullProfile, func(r *http.Request) { r.Host = "other.example" }, 0, "invalid signature"},
		"another path":          {h, fullProfile, func(r *http.Request) { r.URL.Path = "/topics/x" }, 0, "invalid signature"},
		"another topic":         {h, fullProfile, func(r *http.Request) { r.URL.RawQuery = "hub.mode=publish&hub.topic=x" }, 0, "invalid signature"},
		"the same topic, plain": {h, fullProfile, func(r *http.Request) { r.URL.RawQuery = "hub.mode=publish&hub.topic=a/b" }, 0, "invalid signature"},
		"another content type":  {h, fullProfile, func(r *http.Request) { r.Header.Set("Content-Type", "text/html") }, 0, "invalid signature"},
		"another body":          {h, fullProfile, func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(`{"a":2}`)) }, 0, "Content-Digest"},
		"body removed":          {h, fullProfile, func(r *http.Request) { r.Body = http.NoBody }, 0, "Content-Digest"},
		"another digest too": {h, fullProfile, func(r *http.Request) {
			sum := sha256.Sum256([]byte(`{"a":2}`))
			r.Body = io.NopCloser(strings.NewReader(`{"a":2}`))
			r.Header.Set("Content-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(sum[:])+":")
		}, 0, "invalid signature"},
		"body not covered":         {h, withoutField("content-digest"), nil, 0, "content-digest"},
		"method not covered":       {h, withoutField("@method"), nil, 0, "@method"},
		"host not covered":         {h, withoutField("@authority"), nil, 0, "@authority"},
		"path not covered":         {h, withoutField("@path"), nil, 0, "@path"},
		"query not covered":        {h, withoutField("@query"), nil, 0, "@query"},
		"content type not covered": {h, withoutField("content-type"), nil, 0, "content-type"},
		"no nonce":                 {h, withoutParameter(httpsig.MetaNonce), nil, 0, "missing"},
		"no created":               {h, withoutParameter(httpsig.MetaCreated), nil, 0, "missing"},
		"no expires":               {h, withoutParameter(httpsig.MetaExpires), nil, 0, "missing"},
		"no keyid":                 {h, withoutParameter(httpsig.MetaKeyID), nil, 0, "missing"},
		"no tag":                   {h, withoutParameter(httpsig.MetaTag), nil, 0, "tag"},
		"another tag":              {as(h, h.MetaKeyID, "bank"), fullProfile, nil, 0, "tag"},
		"unknown key":              {as(h, "nobody", "websub-hub"), fullProfile, nil, 0, "not in the settings"},
		"another key":              {as(h, "k-ed25519", "websub-hub"), fullProfile, nil, 0, "invalid signature"},
		"valid for too long":       {h, long, nil, 0, "valid for"},
		"expired":                  {h, fullProfile, nil, 70 * time.Second, "expired"},
		"from the future":          {h, fullProfile, nil, -10 * time.Second, "future"},
		"another key's alg":        {as(h, "k-ed25519", "websub-hub"), withAlg, nil, 0, "alg"},
		"extended expiry":          {h, fullProfile, edit(t, "Signature-Input", `expires=\d+`, fmt.Sprintf("expires=%d", time.Now().Add(2*time.Minute).Unix())), 0, "invalid signature"},
		"nonce changed":            {h, fullProfile, edit(t, "Signature-Input", `nonce="[^"]+"`, `nonce="x"`), 0, "invalid signature"},
		"numeric keyid":            {h, fullProfile, edit(t, "Signature-Input", `keyid="[^"]+"`, `keyid=1`), 0, "wrong type"},
		"textual created":          {h, fullProfile, edit(t, "Signature-Input", `created=\d+`, `created="x"`), 0, "wrong type"},
		"unknown parameter":        {h, fullProfile, edit(t, "Signature-Input", `$`, `;x=1`), 0, "unknown"},
		"component parameters":     {h, fullProfile, edit(t, "Signature-Input", `"content-digest"`, `"content-digest";tr`), 0, "parameters"},
		"duplicate component":      {h, fullProfile, edit(t, "Signature-Input", `\("@method"`, `("@method" "@method"`), 0, "duplicate"},
		"unknown component":        {h, fullProfile, edit(t, "Signature-Input", `\("@method"`, `("@status" "@method"`), 0, "unknown"},
		"absent header":            {h, fullProfile, edit(t, "Signature-Input", `\("@method"`, `("x-none" "@method"`), 0, "lacks"},
		"no inner list":            {h, fullProfile, func(r *http.Request) { r.Header.Set("Signature-Input", "sig1=1") }, 0, "inner list"},
		"garbage":                  {h, fullProfile, func(r *http.Request) { r.Header.Set("Signature-Input", "((((") }, 0, "Signature-Input"},
		"no signature":             {h, fullProfile, func(r *http.Request) { r.Header.Del("Signature") }, 0, "no item"},
		"textual signature":        {h, fullProfile, func(r *http.Request) { r.Header.Set("Signature", `sig1="x"`) }, 0, "byte sequence"},
		"another label":            {h, fullProfile, edit(t, "Signature", `^sig1`, "sig2"), 0, "no item"},
		"too long":                 {h, fullProfile, func(r *http.Request) { r.Header.Set("Signature-Input", strings.Repeat("a", 5000)) }, 0, "bytes"},
		"a second signature with the tag": {h, fullProfile, func(r *http.Request) {
			r.Header.Set("Signature-Input", r.Header.Get("Signature-Input")+", evil=();tag=\"websub-hub\"")
		}, 0, "more than one"},
	}
}

func TestInvalidSignedRequests(t *testing.T) {
	text, keys := signers(t)
	s, err := auth.ParseSettings([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range invalidRequests(t, keys["hmac-sha256"]) {
		r := signedBy(t, c.key, "hmac-sha256", c.profile)
		if c.change != nil {
			c.change(r)
		}
		n := &memory{}
		a := auth.NewSignatures(*s.SignedRequests, n, func() time.Time { return time.Now().Add(c.at) })
		_, err := a.Authenticate(t.Context(), seen(t, r))
		var refusal *auth.RefusalError
		if !errors.As(err, &refusal) || !strings.Contains(refusal.Reason, c.want) {
			t.Errorf("%s: %v; want a refusal with %q", name, err, c.want)
		}
		if len(n.used) > 0 {
			t.Errorf("%s: the nonce was claimed", name)
		}
	}
	a := auth.NewSignatures(*s.SignedRequests, &memory{}, time.Now)
	if _, err := a.Authenticate(t.Context(), request("POST", "/hub", "x")); !errors.Is(err, auth.ErrNotMine) {
		t.Errorf("without a signature: %v, want ErrNotMine", err)
	}
}

func TestSigningKeySettings(t *testing.T) {
	dir := t.TempDir()
	short := filepath.Join(dir, "short")
	if err := os.WriteFile(short, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	long := filepath.Join(dir, "long")
	if err := os.WriteFile(long, bytes.Repeat([]byte("s"), 40), 0o600); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"algorithm: hmac-sha256, secret_file: " + short:                           "at least 32",
		"algorithm: hmac-sha256, secret_file: " + long + ", secret_encoding: hex": "is not hex",
		"algorithm: hmac-sha256, secret_env: NO_SUCH_VARIABLE":                    "NO_SUCH_VARIABLE",
		"algorithm: hmac-sha256":                                                  "either secret_file or secret_env",
		"algorithm: hmac-md5, secret_file: " + long:                               "algorithm",
		"algorithm: ed25519, public_key_file: " + long:                            "PEM",
		"algorithm: ed25519, secret_file: " + long:                                "public_key_file",
	} {
		_, err := auth.ParseSettings([]byte("signed_requests: {keys: [{id: k, " + line + "}]}"))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "ssss") {
			t.Errorf("%s: %v; want %q", line, err, want)
		}
	}
}

// The salt's length proves nothing, and signers differ in it.
func TestPSSWithAnySalt(t *testing.T) {
	key := rsaKey(t, 2048)
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := auth.ParseSettings([]byte("signed_requests: {keys: [{id: k, algorithm: rsa-pss-sha512, public_key_file: " + path + "}]}"))
	if err != nil {
		t.Fatal(err)
	}
	a := auth.NewSignatures(*s.SignedRequests, &memory{}, time.Now)
	for name, c := range map[string]struct {
		salt int
		hash crypto.Hash
		good bool
	}{
		"as RFC 9421 says": {64, crypto.SHA512, true}, "the greatest": {rsa.PSSSaltLengthAuto, crypto.SHA512, true},
		"none": {0, crypto.SHA512, true}, "one byte": {1, crypto.SHA512, true}, "another hash": {32, crypto.SHA256, false},
	} {
		r := httptest.NewRequest(http.MethodGet, "http://hub.example/v1/topics", nil)
		now := time.Now().Unix()
		params := fmt.Sprintf(`("@method" "@authority" "@path" "@query");created=%d;expires=%d;nonce="%s";keyid="k";tag="websub-hub"`, now, now+60, name)
		base := `"@method": GET` + "\n" + `"@authority": hub.example` + "\n" + `"@path": /v1/topics` + "\n" + `"@query": ?` + "\n" + `"@signature-params": ` + params
		h := c.hash.New()
		h.Write([]byte(base))
		signature, err := rsa.SignPSS(rand.Reader, key, c.hash, h.Sum(nil), &rsa.PSSOptions{SaltLength: c.salt})
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Signature-Input", "s="+params)
		r.Header.Set("Signature", "s=:"+base64.StdEncoding.EncodeToString(signature)+":")
		if _, err := a.Authenticate(t.Context(), seen(t, r)); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}
