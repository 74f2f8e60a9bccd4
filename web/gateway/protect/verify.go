package protect

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"slices"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jws"
)

// Verify checks a JWS against the certificate in its x5c, and that certificate against trust: chain, validity, key usage and
// revocation. The certificate must name the caller, exactly: as a URI, a DNS name or an e-mail address among its alternative
// names, or as its common name. It returns the payload and its content type (cty, as Decrypt does). Refusals are an *Error.
func Verify(message []byte, trust *Trust, caller string, now time.Time) (payload []byte, contentType string, signer *x509.Certificate, err error) {
	message = bytes.TrimSpace(message)
	if err := checkCompact(message, 3, "a JWS"); err != nil {
		return nil, "", nil, err
	}
	m, err := jws.Parse(message, jws.WithCompact())
	if err != nil || len(m.Signatures()) != 1 {
		return nil, "", nil, refuseBecause(err, "the message is no JWS")
	}
	h := m.Signatures()[0].ProtectedHeaders()
	if h.Has(jws.CriticalKey) || h.Has("b64") {
		return nil, "", nil, refuse("the JWS has critical extensions (crit); none is known")
	}
	x5c, ok := h.X509CertChain()
	if !ok {
		return nil, "", nil, refuse("the JWS has no certificate (x5c)")
	}
	chain, err := x5cChain(encoded(x5c))
	if err != nil {
		return nil, "", nil, err
	}
	signer = chain[0]
	if err := checkUsage(signer, forSignatures); err != nil {
		return nil, "", nil, err
	}
	alg, _ := h.Algorithm()
	if allowed := signatureAlgorithms(signer.PublicKey); !slices.Contains(allowed, alg) {
		return nil, "", nil, refuse("the JWS's algorithm (alg) is %s, which does not go with the certificate's key", quote(alg.String()))
	}
	if _, err := trust.verify(signer, chain[1:], now); err != nil {
		return nil, "", nil, err
	}
	if !names(signer, caller) {
		return nil, "", nil, refuse("the certificate is not the caller's")
	}
	payload, err = jws.Verify(message, jws.WithKey(alg, signer.PublicKey))
	if err != nil {
		return nil, "", nil, refuseBecause(err, "the signature is not that of the certificate")
	}
	cty, _ := h.ContentType()
	return payload, fullType(cty), signer, nil
}

// signatureAlgorithms are those that go with a key; none with one that is not accepted.
func signatureAlgorithms(public crypto.PublicKey) []jwa.SignatureAlgorithm {
	switch k := public.(type) {
	case *rsa.PublicKey:
		return []jwa.SignatureAlgorithm{jwa.PS256(), jwa.PS384(), jwa.PS512(), jwa.RS256(), jwa.RS384(), jwa.RS512()}
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256():
			return []jwa.SignatureAlgorithm{jwa.ES256()}
		case elliptic.P384():
			return []jwa.SignatureAlgorithm{jwa.ES384()}
		case elliptic.P521():
			return []jwa.SignatureAlgorithm{jwa.ES512()}
		}
	case ed25519.PublicKey:
		return []jwa.SignatureAlgorithm{jwa.EdDSA()}
	}
	return nil
}

// names reports whether a certificate names somebody.
func names(c *x509.Certificate, somebody string) bool {
	if somebody == "" {
		return false
	}
	for _, u := range c.URIs {
		if u.String() == somebody {
			return true
		}
	}
	return c.Subject.CommonName == somebody || slices.Contains(c.DNSNames, somebody) || slices.Contains(c.EmailAddresses, somebody)
}
