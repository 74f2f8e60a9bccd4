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

// The verdicts on X-Hub-Signature.
const (
	// signatureOK: the body is what the holder of the secret sent.
	SignatureOK = "ok"
	// signatureBad: it is not, or the header cannot be understood.
	SignatureBad = "bad"
	// signatureAbsent: there is no header.
	SignatureAbsent = "absent"
	// signatureUnchecked: there is a header but no secret to check it with.
	signatureUnchecked = "unchecked"
)

// checkSignature judges an X-Hub-Signature header (WebSub 7.1: method=hexdigest, HMAC over the exact bytes of the
// body) and names its method. The comparison takes the same time wherever the digests differ.
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
