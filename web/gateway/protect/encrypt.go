package protect

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwe"
)

// ContentType is that of a message in compact serialization.
const ContentType = "application/jose"

// Encrypt encrypts plain to a recipient, as JWE in compact serialization. contentType becomes cty. The header names the
// recipient's key (kid), and the certificate, if there is one (x5t#S256).
func Encrypt(plain []byte, contentType string, to *Recipient) ([]byte, error) {
	h := jwe.NewHeaders()
	fields := map[string]string{jwe.KeyIDKey: to.keyID, jwe.ContentTypeKey: contentType}
	if to.certificate != nil {
		sum := sha256.Sum256(to.certificate.Raw)
		fields[jwe.X509CertThumbprintS256Key] = base64.RawURLEncoding.EncodeToString(sum[:])
	}
	for name, value := range fields {
		if value == "" {
			continue
		}
		if err := h.Set(name, value); err != nil {
			return nil, fmt.Errorf("encrypt: set the header %s: %w", name, err)
		}
	}
	out, err := jwe.Encrypt(plain, jwe.WithKey(to.algorithm, to.public), jwe.WithContentEncryption(jwa.A256GCM()), jwe.WithProtectedHeaders(h))
	if err != nil {
		return nil, fmt.Errorf("encrypt: %w", err)
	}
	return out, nil
}
