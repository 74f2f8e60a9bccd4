package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/lestrrat-go/jwx/v3/jwk"
)

// Limits on the keys of an issuer. Verifying with a longer RSA key would take too long.
const (
	maxKeys    = 50
	minRSABits = 2048
	maxRSABits = 8192
)

// parseKeys returns the public signature keys of a set, and a line for each key that it skips because it does not know, trust or
// understand it (RFC 7517 section 5). A set without any usable key is an error.
func parseKeys(body []byte) (keys []issuerKey, skipped []string, _ error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(body, &set); err != nil {
		return nil, nil, fmt.Errorf("key set: %w; expected {\"keys\": [...]}", err)
	}
	for i, raw := range set.Keys {
		if i == maxKeys {
			skipped = append(skipped, fmt.Sprintf("%d further keys: at most %d are read", len(set.Keys)-maxKeys, maxKeys))
			break
		}
		k, err := parseKey(raw)
		switch {
		case errors.Is(err, errOtherUse):
			continue // nothing is wrong with it
		case err != nil:
			name := fmt.Sprintf("key %d", i+1)
			if k.kid != "" {
				name += fmt.Sprintf(" (kid %q)", clip(k.kid))
			}
			skipped = append(skipped, fmt.Sprintf("%s: %s", name, clip(err.Error())))
			continue
		}
		if !slices.ContainsFunc(keys, k.same) {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		err := fmt.Errorf("none of the %d keys is a usable public signature key", len(set.Keys))
		if len(skipped) > 0 {
			err = fmt.Errorf("%w: %s", err, skipped[0])
		}
		return nil, skipped, err
	}
	return keys, skipped, nil
}

// errOtherUse means that a key is not for signatures.
var errOtherUse = errors.New("not for signatures")

// parseKey returns a public signature key. With an error only its kid is set.
func parseKey(raw json.RawMessage) (issuerKey, error) {
	var head struct {
		Kid string   `json:"kid"`
		Use string   `json:"use"`
		Ops []string `json:"key_ops"`
		Alg string   `json:"alg"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return issuerKey{}, errors.New("not a key")
	}
	out := issuerKey{kid: head.Kid}
	if head.Use != "" && head.Use != "sig" || head.Ops != nil && !slices.Contains(head.Ops, "verify") && !slices.Contains(head.Ops, "sign") {
		return out, errOtherUse
	}
	k, err := jwk.ParseKey(raw)
	if err != nil {
		for in := err; in != nil; in = errors.Unwrap(in) {
			err = in // the innermost says what is wrong
		}
		return out, err
	}
	if private, err := jwk.IsPrivateKey(k); err == nil && private {
		return out, errors.New("shows its private part, so anybody could have signed with it")
	}
	public, err := k.PublicKey()
	if err != nil {
		return out, fmt.Errorf("no public key: %w", err)
	}
	var value any
	if err := jwk.Export(public, &value); err != nil {
		return out, fmt.Errorf("not understood: %w", err)
	}
	if err := checkKey(value); err != nil {
		return out, err
	}
	out.key, out.alg = value, head.Alg
	return out, nil
}

// checkKey refuses keys that verify nothing here, or prove nothing.
func checkKey(key any) error {
	switch k := key.(type) {
	case *rsa.PublicKey:
		switch bits := k.N.BitLen(); {
		case bits < minRSABits || bits > maxRSABits:
			return fmt.Errorf("RSA with %d bits; expected %d to %d", bits, minRSABits, maxRSABits)
		case k.E < 3 || k.E%2 == 0:
			return fmt.Errorf("RSA with the exponent %d; expected an odd one from 3", k.E)
		}
		return nil
	case *ecdsa.PublicKey:
		if _, err := k.ECDH(); err != nil {
			return errors.New("not a point of a curve that is supported")
		}
		return nil
	case ed25519.PublicKey:
		if len(k) != ed25519.PublicKeySize {
			return fmt.Errorf("Ed25519 with %d bytes; expected %d", len(k), ed25519.PublicKeySize)
		}
		return nil
	}
	// Whoever can read a symmetric key here could have signed with it.
	return fmt.Errorf("%T verifies nothing here", key)
}

// same reports whether two entries are one key.
func (k issuerKey) same(o issuerKey) bool {
	equal, ok := k.key.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.kid == o.kid && k.alg == o.alg && equal.Equal(o.key)
}
