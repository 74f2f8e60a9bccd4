package auth

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

// maxEncryptionKeyBytes bounds the file of an encryption key; a certificate chain fits.
const maxEncryptionKeyBytes = 64 << 10

// EncryptionKeySetting says to which key answers to a principal are encrypted where that is demanded. It is public.
type EncryptionKeySetting struct {
	// File has the principal's certificate in PEM, or its public key as a JWK.
	File string `yaml:"file"`

	text []byte
}

func (s *Settings) checkEncryptionKeys() error {
	for _, id := range slices.Sorted(maps.Keys(s.EncryptionKeys)) {
		if authority, subject, ok := strings.Cut(id, "/"); !ok || authority == "" || subject == "" {
			return fmt.Errorf("%q is no principal; expected <authority>/<subject>, such as key/0123456789ab or issuer:idp/123", id)
		}
		set := s.EncryptionKeys[id]
		if err := set.read(); err != nil {
			return fmt.Errorf("%s: file: %w", id, err)
		}
		s.EncryptionKeys[id] = set
	}
	return nil
}

func (k *EncryptionKeySetting) read() error {
	if k.File == "" {
		return errors.New("is missing; expected a certificate in PEM or a public key as a JWK")
	}
	f, err := os.Open(k.File)
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxEncryptionKeyBytes+1))
	switch {
	case err != nil:
		return err
	case len(text) > maxEncryptionKeyBytes:
		return fmt.Errorf("%s has more than %d bytes", k.File, maxEncryptionKeyBytes)
	}
	k.text = bytes.TrimSpace(text)
	if json.Valid(k.text) && k.text[0] == '{' {
		var key struct{ D *string }
		if json.Unmarshal(k.text, &key) == nil && key.D != nil {
			return fmt.Errorf("%s has a private key; expected the public one", k.File)
		}
		return nil
	}
	block, _ := pem.Decode(k.text)
	if block == nil || block.Type != "CERTIFICATE" {
		return fmt.Errorf("%s has neither a certificate in PEM nor a JWK", k.File)
	}
	if _, err := x509.ParseCertificate(block.Bytes); err != nil {
		return fmt.Errorf("%s: %w", k.File, err)
	}
	return nil
}

// EncryptionKey returns the certificate (PEM) or public key (JWK) to which auth.file says that answers to a principal are encrypted; nil:
// none.
func (g *Guard) EncryptionKey(p *Principal) []byte {
	keys := g.rules().settings.EncryptionKeys
	if len(keys) == 0 || p.ID == "" {
		return nil
	}
	for _, id := range append([]string{p.ID}, p.aliases...) {
		if k, ok := keys[id]; ok {
			return k.text
		}
	}
	return nil
}
