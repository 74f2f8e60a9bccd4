package keyring

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
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

// Ring seals secrets with AES-256-GCM. It implements hub.SecretBox. The first key seals, every key
// opens. Keys come and go while it is used. Safe for concurrent use.
//
// A sealed secret is: 1 byte version, 4 bytes key id (start of the key's SHA-256), 12 bytes nonce, ciphertext
// with tag. The binding is authenticated with it.
type Ring struct {
	changing sync.Mutex
	keys     atomic.Pointer[[]sealingKey] // never changed in place, never empty
}

type sealingKey struct {
	id   string
	raw  []byte
	aead cipher.AEAD
}

const keyBytes = 32

// ErrUnknownKey means that a secret was sealed with a key that the keyring does not hold.
var ErrUnknownKey = errors.New("the secret was sealed with a key that is not in the key file")

// New makes a keyring of 32-byte keys, of which there must be at least one.
func New(keys ...[]byte) (*Ring, error) {
	if len(keys) == 0 {
		return nil, errors.New("a keyring needs at least one key")
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
		return sealingKey{}, fmt.Errorf("cannot be used: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return sealingKey{}, fmt.Errorf("cannot be used: %w", err)
	}
	return sealingKey{id: KeyID(raw), raw: bytes.Clone(raw), aead: aead}, nil
}

// KeyID names a key without giving it away.
func KeyID(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:hub.SealKeyIDBytes])
}

// ID names the sealing key without giving it away.
func (k *Ring) ID() string { return (*k.keys.Load())[0].id }

// IDs names all keys, the sealing one first.
func (k *Ring) IDs() (ids []string) {
	for _, key := range *k.keys.Load() {
		ids = append(ids, key.id)
	}
	return ids
}

// Opens tells whether the keyring has the key that ID names.
func (k *Ring) Opens(id string) bool { return k.find(id) != nil }

func (k *Ring) find(id string) *sealingKey {
	for _, key := range *k.keys.Load() {
		if key.id == id {
			return &key
		}
	}
	return nil
}

// add takes one more key, which opens.
func (k *Ring) add(key sealingKey) {
	k.changing.Lock()
	defer k.changing.Unlock()
	if !k.Opens(key.id) {
		list := append(slices.Clone(*k.keys.Load()), key)
		k.keys.Store(&list)
	}
}

// prefer makes a key that the keyring has the one that seals.
func (k *Ring) prefer(id string) {
	k.changing.Lock()
	defer k.changing.Unlock()
	key := k.find(id)
	if key == nil || k.ID() == id {
		return
	}
	list := append([]sealingKey{*key}, slices.DeleteFunc(slices.Clone(*k.keys.Load()), func(key sealingKey) bool { return key.id == id })...)
	k.keys.Store(&list)
}

// remove forgets a key that does not seal.
func (k *Ring) remove(id string) {
	k.changing.Lock()
	defer k.changing.Unlock()
	if k.ID() != id {
		list := slices.DeleteFunc(slices.Clone(*k.keys.Load()), func(key sealingKey) bool { return key.id == id })
		k.keys.Store(&list)
	}
}

// Seal encrypts secret so that it opens only together with the same binding.
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

// Open is the inverse of Seal. It fails with ErrUnknownKey when the key is not there, and with another error
// when the data or the binding is not what was sealed.
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
		return nil, errors.New("the sealed secret is cut short")
	}
	secret, err := key.aead.Open(nil, rest[:key.aead.NonceSize()], rest[key.aead.NonceSize():], []byte(bound))
	if err != nil {
		return nil, fmt.Errorf("open secret: %w", err)
	}
	return secret, nil
}

// LogValue implements slog.LogValuer: a log gets the ids.
func (k *Ring) LogValue() slog.Value { return slog.AnyValue(k.IDs()) }

// Format implements fmt.Formatter: no verb prints a key.
func (k *Ring) Format(f fmt.State, _ rune) { fmt.Fprint(f, k.IDs()) }

// GenerateKey makes a random key and returns its ID and its form in a key file, base64.
func GenerateKey() (id, text string, err error) {
	raw := make([]byte, keyBytes)
	if _, err := rand.Read(raw); err != nil {
		return "", "", fmt.Errorf("generate key: %w", err)
	}
	return KeyID(raw), base64.StdEncoding.EncodeToString(raw), nil
}
