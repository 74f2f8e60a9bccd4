package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"os"
	"strings"
)

// SecretSource locates a shared secret, in a file or an environment variable; never in the settings themselves.
type SecretSource struct {
	File string `yaml:"secret_file"`
	Env  string `yaml:"secret_env"`
	// Encoding is raw (the bytes as they are, without a final line break; the default), hex or base64.
	Encoding string `yaml:"secret_encoding"`
}

// Read returns the secret, which must have at least so many bytes.
func (s *SecretSource) Read(atLeast int) ([]byte, error) { return s.read(atLeast) }

func (s *SecretSource) read(atLeast int) ([]byte, error) {
	var text, where string
	switch {
	case s.File != "" && s.Env != "", s.File == "" && s.Env == "":
		return nil, fmt.Errorf("expected either secret_file or secret_env")
	case s.File != "":
		b, err := os.ReadFile(s.File)
		if err != nil {
			return nil, fmt.Errorf("secret_file: %w", err)
		}
		text, where = strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r"), "secret_file "+s.File
	default:
		v, ok := os.LookupEnv(s.Env)
		if !ok {
			return nil, fmt.Errorf("secret_env: %s is not set in the environment", s.Env)
		}
		text, where = v, "secret_env "+s.Env
	}
	var secret []byte
	var err error
	switch s.Encoding {
	case "", "raw":
		secret = []byte(text)
	case "hex":
		secret, err = hex.DecodeString(strings.TrimSpace(text))
	case "base64":
		secret, err = base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	default:
		return nil, fmt.Errorf("secret_encoding: %q; expected raw, hex or base64", s.Encoding)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: is not %s", where, s.Encoding) // err would show part of the secret
	}
	if len(secret) < atLeast {
		return nil, fmt.Errorf("%s: has %d bytes; expected at least %d", where, len(secret), atLeast)
	}
	return secret, nil
}

// readPublicKey reads a public key in PEM (PKIX) and checks that it suits an algorithm of RFC 9421 section 3.3.
func readPublicKey(path, algorithm string) (crypto.PublicKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("public_key_file: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, fmt.Errorf("public_key_file %s: expected a PEM block of type PUBLIC KEY", path)
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("public_key_file %s: %w", path, err)
	}
	ok := false
	switch k := key.(type) {
	case *rsa.PublicKey:
		ok = algorithm == "rsa-pss-sha512" && k.N.BitLen() >= 2048
	case *ecdsa.PublicKey:
		ok = algorithm == "ecdsa-p256-sha256" && k.Curve.Params().BitSize == 256 || algorithm == "ecdsa-p384-sha384" && k.Curve.Params().BitSize == 384
	case ed25519.PublicKey:
		ok = algorithm == "ed25519"
	}
	if !ok {
		return nil, fmt.Errorf("public_key_file %s: a %T does not suit %s (RSA needs 2048 bits)", path, key, algorithm)
	}
	return key, nil
}
