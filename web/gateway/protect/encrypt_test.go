package protect_test

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwe"
	"github.com/lestrrat-go/jwx/v3/jwk"

	"quorumhub/web/gateway/protect"
)

// jwkOf returns the JWK of a key as JSON.
func jwkOf(t testing.TB, key any, set map[string]any) []byte {
	t.Helper()
	k, err := jwk.Import(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range set {
		if err := k.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
	text, err := json.Marshal(k)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// weakJWK returns a key of 1024 bits, which the library makes no JWK of.
func weakJWK(t testing.TB) []byte {
	n := base64.RawURLEncoding.EncodeToString(rsaKey(t, 1024).N.Bytes())
	return []byte(`{"kty":"RSA","e":"AQAB","n":"` + n + `"}`)
}

func x5c(t testing.TB, chain ...*party) []byte {
	t.Helper()
	texts := make([]string, len(chain))
	for i, c := range chain {
		texts[i] = base64.StdEncoding.EncodeToString(c.Raw)
	}
	out, err := json.Marshal(texts)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func recipient(t testing.TB, text []byte) *protect.Recipient {
	t.Helper()
	r, err := protect.ParseRecipient(text, nil, now)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func header(t testing.TB, message []byte) map[string]any {
	t.Helper()
	encoded, _, _ := bytes.Cut(message, []byte("."))
	var h map[string]any
	if err := json.Unmarshal(decode64(t, string(encoded)), &h); err != nil {
		t.Fatal(err)
	}
	return h
}

// TestEncryptAndDecrypt: what is encrypted to a key of any kind opens with it, and with no other.
func TestEncryptAndDecrypt(t *testing.T) {
	x := x25519Key(t)
	for name, private := range map[string]crypto.PrivateKey{
		"RSA": rsaKey(t, 2048), "P-256": ecKey(t, elliptic.P256()), "P-384": ecKey(t, elliptic.P384()), "P-521": ecKey(t, elliptic.P521()), "X25519": x,
	} {
		public := private.(interface{ Public() crypto.PublicKey }).Public()
		to := recipient(t, jwkOf(t, public, map[string]any{jwk.KeyIDKey: "k1"}))
		message, err := protect.Encrypt([]byte("plain"), "application/json; charset=utf-8", to)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := "ECDH-ES+A256KW"
		if name == "RSA" {
			want = "RSA-OAEP-256"
		}
		if h := header(t, message); h["alg"] != want || h["enc"] != "A256GCM" || h["cty"] != "application/json; charset=utf-8" || h["kid"] != "k1" {
			t.Errorf("%s: header %v", name, h)
		}
		if bytes.Contains(message, []byte("plain")) {
			t.Errorf("%s: the message shows its content", name)
		}
		plain, contentType, id, err := protect.Decrypt(message, protect.Keys{{ID: "k0", Private: ecKey(t, elliptic.P256())}, {ID: "k1", Private: private}})
		if err != nil || string(plain) != "plain" || contentType != "application/json; charset=utf-8" || id != "k1" {
			t.Errorf("%s: got %q, %q, %q, %v", name, plain, contentType, id, err)
		}
	}
	message, err := protect.Encrypt([]byte("x"), "", recipient(t, jwkOf(t, ecKey(t, elliptic.P256()).Public(), map[string]any{jwk.KeyIDKey: "k"})))
	if err != nil {
		t.Fatal(err)
	}
	_, _, _, err = protect.Decrypt(message, protect.Keys{{ID: "k", Private: ecKey(t, elliptic.P256())}})
	wantRefusal(t, "another key of the same ID", err, "does not decrypt")
}

func TestLargeMessages(t *testing.T) {
	key := ecKey(t, elliptic.P256())
	plain := bytes.Repeat([]byte("0123456789"), 1<<20)
	message, err := protect.Encrypt(plain, "text/plain", recipient(t, jwkOf(t, key.Public(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	got, _, _, err := protect.Decrypt(message, protect.Keys{{ID: header(t, message)["kid"].(string), Private: key}})
	if err != nil || !bytes.Equal(got, plain) {
		t.Errorf("10 MB: %d bytes, %v", len(got), err)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("10 MB took %v", took)
	}
	_, _, _, err = protect.Decrypt(bytes.Repeat([]byte("a"), protect.MaxBytes+1), nil)
	wantRefusal(t, "too many bytes", err, "more than")
}

// zipBomb makes a small message that becomes 20 MiB.
func zipBomb(t testing.TB, public crypto.PublicKey) []byte {
	t.Helper()
	h := jwe.NewHeaders()
	_ = h.Set(jwe.KeyIDKey, "ec")
	out, err := jwe.Encrypt(make([]byte, 20<<20), jwe.WithKey(jwa.ECDH_ES_A256KW(), public), jwe.WithContentEncryption(jwa.A256GCM()),
		jwe.WithCompress(jwa.Deflate()), jwe.WithProtectedHeaders(h))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestMessagesThatAreRefused(t *testing.T) {
	ec, rsaPrivate := ecKey(t, elliptic.P256()), rsaKey(t, 2048)
	keys := protect.Keys{{ID: "ec", Private: ec}, {ID: "rsa", Private: rsaPrivate}, {ID: "weak", Private: rsaKey(t, 1024)}}
	encrypt := func(id string, alg jwa.KeyEncryptionAlgorithm, key any, edit func(jwe.Headers), options ...jwe.EncryptOption) []byte {
		t.Helper()
		h := jwe.NewHeaders()
		_ = h.Set(jwe.KeyIDKey, id)
		if edit != nil {
			edit(h)
		}
		out, err := jwe.Encrypt([]byte("x"), append([]jwe.EncryptOption{jwe.WithKey(alg, key), jwe.WithContentEncryption(jwa.A256GCM()), jwe.WithProtectedHeaders(h)}, options...)...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	good := encrypt("ec", jwa.ECDH_ES_A256KW(), ec.Public(), nil)
	parts := strings.Split(string(good), ".")
	swapped := func(old, now string) []byte {
		changed := bytes.Replace(decode64(t, parts[0]), []byte(old), []byte(now), 1)
		if bytes.Equal(changed, decode64(t, parts[0])) {
			t.Fatalf("the header has no %s", old)
		}
		return []byte(strings.Join(append([]string{base64.RawURLEncoding.EncodeToString(changed)}, parts[1:]...), "."))
	}
	flip := func(i int) []byte {
		p := append([]string{}, parts...)
		b := []byte(p[i])
		if b[0]++; b[0] == 'z'+1 || b[0] == 'Z'+1 || b[0] == '9'+1 || b[0] == '-'+1 || b[0] == '_'+1 {
			b[0] = 'c'
		}
		p[i] = string(b)
		return []byte(strings.Join(p, "."))
	}
	for _, c := range []struct {
		name    string
		message []byte
		want    string
	}{
		{"nothing", nil, "not a JWE in compact"},
		{"a JWS", []byte("a.b.c"), "not a JWE in compact"},
		{"JSON serialization", []byte(`{"protected":""}`), "not a JWE in compact"},
		{"nonsense", []byte("a.b.c.d.e"), "no JWE"},
		{"another header", swapped(`"ec"`, `"ec" `), "does not decrypt"},
		{"another encrypted key", flip(1), "does not decrypt"},
		{"another nonce", flip(2), "does not decrypt"},
		{"another ciphertext", flip(3), "does not decrypt"},
		{"another tag", flip(4), "does not decrypt"},
		{"a cut end", good[:len(good)-8], ""},
		{"no tag", []byte(strings.Join(parts[:4], ".") + "."), ""},
		{"another key's ID", swapped(`"ec"`, `"rsa"`), "expected RSA-OAEP-256"},
		{"an unknown key", encrypt("old", jwa.ECDH_ES_A256KW(), ec.Public(), nil), `"old" (kid), which is not one`},
		{"no key of several", encrypt("", jwa.ECDH_ES_A256KW(), ec.Public(), nil), "not one of"},
		{"RSA1_5", encrypt("rsa", jwa.RSA1_5(), rsaPrivate.Public(), nil), `"RSA1_5"; expected RSA-OAEP-256`},
		{"RSA-OAEP with SHA-1", encrypt("rsa", jwa.RSA_OAEP(), rsaPrivate.Public(), nil), `"RSA-OAEP"; expected RSA-OAEP-256`},
		{"ECDH-ES without a wrapped key", encrypt("ec", jwa.ECDH_ES(), ec.Public(), nil), "expected ECDH-ES+A256KW"},
		{"a password, and many rounds of it", encrypt("ec", jwa.PBES2_HS256_A128KW(), []byte("password"), nil), "expected ECDH-ES+A256KW"},
		{"a direct key", encrypt("ec", jwa.DIRECT(), bytes.Repeat([]byte("k"), 32), nil), "expected ECDH-ES+A256KW"},
		{"a swapped algorithm", swapped("ECDH-ES+A256KW", "ECDH-ES+A128KW"), "expected ECDH-ES+A256KW"},
		{"another content encryption", encrypt("ec", jwa.ECDH_ES_A256KW(), ec.Public(), nil, jwe.WithContentEncryption(jwa.A128CBC_HS256())), `"A128CBC-HS256"; expected A256GCM`},
		{"a zip bomb", zipBomb(t, ec.Public()), "compressed"},
		{"critical extensions", encrypt("ec", jwa.ECDH_ES_A256KW(), ec.Public(), func(h jwe.Headers) { _ = h.Set("exp", 1); _ = h.Set(jwe.CriticalKey, []string{"exp"}) }), "crit"},
		{"a weak key", encrypt("weak", jwa.RSA_OAEP_256(), rsaKey(t, 1024).Public(), nil), "1024 bits"},
		{"a large header", append(bytes.Repeat([]byte("a"), 1<<17), "...."...), "header has more than"},
	} {
		plain, _, _, err := protect.Decrypt(c.message, keys)
		wantRefusal(t, c.name, err, c.want)
		if plain != nil {
			t.Errorf("%s: plain text in spite of the refusal", c.name)
		}
	}
	// An only key needs no ID.
	if plain, _, _, err := protect.Decrypt(encrypt("", jwa.ECDH_ES_A256KW(), ec.Public(), nil), keys[:1]); err != nil || string(plain) != "x" {
		t.Errorf("an only key: %q, %v", plain, err)
	}
}

func TestRecipients(t *testing.T) {
	root := authority(t, "root", nil)
	middle := authority(t, "middle", root)
	trust := trusting(t, root)
	p, below := partner(t, root, nil), partner(t, middle, nil)
	rsaPartner := issue(t, root, rsaKey(t, 2048), rsaKey(t, 2048).Public(), func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment })
	for name, c := range map[string]struct {
		text  []byte
		ends  time.Time
		first *party
	}{
		"x5c":             {x5c(t, p), p.NotAfter, p},
		"a chain":         {x5c(t, below, middle), below.NotAfter, below},
		"PEM":             {[]byte(certPEM(p)), p.NotAfter, p},
		"base64":          {[]byte(base64.StdEncoding.EncodeToString(p.Raw)), p.NotAfter, p},
		"a JWK with x5c":  {jwkOf(t, p.PublicKey, map[string]any{jwk.X509CertChainKey: chainOf(t, p), jwk.KeyIDKey: "p"}), p.NotAfter, p},
		"RSA":             {x5c(t, rsaPartner), rsaPartner.NotAfter, rsaPartner},
		"a chain in time": {x5c(t, partner(t, middle, func(c *x509.Certificate) { c.NotAfter = now.Add(9000 * time.Hour) }), middle), middle.NotAfter, nil},
	} {
		r, err := protect.ParseRecipient(c.text, trust, now)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !r.Ends().Equal(c.ends) || c.first != nil && !r.Certificate().Equal(c.first.Certificate) || r.KeyID() == "" {
			t.Errorf("%s: ends %v, key %q, %v", name, r.Ends(), r.KeyID(), r.Certificate().Subject)
		}
		if message, err := protect.Encrypt([]byte("x"), "", r); err != nil || header(t, message)["x5t#S256"] == nil || header(t, message)["cty"] != nil {
			t.Errorf("%s: %v", name, err)
		}
		wantRefusal(t, name+", a year later", r.Check(trust, now.Add(380*24*time.Hour)), "")
	}
}

func TestRecipientsThatAreRefused(t *testing.T) {
	root := authority(t, "root", nil)
	revoked := partner(t, root, nil)
	trust := load(t, texts{Roots: []string{certPEM(root)},
		CRLs: []string{revoking(t, root, now.Add(-time.Hour), now.Add(time.Hour), revoked)}})
	p := partner(t, root, nil)
	edited := func(edit func(*x509.Certificate)) []byte { return x5c(t, partner(t, root, edit)) }
	rsaPublic := rsaKey(t, 2048).Public()
	ec := ecKey(t, elliptic.P256())
	ed := edKey(t)
	for _, c := range []struct {
		name  string
		text  []byte
		trust *protect.Trust
		want  string
	}{
		{"nothing", nil, nil, "empty"},
		{"nonsense", []byte("hello"), nil, "DER in base64"},
		{"a broken JWK", []byte(`{"kty":"RSA"}`), nil, "no JWK"},
		{"a key set", []byte(`{"keys":[]}`), nil, "no JWK"},
		{"a private key", jwkOf(t, ec, nil), nil, "private key: replace it"},
		{"a symmetric key", jwkOf(t, []byte("0123456789abcdef0123456789abcdef"), nil), nil, "symmetric"},
		{"a key for signatures", jwkOf(t, ec.Public(), map[string]any{jwk.KeyUsageKey: "sig"}), nil, `use is "sig"`},
		{"operations for signatures", jwkOf(t, ec.Public(), map[string]any{jwk.KeyOpsKey: jwk.KeyOperationList{jwk.KeyOpVerify}}), nil, "key_ops"},
		{"another algorithm", jwkOf(t, rsaPublic, map[string]any{jwk.AlgorithmKey: jwa.RSA1_5()}), nil, "expected RSA-OAEP-256"},
		{"Ed25519", jwkOf(t, ed.Public(), nil), nil, "nothing can be encrypted"},
		{"a weak key", weakJWK(t), nil, "2048 bits"},
		{"a certificate with a weak key", x5c(t, issue(t, root, nil, rsaKey(t, 1024).Public(), nil)), nil, "1024 bits"},
		{"another key than in the certificate", jwkOf(t, ec.Public(), map[string]any{jwk.X509CertChainKey: chainOf(t, p)}), nil, "not that of its certificate"},
		{"a key without a certificate", jwkOf(t, ec.Public(), nil), trust, "expected a certificate"},
		{"an ended certificate", edited(func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) }), trust, "has ended on 2026-06-01T11:59:59Z"},
		{"an ended certificate without a trust", edited(func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) }), nil, "has ended"},
		{"a certificate of tomorrow", edited(func(c *x509.Certificate) { c.NotBefore = now.Add(time.Hour) }), trust, "not valid before"},
		{"a certificate for signatures", edited(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }), trust, "not for encryption (keyAgreement)"},
		{"an RSA certificate for signatures", x5c(t, issue(t, root, nil, rsaPublic, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature })), trust, "not for encryption (keyEncipherment)"},
		{"a revoked certificate", x5c(t, revoked), trust, "revoked"},
		{"a foreign authority", x5c(t, partner(t, authority(t, "root", nil), nil)), trust, "not issued by"},
		{"an authority", x5c(t, root), trust, "that of an authority"},
		{"a private key in PEM", []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), nil, `"PRIVATE KEY"; expected certificates`},
		{"many certificates", x5c(t, p, p, p, p, p, p, p, p, p), nil, "9 certificates"},
		{"no certificate", []byte("[]"), nil, "0 certificates"},
		{"numbers", []byte("[1]"), nil, "array of strings"},
		{"a large text", bytes.Repeat([]byte("a"), 1<<17), nil, "more than"},
	} {
		_, err := protect.ParseRecipient(c.text, c.trust, now)
		wantRefusal(t, c.name, err, c.want)
		if err != nil && bytes.Contains(c.text, []byte(`"d":`)) && strings.Contains(err.Error(), string(c.text)) {
			t.Errorf("%s: the refusal shows a private key", c.name)
		}
	}
}

func TestParseKey(t *testing.T) {
	for name, key := range map[string]any{"RSA": rsaKey(t, 2048), "P-256": ecKey(t, elliptic.P256()), "X25519": x25519Key(t)} {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		fromPEM, err := protect.ParseKey([]byte("-----BEGIN PRIVATE KEY-----\n" + base64.StdEncoding.EncodeToString(der) + "\n-----END PRIVATE KEY-----\n"))
		if err != nil {
			t.Errorf("%s as PEM: %v", name, err)
		}
		fromJWK, err := protect.ParseKey(jwkOf(t, key, nil))
		if err != nil || fromJWK.ID != fromPEM.ID || fromJWK.ID == "" {
			t.Errorf("%s: as JWK %q, as PEM %q, %v", name, fromJWK.ID, fromPEM.ID, err)
		}
	}
	named, err := protect.ParseKey(jwkOf(t, ecKey(t, elliptic.P256()), map[string]any{jwk.KeyIDKey: "k"}))
	if err != nil || named.ID != "k" {
		t.Errorf("got %q, %v", named.ID, err)
	}
	for want, text := range map[string][]byte{
		"cannot be read": []byte("key"), "no private key": jwkOf(t, ecKey(t, elliptic.P256()).Public(), nil), "2048 bits": weakJWK(t),
	} {
		_, err := protect.ParseKey(text)
		wantRefusal(t, want, err, want)
	}
}

func TestNotices(t *testing.T) {
	const day = 24 * time.Hour
	for left, want := range map[time.Duration]protect.Notice{
		31 * day: protect.NotSoon, 30 * day: protect.WithinMonth, 7*day + 1: protect.WithinMonth, 7 * day: protect.WithinWeek,
		day + 1: protect.WithinWeek, day: protect.WithinDay, 0: protect.WithinDay, -1: protect.Ended,
	} {
		if got := protect.NoticeOf(now.Add(left), now); got != want {
			t.Errorf("%v before the end: got %v, want %v", left, got, want)
		}
	}
	if got := protect.NoticeOf(time.Time{}, now); got != protect.NotSoon {
		t.Errorf("no end: got %v", got)
	}
}

func FuzzDecrypt(f *testing.F) {
	key := ecKey(f, elliptic.P256())
	to, err := protect.ParseRecipient(jwkOf(f, key.Public(), map[string]any{jwk.KeyIDKey: "k"}), nil, now)
	if err != nil {
		f.Fatal(err)
	}
	message, err := protect.Encrypt([]byte("x"), "text/plain", to)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(message)
	f.Add([]byte("eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..a.b.c"))
	f.Fuzz(func(t *testing.T, m []byte) {
		plain, _, _, err := protect.Decrypt(m, protect.Keys{{ID: "k", Private: key}})
		if err == nil && string(plain) != "x" {
			t.Fatalf("%q became %q", m, plain)
		}
		if err != nil {
			wantRefusal(t, "fuzz", err, "")
		}
	})
}

func FuzzVerify(f *testing.F) {
	root := authority(f, "root", nil)
	p := partner(f, root, nil)
	trust := trusting(f, root)
	f.Add(sign(f, "x", jwa.ES256(), p.key, nil, p))
	f.Add([]byte("eyJhbGciOiJub25lIn0.eA."))
	f.Fuzz(func(t *testing.T, m []byte) {
		payload, _, _, err := protect.Verify(m, trust, "partner", now)
		if err == nil && string(payload) != "x" {
			t.Fatalf("%q is accepted with %q", m, payload)
		}
		if err != nil {
			wantRefusal(t, "fuzz", err, "")
		}
	})
}

func FuzzRecipient(f *testing.F) {
	root := authority(f, "root", nil)
	p := partner(f, root, nil)
	f.Add([]byte(certPEM(p)))
	f.Add(x5c(f, p))
	f.Add(jwkOf(f, p.PublicKey, nil))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := protect.ParseRecipient(text, nil, now)
		if err != nil {
			wantRefusal(t, "fuzz", err, "")
			return
		}
		if _, err := protect.Encrypt([]byte("x"), "", r); err != nil {
			t.Fatalf("%q is accepted, but: %v", text, err)
		}
	})
}
