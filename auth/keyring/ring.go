package keyring

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"quorumhub/hub"
)

// Ring seals secrets with AES-256-GCM; it implements hub.SecretBox. The first key seals, every key opens. Keys may change while
// it is in use. Safe for concurrent use.
//
// A sealed secret is a version byte, a 4-byte key ID (the start of the key's SHA-256), a 12-byte nonce, and the ciphertext with
// its tag, which also authenticates the binding.
type Ring struct {
	mu   sync.Mutex                   // serialises changes
	keys atomic.Pointer[[]sealingKey] // never changed in place, never empty
}

type sealingKey struct {
	id   string
	raw  []byte
	aead cipher.AEAD
	// token signs tokens, see TokenKeys.
	token *ecdsa.PrivateKey
}

const keyBytes = 32

// ErrUnknownKey means that a secret was sealed with a key that is not in the Ring.
var ErrUnknownKey = errors.New("the secret was sealed with a key that is not in the key file")

// New makes a Ring of at least one key of 32 bytes. The first key seals.
func New(keys ...[]byte) (*Ring, error) {
	if len(keys) == 0 {
		return nil, errors.New("no key; expected at least one")
	}
	var list []sealingKey
	for i, raw := range keys {
		key, err := newSealingKey(raw)
		if err != nil {
			return nil, fmt.Errorf("key %d %w", i+1, err)
		}
		list = append(list, key)
	}
	k := &Ring{}
	k.keys.Store(&list)
	return k, nil
}

func newSealingKey(raw []byte) (sealingKey, error) {
	if len(raw) != keyBytes {
		return sealingKey{}, fmt.Errorf("has %d bytes, expected %d", len(raw), keyBytes)
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		return sealingKey{}, fmt.Errorf("is unusable: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return sealingKey{}, fmt.Errorf("is unusable: %w", err)
	}
	token, err := deriveTokenKey(raw)
	if err != nil {
		return sealingKey{}, fmt.Errorf("is unusable: %w", err)
	}
	return sealingKey{id: KeyID(raw), raw: bytes.Clone(raw), aead: aead, token: token}, nil
}

// KeyID identifies a key without revealing it.
func KeyID(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:hub.SealKeyIDBytes])
}

// ID returns the ID of the key that seals.
func (k *Ring) ID() string { return (*k.keys.Load())[0].id }

// IDs returns the IDs of all keys, the one that seals first.
func (k *Ring) IDs() (ids []string) {
	for _, key := range *k.keys.Load() {
		ids = append(ids, key.id)
	}
	return ids
}

// Derived returns a secret for another purpose than sealing, from each key, the one that seals first. It reveals nothing about the
// keys.
func (k *Ring) Derived(purpose string) (secrets [][]byte) {
	for _, key := range *k.keys.Load() {
		m := hmac.New(sha256.New, key.raw)
		m.Write([]byte(purpose))
		secrets = append(secrets, m.Sum(nil))
	}
	return secrets
}

// Opens reports whether the Ring has the key with this ID.
func (k *Ring) Opens(id string) bool { return k.find(id) != nil }

func (k *Ring) find(id string) *sealingKey {
	for _, key := range *k.keys.Load() {
		if key.id == id {
			return &key
		}
	}
	return nil
}

// add adds a key that opens.
func (k *Ring) add(key sealingKey) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.Opens(key.id) {
		list := append(slices.Clone(*k.keys.Load()), key)
		k.keys.Store(&list)
	}
}

// prefer makes one of the keys the one that seals. Unknown keys are ignored.
func (k *Ring) prefer(id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	key := k.find(id)
	if key == nil || k.ID() == id {
		return
	}
	list := slices.Insert(k.without(id), 0, *key)
	k.keys.Store(&list)
}

// remove removes a key, unless it is the one that seals.
func (k *Ring) remove(id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ID() != id {
		list := k.without(id)
		k.keys.Store(&list)
	}
}

// without returns a copy of the keys but one.
func (k *Ring) without(id string) []sealingKey {
	return slices.DeleteFunc(slices.Clone(*k.keys.Load()), func(key sealingKey) bool { return key.id == id })
}

// Seal encrypts secret so that it opens only with the same binding.
func (k *Ring) Seal(secret []byte, bound string) ([]byte, error) {
	return (*k.keys.Load())[0].seal(secret, bound)
}

func (key *sealingKey) seal(secret []byte, bound string) ([]byte, error) {
	id, err := hex.DecodeString(key.id)
	if err != nil {
		return nil, fmt.Errorf("seal secret: %w", err)
	}
	out := make([]byte, 0, 1+len(id)+key.aead.NonceSize()+len(secret)+key.aead.Overhead())
	out = append(out, hub.SealVersion)
	out = append(out, id...)
	nonce := make([]byte, key.aead.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return nil, fmt.Errorf("seal secret: %w", err)
	}
	out = append(out, nonce...)
	return key.aead.Seal(out, nonce, secret, []byte(bound)), nil
}

// Open is the inverse of Seal. It fails with ErrUnknownKey if the Ring lacks the key, and with another error if the data or the
// binding differ from what was sealed.
func (k *Ring) Open(sealed []byte, bound string) ([]byte, error) {
	id := hub.SealedWith(sealed)
	if id == "" {
		return nil, errors.New("not a sealed secret")
	}
	key := k.find(id)
	if key == nil {
		return nil, fmt.Errorf("key id %s: %w", id, ErrUnknownKey)
	}
	rest := sealed[1+hub.SealKeyIDBytes:]
	if len(rest) < key.aead.NonceSize() {
		return nil, errors.New("truncated sealed secret")
	}
	secret, err := key.aead.Open(nil, rest[:key.aead.NonceSize()], rest[key.aead.NonceSize():], []byte(bound))
	if err != nil {
		return nil, fmt.Errorf("open secret: %w", err)
	}
	return secret, nil
}

// LogValue implements slog.LogValuer. It logs the IDs only.
func (k *Ring) LogValue() slog.Value { return slog.AnyValue(k.IDs()) }

// Format implements fmt.Formatter. No verb prints a key.
func (k *Ring) Format(f fmt.State, _ rune) { fmt.Fprint(f, k.IDs()) }

// GenerateKey makes a random key and returns its ID and its form in a key file, base64.
func GenerateKey() (id, text string, err error) {
	raw := make([]byte, keyBytes)
	if _, err := rand.Read(raw); err != nil {
		return "", "", fmt.Errorf("generate key: %w", err)
	}
	return KeyID(raw), base64.StdEncoding.EncodeToString(raw), nil
}
