package auth_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"quorumhub/auth"
)

func TestEncryptionKeysAreChecked(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"key.jwk": `{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}`, "private.jwk": `{"kty":"EC","crv":"P-256","x":"AA","y":"AA","d":"AA"}`,
		"other.pem": "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "empty": "", "large": strings.Repeat(" ", 70_000)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for line, want := range map[string]string{
		"key/0123456789ab: {file: key.jwk}":     "",
		"issuer:idp/7: {file: key.jwk}":         "",
		"somebody: {file: key.jwk}":             "is no principal",
		"key/0123456789ab: {file: private.jwk}": "has a private key",
		"key/0123456789ab: {file: other.pem}":   "neither a certificate in PEM nor a JWK",
		"key/0123456789ab: {file: empty}":       "neither a certificate in PEM nor a JWK",
		"key/0123456789ab: {file: large}":       "more than",
		"key/0123456789ab: {file: gone}":        "no such file",
		"key/0123456789ab: {}":                  "file: is missing",
	} {
		_, err := auth.ParseSettings([]byte("encryption_keys:\n  " + strings.Replace(line, "file: ", "file: "+dir+"/", 1) + "\n"))
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", line, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), "encryption_keys: ") || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %q", line, err, want)
		}
	}
}
