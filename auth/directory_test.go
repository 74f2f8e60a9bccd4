package auth_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"quorumhub/auth"
)

// put writes files below a directory, by their path.
func put(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestProvidersInFilesOfTheirOwn(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "auth.yaml")
	put(t, dir, map[string]string{
		"auth.yaml":                       "identity_providers: [{name: paste, kind: key}]\nsequences: {staff: {steps: [{strategy: multi, of: [corp, paste]}]}}\n",
		"identity-providers/corp.yaml":    "name: corp\nkind: oidc\nissuer: https://idp.example.org\nclient_id: hub\n",
		"identity-providers/.corp.swp":    "\x00",
		"identity-providers/corp.yaml~":   "name: [",
		"service-providers/console.yml":   "name: console\nprotocol: pages\nsequence: staff\n",
		"service-providers/notes.txt":     "buy milk",
		"service-providers/20-wiki.yaml":  "name: wiki\nprotocol: forward-auth\nhosts: [wiki.example.org]\nsequence: corp\n",
		"service-providers/sub/more.yaml": "name: [",
	})
	s, err := auth.LoadSettings(file, dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.IdentityProviders) != 2 || len(s.ServiceProviders) != 2 || s.ServiceProviders[0].Name != "wiki" || s.IdentityProviders[1].ClientAuth != "none" {
		t.Errorf("%+v %+v, want paste and corp, and wiki before console", s.IdentityProviders, s.ServiceProviders)
	}
	if files := s.ProviderFiles(); len(files) != 3 || files[0] != filepath.Join(dir, "identity-providers", "corp.yaml") {
		t.Errorf("files %q", files)
	}
	if _, err := auth.LoadSettings(file, ""); err == nil || !strings.Contains(err.Error(), "auth.file "+file+": sequences.staff: steps[0]: there is no authenticator") {
		t.Errorf("without the directory: %v", err)
	}
	if _, err := auth.LoadSettings(file, filepath.Join(dir, "none")); err == nil || !strings.Contains(err.Error(), "auth.directory: ") {
		t.Errorf("a directory that does not exist: %v", err)
	}
	for name, c := range map[string]struct{ text, want string }{
		"identity-providers/corp.yaml":  {"name: corp\nkind: oidc\nissuers: https://idp.example.org\n", `corp.yaml: line 3, column 1: unknown key "issuers"`},
		"identity-providers/z.yaml":     {"name: paste\nkind: key\n", "z.yaml (paste): duplicate name"},
		"identity-providers/empty.yaml": {"\n", "empty.yaml: is empty; expected the keys of one provider"},
		"service-providers/x.yaml":      {"name: x\nprotocol: pages\nsequence: stuff\n", `x.yaml (x): sequence: "stuff"; expected one of staff`},
		"service-providers/y.yaml":      {"- name: y\n", "y.yaml: line 1"},
		"service-providers/big.yaml":    {strings.Repeat("# nothing\n", 7000), "big.yaml: has 70000 bytes; expected at most 65536"},
	} {
		was, known := os.ReadFile(filepath.Join(dir, name))
		put(t, dir, map[string]string{name: c.text})
		_, err := auth.LoadSettings(file, dir)
		if err == nil || !strings.HasPrefix(err.Error(), "auth.directory: "+dir) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
		if known == nil {
			put(t, dir, map[string]string{name: string(was)})
		} else if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}

// The stamp changes with what is read, and with nothing else.
func TestDirectoryStamp(t *testing.T) {
	dir := t.TempDir()
	put(t, dir, map[string]string{"identity-providers/a.yaml": "name: a\n"})
	was := auth.DirectoryStamp(dir)
	put(t, dir, map[string]string{"identity-providers/a.yaml~": "x", "notes": "x"})
	if auth.DirectoryStamp(dir) != was {
		t.Error("files that are not read change the stamp")
	}
	for name, text := range map[string]string{"identity-providers/a.yaml": "name: ab\n", "service-providers/b.yaml": ""} {
		put(t, dir, map[string]string{name: text})
		now := auth.DirectoryStamp(dir)
		if now == was {
			t.Errorf("%s: the stamp is the same", name)
		}
		was = now
	}
	if err := os.Remove(filepath.Join(dir, "service-providers/b.yaml")); err != nil || auth.DirectoryStamp(dir) == was {
		t.Error("a file that is gone leaves the stamp the same", err)
	}
}
