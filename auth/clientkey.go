package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"slices"
	"strings"
)

// ClientKey is a private key by which the hub authenticates at a provider (RFC 7523).
type ClientKey struct {
	File      string `yaml:"file"`      // PEM, PKCS #8
	ID        string `yaml:"id"`        // kid; may be empty
	Algorithm string `yaml:"algorithm"` // of signatures; empty: the usual one of the key's kind

	signer crypto.Signer
}

// Signer returns the key as of when the settings were read.
func (k *ClientKey) Signer() crypto.Signer { return k.signer }

// check reads the key. An algorithm that is not given becomes the usual one.
func (k *ClientKey) check() error {
	if k.Algorithm != "" && !slices.Contains(signatureAlgorithms[:], k.Algorithm) {
		return fmt.Errorf("algorithm: %q; expected one of %s", clip(k.Algorithm), strings.Join(signatureAlgorithms[:], ", "))
	}
	text, err := os.ReadFile(k.File)
	if err != nil {
		return fmt.Errorf("file: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		return fmt.Errorf("file %s: expected a PEM block of type PRIVATE KEY (PKCS #8)", k.File)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return fmt.Errorf("file %s: %w", k.File, err)
	}
	var fitting []string
	switch key := key.(type) {
	case *rsa.PrivateKey:
		if key.N.BitLen() >= minRSABits {
			fitting = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
		}
		k.signer = key
	case *ecdsa.PrivateKey:
		fitting = map[int][]string{256: {"ES256"}, 384: {"ES384"}, 521: {"ES512"}}[key.Curve.Params().BitSize]
		k.signer = key
	case ed25519.PrivateKey:
		fitting = []string{"EdDSA"}
		k.signer = key
	}
	if fitting == nil {
		return fmt.Errorf("file %s: a %T signs nothing here; expected RSA from %d bits, ECDSA on P-256, P-384 or P-521, or Ed25519", k.File, key, minRSABits)
	}
	if k.Algorithm == "" {
		k.Algorithm = fitting[0]
	}
	if !slices.Contains(fitting, k.Algorithm) {
		return fmt.Errorf("algorithm: %q; the key in %s takes %s", clip(k.Algorithm), k.File, strings.Join(fitting, ", "))
	}
	return nil
}
