package protect

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"slices"

	"github.com/lestrrat-go/jwx/v3/jwa"
	"github.com/lestrrat-go/jwx/v3/jwk"
)

// minRSABits is the least size of an RSA key.
const minRSABits = 2048

// KeySource has the private keys to which messages may be encrypted. It must be safe for concurrent use.
type KeySource interface {
	// Key returns the *rsa.PrivateKey, *ecdsa.PrivateKey or X25519 *ecdh.PrivateKey of that ID, which is empty for messages that
	// name none.
	Key(id string) (crypto.PrivateKey, bool)
}

// Key is a private key and its ID.
type Key struct {
	ID      string
	Private crypto.PrivateKey
}

// Keys is a KeySource. A message that names no key can only be for an only key.
type Keys []Key

// Key implements KeySource.
func (k Keys) Key(id string) (crypto.PrivateKey, bool) {
	if id == "" && len(k) == 1 {
		return k[0].Private, true
	}
	i := slices.IndexFunc(k, func(k Key) bool { return k.ID == id })
	if id == "" || i < 0 {
		return nil, false
	}
	return k[i].Private, true
}

// ParseKey reads a private key, a JWK or PEM (PKCS #8, PKCS #1, SEC 1). Its ID is the JWK's kid, or else KeyID of it.
func ParseKey(text []byte) (Key, error) {
	parsed, err := jwk.ParseKey(text, jwk.WithPEM(isPEM(text)))
	if err != nil {
		return Key{}, refuseBecause(err, "the key cannot be read; expected a private key as JWK or PEM, RSA with 2048 bits or more")
	}
	var raw any
	if err := jwk.Export(parsed, &raw); err != nil {
		return Key{}, refuseBecause(err, "the key cannot be read; expected a private key as JWK or PEM, RSA with 2048 bits or more")
	}
	public, ok := publicOf(raw)
	if !ok {
		return Key{}, refuse("the key is no private key for encryption; expected RSA, an elliptic curve or X25519")
	}
	if _, err := encryptionAlgorithm(public); err != nil {
		return Key{}, err
	}
	id, named := parsed.KeyID()
	if !named || id == "" {
		if id, err = KeyID(public); err != nil {
			return Key{}, err
		}
	}
	return Key{ID: id, Private: raw}, nil
}

// publicOf returns the public part of a private key that can decrypt.
func publicOf(private crypto.PrivateKey) (crypto.PublicKey, bool) {
	switch k := private.(type) {
	case *rsa.PrivateKey:
		return &k.PublicKey, true
	case *ecdsa.PrivateKey:
		return &k.PublicKey, true
	case *ecdh.PrivateKey:
		return k.PublicKey(), true
	}
	return nil, false
}

// KeyID returns the thumbprint of a public key (RFC 7638, SHA-256, base64url).
func KeyID(public crypto.PublicKey) (string, error) {
	k, err := jwk.Import(public)
	if err != nil {
		return "", refuseBecause(err, "the key is of a kind that is not known")
	}
	sum, err := k.Thumbprint(crypto.SHA256)
	if err != nil {
		return "", refuseBecause(err, "the key is of a kind that is not known")
	}
	return base64.RawURLEncoding.EncodeToString(sum), nil
}

// encryptionAlgorithm returns the algorithm with which keys are encrypted to a public key, and refuses weak ones.
func encryptionAlgorithm(public crypto.PublicKey) (jwa.KeyEncryptionAlgorithm, error) {
	switch k := public.(type) {
	case *rsa.PublicKey:
		return jwa.RSA_OAEP_256(), checkRSA(k)
	case *ecdsa.PublicKey:
		return jwa.ECDH_ES_A256KW(), checkCurve(k.Curve)
	case *ecdh.PublicKey:
		if k.Curve() != ecdh.X25519() {
			return jwa.ECDH_ES_A256KW(), refuse("the key's curve is %v; expected P-256, P-384, P-521 or X25519", k.Curve())
		}
		return jwa.ECDH_ES_A256KW(), nil
	}
	return jwa.KeyEncryptionAlgorithm{}, refuse("nothing can be encrypted to a key of this kind; expected RSA, P-256, P-384, P-521 or X25519")
}

func checkRSA(k *rsa.PublicKey) error {
	if bits := k.N.BitLen(); bits < minRSABits {
		return refuse("the RSA key has %d bits; expected %d or more", bits, minRSABits)
	}
	return nil
}

func checkCurve(c elliptic.Curve) error {
	if c == elliptic.P256() || c == elliptic.P384() || c == elliptic.P521() {
		return nil
	}
	return refuse("the key's curve is %s; expected P-256, P-384 or P-521", c.Params().Name)
}
