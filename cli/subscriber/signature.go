package subscriber

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // WebSub 7.1 names sha1 among the methods a hub may use.
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"hash"
	"strings"
)

// The values of Delivery.Signature.
const (
	SignatureOK        = "ok"        // signed with the secret
	SignatureBad       = "bad"       // not signed with the secret, or the header is invalid
	SignatureAbsent    = "absent"    // no X-Hub-Signature header
	signatureUnchecked = "unchecked" // a header, but no secret to verify it with
)

// checkSignature verifies an X-Hub-Signature header (WebSub section 7.1: method=hexdigest, an HMAC of the exact bytes of the body) and
// returns its method. It compares digests in constant time.
func checkSignature(header, secret string, body []byte) (verdict, method string) {
	if header == "" {
		return SignatureAbsent, ""
	}
	method, digest, _ := strings.Cut(header, "=")
	method = strings.ToLower(method)
	if secret == "" {
		return signatureUnchecked, method
	}
	newHash := signatureMethod(method)
	if newHash == nil {
		return SignatureBad, method
	}
	given, err := hex.DecodeString(digest)
	if err != nil {
		return SignatureBad, method
	}
	mac := hmac.New(newHash, []byte(secret))
	mac.Write(body)
	if !hmac.Equal(given, mac.Sum(nil)) {
		return SignatureBad, method
	}
	return SignatureOK, method
}

func signatureMethod(name string) func() hash.Hash {
	switch name {
	case "sha1":
		return sha1.New
	case "sha256":
		return sha256.New
	case "sha384":
		return sha512.New384
	case "sha512":
		return sha512.New
	default:
		return nil
	}
}
