package auth_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"quorumhub/auth"
)

// The body of a signed request is read only once everything else about it holds, since it costs memory and time.
func TestBodiesAreReadLast(t *testing.T) {
	text, keys := signers(t)
	s, err := auth.ParseSettings([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	signatures := auth.NewSignatures(*s.SignedRequests, &memory{}, time.Now)
	forged := seen(t, signedBy(t, keys["ed25519"], "ed25519", fullProfile))
	forged.HTTP.Header.Set("Content-Type", "text/plain")
	stranger := seen(t, signedBy(t, as(keys["ed25519"], "k-nobody", "websub-hub"), "ed25519", fullProfile))
	header := "geo-key-id=GEOSystem,geo-expires-by=1368200000000,geo-nonce=" + geoNonce
	post := func(head string) *auth.Request {
		return request("POST", "/x", "a body", "GEO-Auth", head+",geo-signature="+geoSign(head+"a body"))
	}
	for name, c := range map[string]struct {
		by      auth.Authenticator
		request *auth.Request
	}{
		"signature, another type": {signatures, forged},
		"signature, no such key":  {signatures, stranger},
		"GEO-Auth, no such key":   {geo(t, &memory{}, ""), post(strings.Replace(header, "GEOSystem", "nobody", 1))},
		"GEO-Auth, expired":       {geo(t, &memory{}, ""), post(strings.Replace(header, "13682", "13681", 1))},
	} {
		c.request.Body = func() ([]byte, error) {
			t.Errorf("%s: the body is read", name)
			return nil, nil
		}
		var refusal *auth.RefusalError
		if _, err := c.by.Authenticate(t.Context(), c.request); !errors.As(err, &refusal) {
			t.Errorf("%s: %v, want a refusal", name, err)
		}
	}
}
