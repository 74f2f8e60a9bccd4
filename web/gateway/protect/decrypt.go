package protect

import (
	"bytes"
	"strings"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwe"
)

const (
	// MaxBytes is the size of the largest message in compact serialization; 64 MiB of payload fit.
	MaxBytes  = 88 << 20
	maxHeader = 64 << 10 // in base64url; a chain of certificates fits
)

// Decrypt opens a JWE to one of the keys and returns what is inside, its content type (cty, with its "application/" even if the
// message omits that; empty if it names none) and the ID of the key. Errors are an *Error that does not tell why a message with
// acceptable headers does not decrypt.
func Decrypt(compact []byte, keys KeySource) (plain []byte, contentType, keyID string, err error) {
	compact = bytes.TrimSpace(compact)
	if err := checkCompact(compact, 5, "a JWE"); err != nil {
		return nil, "", "", err
	}
	m, err := jwe.Parse(compact)
	if err != nil {
		return nil, "", "", refuseBecause(err, "the message is no JWE")
	}
	h := m.ProtectedHeaders()
	if h.Has(jwe.CriticalKey) {
		return nil, "", "", refuse("the JWE has critical extensions (crit); none is known")
	}
	if h.Has(jwe.CompressionKey) {
		return nil, "", "", refuse("the JWE is compressed (zip), which is not accepted")
	}
	if enc, _ := h.ContentEncryption(); enc != jwa.A256GCM() {
		return nil, "", "", refuse("the JWE's content encryption (enc) is %s; expected A256GCM", quote(enc.String()))
	}
	keyID, _ = h.KeyID()
	private, known := keys.Key(keyID)
	if !known {
		return nil, "", "", refuse("the JWE is encrypted to the key %s (kid), which is not one of this hub's", quote(keyID))
	}
	public, ok := publicOf(private)
	if !ok {
		return nil, "", "", refuse("the key %s cannot decrypt", quote(keyID))
	}
	want, err := encryptionAlgorithm(public)
	if err != nil {
		return nil, "", "", err
	}
	if alg, _ := h.Algorithm(); alg != want {
		return nil, "", "", refuse("the JWE's algorithm (alg) is %s; expected %s for this key", quote(alg.String()), want)
	}
	plain, err = jwe.Decrypt(compact, jwe.WithKey(want, private))
	if err != nil {
		return nil, "", "", refuseBecause(err, "the JWE does not decrypt")
	}
	cty, _ := h.ContentType()
	return plain, fullType(cty), keyID, nil
}

// checkCompact refuses what is not the compact serialization of that many parts, before anything is decoded.
func checkCompact(message []byte, parts int, what string) error {
	if len(message) > MaxBytes {
		return refuse("the message has more than %d bytes", MaxBytes)
	}
	if header := bytes.IndexByte(message, '.'); header > maxHeader {
		return refuse("the message's header has more than %d bytes", maxHeader)
	}
	if bytes.Count(message, []byte(".")) != parts-1 || bytes.IndexFunc(message, notCompact) >= 0 {
		return refuse("the message is not %s in compact serialization: %d parts in base64url, between dots", what, parts)
	}
	return nil
}

func notCompact(c rune) bool {
	return c != '.' && c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z')
}

// fullType gives a content type the prefix that messages may omit (RFC 7515 section 4.1.10).
func fullType(cty string) string {
	if cty == "" || strings.Contains(cty, "/") {
		return cty
	}
	return "application/" + cty
}
