package auth

import (
	"bufio"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
)

// Keyring seals secrets with AES-256-GCM. It implements hub.SecretBox. The first key seals, every key
// opens, so a key is rotated by putting a new one in front. Safe for concurrent use.
//
// A sealed secret is: 1 byte version, 4 bytes key id (start of the key's SHA-256), 12 bytes nonce, ciphertext
// with tag. The binding is authenticated with it.
type Keyring struct {
	keys []sealingKey
}

type sealingKey struct {
	id   [keyIDBytes]byte
	aead cipher.AEAD
}

const (
	sealVersion = 1
	keyBytes    = 32
	keyIDBytes  = 4
)

// ErrUnknownKey means that a secret was sealed with a key that the keyring does not hold.
var ErrUnknownKey = errors.New("the secret was sealed with a key that is not in the key file")

// NewKeyring makes a keyring of 32-byte keys, of which there must be at least one.
func NewKeyring(keys ...[]byte) (*Keyring, error) {
	if len(keys) == 0 {
		return nil, errors.New("a keyring needs at least one key")
	}
	k := &Keyring{}
	for i, raw := range keys {
		if len(raw) != keyBytes {
			return nil, fmt.Errorf("key %d has %d bytes, expected %d", i+1, len(raw), keyBytes)
		}
		block, err := aes.NewCipher(raw)
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
		sum := sha256.Sum256(raw)
		k.keys = append(k.keys, sealingKey{id: [keyIDBytes]byte(sum[:keyIDBytes]), aead: aead})
	}
	return k, nil
}

// ID names the sealing key without giving it away.
func (k *Keyring) ID() string { return hex.EncodeToString(k.keys[0].id[:]) }

// Opens tells whether the keyring has the key that ID names.
func (k *Keyring) Opens(id string) bool {
	for _, key := range k.keys {
		if hex.EncodeToString(key.id[:]) == id {
			return true
		}
	}
	return false
}

// Seal encrypts secret so that it opens only together with the same binding.
func (k *Keyring) Seal(secret []byte, bound string) ([]byte, error) {
	key := k.keys[0]
	out := make([]byte, 0, 1+keyIDBytes+key.aead.NonceSize()+len(secret)+key.aead.Overhead())
	out = append(out, sealVersion)
	out = append(out, key.id[:]...)
	nonce := make([]byte, key.aead.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return nil, fmt.Errorf("seal secret: %w", err)
	}
	out = append(out, nonce...)
	return key.aead.Seal(out, nonce, secret, []byte(bound)), nil
}

// Open is the inverse of Seal. It fails with ErrUnknownKey when the key is not there, and with another error
// when the data or the binding is not what was sealed.
func (k *Keyring) Open(sealed []byte, bound string) ([]byte, error) {
	if len(sealed) < 1+keyIDBytes || sealed[0] != sealVersion {
		return nil, errors.New("not a sealed secret")
	}
	for _, key := range k.keys {
		if string(sealed[1:1+keyIDBytes]) != string(key.id[:]) {
			continue
		}
		rest := sealed[1+keyIDBytes:]
		if len(rest) < key.aead.NonceSize() {
			return nil, errors.New("the sealed secret is cut short")
		}
		secret, err := key.aead.Open(nil, rest[:key.aead.NonceSize()], rest[key.aead.NonceSize():], []byte(bound))
		if err != nil {
			return nil, fmt.Errorf("open secret: %w", err)
		}
		return secret, nil
	}
	return nil, fmt.Errorf("key id %s: %w", hex.EncodeToString(sealed[1:1+keyIDBytes]), ErrUnknownKey)
}

// GenerateKey makes a random key in the form of a key file's line.
func GenerateKey() (string, error) {
	raw := make([]byte, keyBytes)
	if _, err := rand.Read(raw); err != nil {
		return "", fmt.Errorf("generate key: %w", err)
	}
	return base64.StdEncoding.EncodeToString(raw), nil
}

// LoadKeyring reads a key file: one base64 key of 32 bytes a line, the sealing one first; empty lines and lines
// that begin with # are skipped. With create a missing file is made with one random key, readable by the
// owner only. Errors name the file and the line.
func LoadKeyring(path string, create bool) (*Keyring, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) && create {
		if err := createKeyFile(path); err != nil {
			return nil, err
		}
		f, err = os.Open(path)
	}
	if err != nil {
		return nil, fmt.Errorf("secrets.key_file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("secrets.key_file: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("secrets.key_file %s: its mode is %04o, so others may read it; expected 0600 (chmod 600)", path, info.Mode().Perm())
	}
	var keys [][]byte
	scan := bufio.NewScanner(f)
	for line := 1; scan.Scan(); line++ {
		text := strings.TrimSpace(scan.Text())
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(raw) != keyBytes {
			return nil, fmt.Errorf("secrets.key_file %s line %d: expected one base64 key of %d bytes", path, line, keyBytes)
		}
		keys = append(keys, raw)
	}
	if err := scan.Err(); err != nil {
		return nil, fmt.Errorf("secrets.key_file %s: %w", path, err)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("secrets.key_file %s holds no key; expected one base64 key of %d bytes a line", path, keyBytes)
	}
	return NewKeyring(keys...)
}

func createKeyFile(path string) error {
	key, err := GenerateKey()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("secrets.key_file: %w", err)
	}
	text := "# Key that seals subscribers' secrets. Keep it: without it they cannot be signed for.\n" + key + "\n"
	if err := renameio.WriteFile(path, []byte(text), 0o600); err != nil {
		return fmt.Errorf("secrets.key_file: %w", err)
	}
	return nil
}
