package keyring

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
)

// tokenPurpose separates the keys of tokens from everything else that is derived from the sealing keys.
const tokenPurpose = "quorumhub gateway tokens ES256" //nolint:gosec // a name, not a secret

// TokenKeys returns the keys (P-256) that sign tokens for the services behind the gateway, one for each sealing key, the one in use
// first. All nodes that hold a sealing key have the same key for tokens, so these are rotated with them. They reveal nothing about the
// sealing keys.
func (k *Ring) TokenKeys() (keys []*ecdsa.PrivateKey) {
	for _, key := range *k.keys.Load() {
		keys = append(keys, key.token)
	}
	return keys
}

// tokenKey returns the public key for tokens of a sealing key, as an uncompressed point (SEC 1, section 2.3.3), or nil if the Ring lacks
// that sealing key.
func (k *Ring) tokenKey(id string) []byte {
	key := k.find(id)
	if key == nil {
		return nil
	}
	point, err := key.token.PublicKey.Bytes()
	if err != nil {
		return nil
	}
	return point
}

// deriveTokenKey makes a key pair as in FIPS 186-5, A.2.2 (testing candidates): the candidates are 32 bytes each of HKDF (RFC 5869), and
// practically always the first is one.
func deriveTokenKey(raw []byte) (*ecdsa.PrivateKey, error) {
	const tries = 4
	stream, err := hkdf.Key(sha256.New, raw, nil, tokenPurpose, 32*tries)
	if err != nil {
		return nil, err
	}
	for ; len(stream) > 0; stream = stream[32:] {
		var key *ecdsa.PrivateKey
		if key, err = ecdsa.ParseRawPrivateKey(elliptic.P256(), stream[:32]); err == nil {
			return key, nil
		}
	}
	return nil, fmt.Errorf("derive the key of tokens: %w", err)
}
