package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestUnusableTLSFiles(t *testing.T) {
	for text, want := range map[string]string{
		"- {hosts: [a.example], cart: x}":            "cart",
		"hosts: [a.example]":                         "delivery.tls_file",
		"- {hosts: [a.example], min_version: '1.1'}": "[0]: min_version",
	} {
		file := filepath.Join(t.TempDir(), "tls.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := loadTLSRules(file)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), file) {
			t.Errorf("%s\n%v, want %q", text, err, want)
		}
	}
	if _, err := loadTLSRules(filepath.Join(t.TempDir(), "none.yaml")); err == nil || !strings.HasPrefix(err.Error(), "delivery.tls_file: ") {
		t.Errorf("no file: %v", err)
	}
}
