package auth_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"log/slog"
	"math/big"
	"strings"
	"testing"
	"time"
)

// A key set is as good as its good keys (RFC 7517 section 5).
func TestKeysThatAreNotUnderstoodAreSkipped(t *testing.T) {
	good, short, other, ec := rsaKey(t, 2048), rsaKey(t, 1024), rsaKey(t, 2048), ecKey(t)
	jwk := func(kid, more string, k *rsa.PrivateKey) string {
		return fmt.Sprintf(`{"kty":"RSA","kid":%q,"e":"AQAB","n":%q%s}`, kid, base64.RawURLEncoding.EncodeToString(k.N.Bytes()), more)
	}
	curve := func(kid string, k *ecdsa.PrivateKey) string {
		point, err := k.PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf(`{"kty":"EC","crv":"P-256","kid":%q,"x":%q,"y":%q}`, kid, base64.RawURLEncoding.EncodeToString(point[1:33]), base64.RawURLEncoding.EncodeToString(point[33:]))
	}
	many := make([]string, 60)
	for i := range many {
		many[i] = jwk(fmt.Sprint("k", i), "", good)
	}
	wide := new(big.Int).SetBit(new(big.Int).Set(good.N), 9000, 1)
	for name, c := range map[string]struct {
		beside, warning string // beside the good key; "" if it is no reason for a warning
	}{
		"a kind of the future":     {`{"kty":"AKP","kid":"pq","alg":"ML-DSA-65","pub":"AAAA"}`, "pq"},
		"an unknown curve":         {`{"kty":"EC","kid":"c","crv":"P-999","x":"AAAA","y":"AAAA"}`, "c"},
		"a curve for encryption":   {`{"kty":"OKP","kid":"x","crv":"X25519","x":"` + strings.Repeat("A", 43) + `"}`, "x"},
		"short RSA":                {jwk("weak", "", short), "1024"},
		"endless RSA":              {fmt.Sprintf(`{"kty":"RSA","kid":"w","e":"AQAB","n":%q}`, base64.RawURLEncoding.EncodeToString(wide.Bytes())), "9001"},
		"an even exponent":         {fmt.Sprintf(`{"kty":"RSA","kid":"w","e":"BA","n":%q}`, base64.RawURLEncoding.EncodeToString(good.N.Bytes())), "exponent"},
		"incomplete RSA":           {`{"kty":"RSA","kid":"half","e":"AQAB"}`, "half"},
		"incomplete EC":            {`{"kty":"EC","kid":"half","crv":"P-256","x":"AAAA"}`, "half"},
		"a point off the curve":    {`{"kty":"EC","kid":"off","crv":"P-256","x":"` + strings.Repeat("A", 43) + `","y":"` + strings.Repeat("A", 43) + `"}`, "off"},
		"no kind":                  {`{"kid":"none"}`, "none"},
		"symmetric":                {`{"kty":"oct","kid":"s","k":"c2VjcmV0"}`, "s"},
		"a private key":            {jwk("p", `,"d":"`+base64.RawURLEncoding.EncodeToString(other.D.Bytes())+`"`, other), "private"},
		"no object":                {`"x"`, "key 2"},
		"for encryption":           {jwk("e", `,"use":"enc"`, other), ""},
		"for wrapping":             {jwk("e", `,"key_ops":["wrapKey"]`, other), ""},
		"the same key again":       {jwk("good", "", good), ""},
		"another under one kid":    {jwk("good", "", other), ""},
		"another kind, one kid":    {curve("good", ec), ""},
		"too many":                 {strings.Join(many, ","), "further"},
		"one kid, one not for RS":  {jwk("good", `,"alg":"PS512"`, other), ""},
		"a kid that is no text":    {`{"kty":"RSA","kid":7,"e":"AQAB","n":"AAAA"}`, "key 2"},
		"base64 that is no base64": {`{"kty":"RSA","kid":"b","e":"AQAB","n":"***"}`, "b"},
	} {
		a := newAuthority(t)
		a.raw = `{"keys":[` + jwk("good", "", good) + "," + c.beside + `]}`
		clk := &clock{at: time.Now()}
		var log bytes.Buffer
		tk, source := tokensLogging(t, a, clk, "", slog.New(slog.NewTextHandler(&log, nil)))
		waitReady(t, source)
		now := clk.now().Unix()
		claims := object{"iss": a.server.URL, "aud": "hub", "sub": "s", "iat": now, "exp": now + 60}
		if _, err := tk.Authenticate(t.Context(), bearer(sign(t, object{"alg": "RS256", "typ": "at+jwt", "kid": "good"}, claims, good))); err != nil {
			t.Errorf("%s: the good key does not serve: %v", name, err)
		}
		if warned := strings.Contains(log.String(), "not used"); warned != (c.warning != "") || !strings.Contains(log.String(), c.warning) {
			t.Errorf("%s: log %q; want a warning with %q", name, log.String(), c.warning)
		}
		switch name {
		case "another under one kid":
			if _, err := tk.Authenticate(t.Context(), bearer(sign(t, object{"alg": "RS256", "typ": "at+jwt", "kid": "good"}, claims, other))); err != nil {
				t.Errorf("%s: the second key does not serve: %v", name, err)
			}
		case "another kind, one kid":
			if _, err := tk.Authenticate(t.Context(), bearer(sign(t, object{"alg": "ES256", "typ": "at+jwt", "kid": "good"}, claims, ec))); err != nil {
				t.Errorf("%s: the second key does not serve: %v", name, err)
			}
		case "short RSA":
			if _, err := tk.Authenticate(t.Context(), bearer(sign(t, object{"alg": "RS256", "typ": "at+jwt", "kid": "weak"}, claims, short))); err == nil {
				t.Error("a token signed with a weak key was accepted")
			}
		}
	}
}

func TestBadKeySets(t *testing.T) {
	strong := rsaKey(t, 2048)
	short := rsaKey(t, 1024)
	key := func(kid, more string, k *rsa.PrivateKey) string {
		return fmt.Sprintf(`{"kty":"RSA","kid":%q,"e":"AQAB","n":%q%s}`, kid, base64.RawURLEncoding.EncodeToString(k.N.Bytes()), more)
	}
	for name, c := range map[string]struct{ raw, want string }{
		"short RSA": {`{"keys":[` + key("a", "", short) + `]}`, "1024"},
		"only enc":  {`{"keys":[` + key("a", `,"use":"enc"`, strong) + `]}`, "is a usable public signature key"},
		"symmetric": {`{"keys":[{"kty":"oct","kid":"a","k":"c2VjcmV0"}]}`, "is a usable public signature key"},
		"none":      {`{"keys":[]}`, "none of the 0 keys"},
		"too large": {`{"keys":[],"x":"` + strings.Repeat("x", 300<<10) + `"}`, "larger than"},
		"no JSON":   {`hello`, "key set"},
	} {
		a := newAuthority(t)
		a.raw = c.raw
		_, source := tokens(t, a, &clock{at: time.Now()}, "")
		eventually(t, func() bool { return a.fetches.Load() > 0 })
		eventually(t, func() bool { return !strings.HasSuffix(source.Ready().Error(), "not read yet") })
		if err := source.Ready(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
}
