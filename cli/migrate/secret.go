package migrate

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"
	"unicode/utf8"

	"quorumhub/cli/exit"
)

// secretKeyVariable is the variable in which MOSIP's hub expects the key of its secrets.
const secretKeyVariable = "HUB_SECRET_ENCRYPTION_KEY" //nolint:gosec // the name of a variable, not a secret

// secretIV is the length of the initialisation vector that follows a secret. It is longer than usual for AES-GCM.
const secretIV = 16

// SecretKey decrypts secrets as MOSIP's hub stores them: cipher{base64(AES-GCM text, tag, IV)}. The format of a key says how its text
// becomes bytes. That hub encrypts according to the format but decrypts with the text as it stands, so either may occur.
type SecretKey struct {
	from   string // the key's source in messages; empty without a key
	format string
	ways   []cipher.AEAD
}

// damagedSecretError is the error for a secret that no key can decrypt.
type damagedSecretError struct{ reason string }

func (e *damagedSecretError) Error() string { return e.reason }

// ReadSecretKey reads the key from the file or, without one, from the environment. Without a key it returns one that decrypts
// nothing.
func ReadSecretKey(file, format string, env []string) (*SecretKey, error) {
	key := &SecretKey{format: format}
	text := ""
	switch {
	case file != "":
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, exit.Usagef("--secret-key-file: %v", err)
		}
		key.from, text = file, strings.TrimRight(string(b), "\r\n")
	default:
		for _, line := range env {
			if v, ok := strings.CutPrefix(line, secretKeyVariable+"="); ok && v != "" {
				key.from, text = secretKeyVariable, v
			}
		}
	}
	if key.from == "" {
		return key, nil
	}
	var candidates [][]byte
	if key.format != "base64-encoded-bytes" {
		candidates = append(candidates, []byte(text))
	}
	if key.format != "alpha-numeric" {
		if b, err := base64.StdEncoding.DecodeString(text); err == nil {
			candidates = append(candidates, b)
		}
	}
	for _, b := range candidates {
		block, err := aes.NewCipher(b)
		if err != nil {
			continue // not 16, 24 or 32 bytes
		}
		way, err := cipher.NewGCMWithNonceSize(block, secretIV)
		if err != nil {
			return nil, fmt.Errorf("secrets: %w", err)
		}
		key.ways = append(key.ways, way)
	}
	if len(key.ways) == 0 {
		return nil, exit.Usagef("%s: %d characters; expected a key of 16, 24 or 32 bytes, as text or in base64 (--secret-key-format %s)",
			key.from, len(text), key.format)
	}
	return key, nil
}

// open returns a record's secret, decrypted if necessary. A *damagedSecretError concerns this secret only, any other error all of them.
func (k *SecretKey) open(text string) (string, error) {
	inner, ok := strings.CutPrefix(text, "cipher{")
	if !ok || !strings.HasSuffix(inner, "}") {
		return text, nil
	}
	sealed, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(inner, "}"))
	if err != nil || len(sealed) < secretIV+16 {
		return "", &damagedSecretError{"is damaged; expected cipher{...} with the base64 of an encrypted text, its tag and a 16-byte IV"}
	}
	if k == nil || k.from == "" {
		return "", errors.New("is encrypted; expected the key in " + secretKeyVariable + " or --secret-key-file; nothing was imported")
	}
	iv := sealed[len(sealed)-secretIV:]
	for _, way := range k.ways {
		if secret, err := way.Open(nil, iv, sealed[:len(sealed)-secretIV], nil); err == nil {
			if !utf8.Valid(secret) {
				return "", &damagedSecretError{"decrypts to something other than text; expected a secret in UTF-8"}
			}
			return string(secret), nil
		}
	}
	return "", fmt.Errorf("cannot be decrypted with the key in %s (--secret-key-format %s); expected that hub's key; nothing was imported", k.from, k.format)
}
