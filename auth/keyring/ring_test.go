package keyring_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"quorumhub/auth/keyring"
)

func ringOf(t *testing.T, fill ...byte) *keyring.Ring {
	t.Helper()
	var keys [][]byte
	for _, f := range fill {
		keys = append(keys, bytes.Repeat([]byte{f}, 32))
	}
	k, err := keyring.New(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestI10SealedSecretOpensOnlyWithItsBinding(t *testing.T) {
	k := ringOf(t, 1)
	sealed, err := k.Seal([]byte("correct horse"), "topic-a")
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(sealed, []byte("horse")) {
		t.Fatal("the sealed form contains the secret in the clear")
	}
	if got, err := k.Open(sealed, "topic-a"); err != nil || string(got) != "correct horse" {
		t.Fatalf("Open = %q, %v", got, err)
	}
	if _, err := k.Open(sealed, "topic-b"); err == nil {
		t.Error("a sealed secret opened with another subscription's binding")
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if _, err := k.Open(bad, "topic-a"); err == nil {
			t.Errorf("a flipped bit in byte %d went unnoticed", i)
		}
	}
	again, err := k.Seal([]byte("correct horse"), "topic-a")
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(sealed, again) {
		t.Error("sealing the same secret twice gives the same bytes")
	}
}

func TestKeyRotation(t *testing.T) {
	sealed, err := ringOf(t, 1).Seal([]byte("s"), "b")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ringOf(t, 2, 1).Open(sealed, "b"); err != nil || string(got) != "s" {
		t.Errorf("with a new key in front: %q, %v", got, err)
	}
	if _, err := ringOf(t, 2).Open(sealed, "b"); !errors.Is(err, keyring.ErrUnknownKey) {
		t.Errorf("without the old key: %v, want ErrUnknownKey", err)
	}
}

func openRing(path string, create bool) (*keyring.Ring, error) {
	s, err := keyring.Open(path, create)
	if err != nil {
		return nil, err
	}
	return s.Ring(), nil
}

func TestOpenKeyFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sub", "secrets.key")
	first, err := openRing(path, true)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("key file: %v, %v", info.Mode(), err)
	}
	sealed, err := first.Seal([]byte("s"), "b")
	if err != nil {
		t.Fatal(err)
	}
	second, err := openRing(path, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := second.Open(sealed, "b"); err != nil {
		t.Errorf("a key file read again does not open what was sealed: %v", err)
	}

	for name, c := range map[string]struct{ text, want string }{
		"empty":     {"# nothing\n", "contains no key"},
		"not a key": {"hello\n", "line 1"},
		"short key": {"# x\nAAAA\n", "line 2"},
	} {
		p := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
		if err := os.WriteFile(p, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := openRing(p, true); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), p) {
			t.Errorf("%s: %v, want the file and %q", name, err, c.want)
		}
	}
	for mode, want := range map[os.FileMode]string{0o640: "", 0o440: "", 0o400: "", 0o644: "chmod 600", 0o660: "chmod 600", 0o604: "chmod 600"} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := openRing(path, false); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("a key file of mode %04o: %v", mode, err)
		}
	}
	if _, err := openRing(filepath.Join(dir, "none"), false); err == nil {
		t.Error("a missing key file was accepted")
	}
}
