package keyring_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"quorumhub/auth/keyring"
)

func rawKey(fill byte) []byte { return bytes.Repeat([]byte{fill}, 32) }

func keyText(fill byte) string { return base64.StdEncoding.EncodeToString(rawKey(fill)) }

func keyFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secrets.key")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func openKeyFile(t *testing.T, path string) *keyring.Store {
	t.Helper()
	s, err := keyring.Open(path, false)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestKeyFileChangesInPlace(t *testing.T) {
	path := keyFile(t, "# mine\n\n"+keyText(1)+"\n# a remark\n"+keyText(2)+"\n")
	s := openKeyFile(t, path)
	want := func(text string) {
		t.Helper()
		data, err := os.ReadFile(path)
		info, serr := os.Stat(path)
		if err != nil || serr != nil || string(data) != text || info.Mode().Perm() != 0o600 {
			t.Fatalf("the file is %q (%v, %v), want %q", data, err, info.Mode(), text)
		}
		kept, err := s.Kept()
		if err != nil || strings.Join(kept, ",") != strings.Join(openKeyFile(t, path).Ring().IDs(), ",") {
			t.Errorf("Kept returns %v (%v), the next start finds %v", kept, err, openKeyFile(t, path).Ring().IDs())
		}
	}
	for range 2 { // each change twice: the repetition has no effect
		if err := s.Add(rawKey(3)); err != nil {
			t.Fatal(err)
		}
		want("# mine\n\n" + keyText(1) + "\n# a remark\n" + keyText(2) + "\n" + keyText(3) + "\n")
	}
	for range 2 {
		if err := s.Prefer(keyring.KeyID(rawKey(3))); err != nil {
			t.Fatal(err)
		}
		want("# mine\n\n" + keyText(3) + "\n" + keyText(1) + "\n# a remark\n" + keyText(2) + "\n")
	}
	for range 2 {
		if err := s.Remove(keyring.KeyID(rawKey(1))); err != nil {
			t.Fatal(err)
		}
		want("# mine\n\n" + keyText(3) + "\n# a remark\n" + keyText(2) + "\n")
	}
	if ids := s.Ring().IDs(); len(ids) != 2 || ids[0] != keyring.KeyID(rawKey(3)) {
		t.Errorf("in memory: %v", ids)
	}
	// Keys added by hand open without a restart.
	sealed, err := ringOf(t, 4).Seal([]byte("s"), "b")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(keyText(3)+"\n"+keyText(2)+"\n"+keyText(4)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Kept(); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Ring().Open(sealed, "b"); err != nil || string(got) != "s" {
		t.Errorf("a key added by hand: %q, %v", got, err)
	}
}

// Nodes on one machine may share a key file.
func TestKeyFileSharedByProcesses(t *testing.T) {
	path := keyFile(t, keyText(1)+"\n")
	var wg sync.WaitGroup
	for i := range 8 {
		s := openKeyFile(t, path)
		wg.Go(func() {
			for j := range 4 {
				if err := s.Add(rawKey(byte(10 + 4*i + j))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := len(openKeyFile(t, path).Ring().IDs()); n != 33 {
		t.Errorf("%d keys, want 33", n)
	}
}

// A symbolic link to the key file stays a link.
func TestKeyFileBehindSymlink(t *testing.T) {
	path := keyFile(t, keyText(1)+"\n")
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	if err := openKeyFile(t, link).Add(rawKey(2)); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 || len(openKeyFile(t, path).Ring().IDs()) != 2 {
		t.Errorf("the link has mode %v (%v), the file has keys %v", info.Mode(), err, openKeyFile(t, path).Ring().IDs())
	}
}

func TestFixedKeys(t *testing.T) {
	s, err := keyring.Fixed(keyText(1) + ", " + keyText(2) + "\n")
	if err != nil {
		t.Fatal(err)
	}
	if ids := s.Ring().IDs(); len(ids) != 2 || ids[0] != keyring.KeyID(rawKey(1)) || !s.Fixed() {
		t.Errorf("%v", ids)
	}
	if err := s.Add(rawKey(3)); !errors.Is(err, keyring.ErrFixed) {
		t.Errorf("adding: %v", err)
	}
	if err := s.Prefer(keyring.KeyID(rawKey(2))); err != nil || s.Ring().ID() != keyring.KeyID(rawKey(2)) {
		t.Errorf("preferring: %v", err)
	}
	if err := s.Remove(keyring.KeyID(rawKey(1))); !errors.Is(err, keyring.ErrFixed) || s.Ring().Opens(keyring.KeyID(rawKey(1))) {
		t.Errorf("removing: %v, the ring has %v", err, s.Ring().IDs())
	}
	if kept, err := s.Kept(); err != nil || !slices.Equal(kept, []string{keyring.KeyID(rawKey(1)), keyring.KeyID(rawKey(2))}) {
		t.Errorf("the next start finds %v (%v), want both, for an operator must be told to remove the first", kept, err)
	}
	for _, text := range []string{"", ",", "hello", keyText(1) + "x", keyText(1) + "," + base64.StdEncoding.EncodeToString([]byte("secret"))} {
		_, err := keyring.Fixed(text)
		if err == nil || !strings.HasPrefix(err.Error(), "secrets.key: ") || text != "" && text != "," && strings.Contains(err.Error(), text) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// No way of printing a Ring shows a key.
func TestRingHidesKeys(t *testing.T) {
	k := ringOf(t, 'k', 'l')
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
		for _, v := range []any{k, &k, struct{ K *keyring.Ring }{k}} {
			text := fmt.Sprintf(format, v)
			if format == "%v" && v == any(k) && !strings.Contains(text, k.ID()) {
				t.Errorf("%s does not show IDs: %s", format, text)
			}
			for _, bad := range []string{"kkkk", "107 107", "6b6b6b", keyText('k')} {
				if strings.Contains(text, bad) {
					t.Errorf("%s of %T shows a key: %s", format, v, text)
				}
			}
		}
	}
}
