package protect

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"slices"
	"time"

	"github.com/lestrrat-go/jwx/v3/cert"
	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
)

const (
	maxRecipient = 64 << 10 // bytes of its text
	maxChain     = 8        // certificates that come with a message or a recipient
)

// Recipient is a public key to which payloads are encrypted. It is immutable and safe for concurrent use.
type Recipient struct {
	keyID       string
	algorithm   jwa.KeyEncryptionAlgorithm
	public      crypto.PublicKey
	certificate *x509.Certificate   // nil: a bare key
	others      []*x509.Certificate // that came with it
	ends        time.Time
}

// KeyID is the JWK's kid, or else KeyID of the key.
func (r *Recipient) KeyID() string { return r.keyID }

// Certificate returns the recipient's certificate, or nil for a bare key.
func (r *Recipient) Certificate() *x509.Certificate { return r.certificate }

// Ends is when the first certificate of the recipient's chain ends; zero for a bare key.
func (r *Recipient) Ends() time.Time { return r.ends }

// ParseRecipient reads a recipient: a public JWK, with or without x5c; a chain of certificates as in x5c, the recipient's first,
// or that one certificate in base64; or as PEM. With a trust, it must have a certificate that Trust accepts for encryption;
// without one, a certificate must be valid now and for encryption. Refusals are an *Error.
func ParseRecipient(text []byte, trust *Trust, now time.Time) (*Recipient, error) {
	text = bytes.TrimSpace(text)
	if len(text) > maxRecipient {
		return nil, refuse("the key has more than %d bytes", maxRecipient)
	}
	r := &Recipient{}
	var chain []*x509.Certificate
	var err error
	switch {
	case len(text) == 0:
		return nil, refuse("the key is empty; expected a JWK, x5c or certificates as PEM")
	case isPEM(text):
		chain, err = pemChain(text)
	case text[0] == '{':
		chain, err = r.parseJWK(text)
	case text[0] == '[':
		var x5c []string
		if json.Unmarshal(text, &x5c) != nil {
			return nil, refuse("the x5c is no JSON array of strings")
		}
		chain, err = x5cChain(x5c)
	default:
		chain, err = x5cChain([]string{string(text)})
	}
	if err != nil {
		return nil, err
	}
	if len(chain) > 0 {
		if r.public != nil && !equalKeys(r.public, chain[0].PublicKey) {
			return nil, refuse("the key is not that of its certificate (x5c)")
		}
		r.public, r.certificate, r.others = chain[0].PublicKey, chain[0], chain[1:]
	}
	if r.algorithm, err = encryptionAlgorithm(r.public); err != nil {
		return nil, err
	}
	if r.keyID == "" {
		if r.keyID, err = KeyID(r.public); err != nil {
			return nil, err
		}
	}
	return r, r.check(trust, now)
}

// Check is what ParseRecipient checks about the certificate, for a recipient that has been kept: it may have ended or been
// revoked since.
func (r *Recipient) Check(trust *Trust, now time.Time) error {
	c := *r
	return c.check(trust, now)
}

func (r *Recipient) check(trust *Trust, now time.Time) error {
	switch {
	case r.certificate == nil && trust != nil:
		return refuse("a key alone is not accepted here; expected a certificate (x5c) of an authority that is trusted")
	case r.certificate == nil:
		return nil
	}
	if err := checkUsage(r.certificate, forEncryption); err != nil {
		return err
	}
	if trust == nil {
		r.ends = r.certificate.NotAfter
		return checkDates(r.certificate, now)
	}
	chain, err := trust.verify(r.certificate, r.others, now)
	if err != nil {
		return err
	}
	r.ends = endOfChain(chain)
	return nil
}

func (r *Recipient) parseJWK(text []byte) ([]*x509.Certificate, error) {
	const expected = "expected one public key of kty RSA (2048 bits or more), EC or OKP"
	k, err := jwk.ParseKey(text)
	if err != nil {
		return nil, refuseBecause(err, "the key is no JWK; %s", expected)
	}
	if private, err := jwk.IsPrivateKey(k); err != nil {
		return nil, refuse("the JWK is a symmetric key; %s", expected)
	} else if private {
		return nil, refuse("the JWK is a private key: replace it, and send the public one")
	}
	if use, ok := k.KeyUsage(); ok && use != "enc" {
		return nil, refuse("the JWK's use is %s; expected enc", quote(use))
	}
	if ops, ok := k.KeyOps(); ok && !slices.ContainsFunc(ops, func(op jwk.KeyOperation) bool {
		return slices.Contains([]jwk.KeyOperation{jwk.KeyOpEncrypt, jwk.KeyOpWrapKey, jwk.KeyOpDeriveKey, jwk.KeyOpDeriveBits}, op)
	}) {
		return nil, refuse("the JWK's key_ops have nothing about encryption; expected wrapKey or deriveKey")
	}
	var raw any
	if err := jwk.Export(k, &raw); err != nil {
		return nil, refuseBecause(err, "the JWK is no valid key; %s", expected)
	}
	r.public = raw
	want, err := encryptionAlgorithm(raw)
	if err != nil {
		return nil, err
	}
	if alg, ok := k.Algorithm(); ok && alg.String() != want.String() {
		return nil, refuse("the JWK's alg is %s; expected %s", quote(alg.String()), want)
	}
	r.keyID, _ = k.KeyID()
	if chain, ok := k.X509CertChain(); ok {
		return x5cChain(encoded(chain))
	}
	return nil, nil
}

// encoded returns the certificates of an x5c as they are there.
func encoded(chain *cert.Chain) []string {
	out := make([]string, 0, chain.Len())
	for i := range chain.Len() {
		if c, ok := chain.Get(i); ok {
			out = append(out, string(c))
		}
	}
	return out
}

// x5cChain reads the certificates of an x5c (RFC 7515 section 4.1.6).
func x5cChain(x5c []string) ([]*x509.Certificate, error) {
	if len(x5c) == 0 || len(x5c) > maxChain {
		return nil, refuse("the x5c has %d certificates; expected 1 to %d", len(x5c), maxChain)
	}
	chain := make([]*x509.Certificate, len(x5c))
	for i, text := range x5c {
		der, err := base64.StdEncoding.DecodeString(text)
		if err == nil {
			chain[i], err = x509.ParseCertificate(der)
		}
		if err != nil {
			return nil, refuseBecause(err, "certificate %d of the x5c cannot be read; expected DER in base64", i+1)
		}
	}
	return chain, nil
}

// pemChain reads certificates in PEM, and nothing else.
func pemChain(text []byte) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, refuse("the PEM has a %s; expected certificates only", quote(block.Type))
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, refuseBecause(err, "certificate %d of the PEM cannot be read", len(chain)+1)
		}
		chain = append(chain, c)
	}
	if len(chain) == 0 || len(chain) > maxChain {
		return nil, refuse("the PEM has %d certificates; expected 1 to %d", len(chain), maxChain)
	}
	return chain, nil
}

func isPEM(text []byte) bool { return bytes.HasPrefix(bytes.TrimSpace(text), []byte("-----BEGIN")) }

// equalKeys compares public keys; those of one curve in two packages are different.
func equalKeys(a, b crypto.PublicKey) bool {
	switch k := a.(type) {
	case *rsa.PublicKey:
		return k.Equal(b)
	case *ecdsa.PublicKey:
		return k.Equal(b)
	case *ecdh.PublicKey:
		return k.Equal(b)
	}
	return false
}
