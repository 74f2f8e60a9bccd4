package cli_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"quorumhub/auth"
)

// What the commands print is what auth.file takes.
func TestHashPasswordAndNewTOTP(t *testing.T) {
	hash := run(t, "correct horse battery\r\nsecond line\n", "auth", "hash-password", "--memory", "8")
	if hash.code != 0 || !strings.HasPrefix(hash.out, "$argon2id$v=19$m=8192,t=3,p=4$") || strings.Contains(hash.out, "horse") {
		t.Fatalf("%+v", hash)
	}
	code := run(t, "", "auth", "new-totp", "--name", "root", "--issuer", "hub.example.org")
	secret := regexp.MustCompile(`(?m)^  ([A-Z2-7]{32})$`).FindStringSubmatch(code.out)
	if code.code != 0 || secret == nil || !strings.Contains(code.out, "otpauth://totp/hub.example.org:root?") || !strings.Contains(code.out, "secret="+secret[1]) {
		t.Fatalf("%+v", code)
	}
	file := filepath.Join(t.TempDir(), "totp")
	if err := os.WriteFile(file, []byte(secret[1]+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	text := "identity_providers: [{name: emergency, kind: local, enabled: true, accounts: [{name: root, password_hash: '" + strings.TrimSpace(hash.out) + "', totp: {file: " + file + "}}]}]"
	if _, err := auth.ParseSettings([]byte(text)); err != nil {
		t.Error(err)
	}

	first, second := run(t, "", "auth", "hash-password", "--generate", "--memory", "8"), run(t, "", "auth", "hash-password", "--generate", "--memory", "8")
	made := regexp.MustCompile(`(?m)^  ([A-Z2-7]{26})$`)
	a, b := made.FindStringSubmatch(first.out), made.FindStringSubmatch(second.out)
	if a == nil || b == nil || a[1] == b[1] || !strings.Contains(first.out, "$argon2id$") {
		t.Errorf("%+v", first)
	}
	for what, c := range map[string]struct {
		in   string
		args []string
		want string
	}{
		"short":         {"hunter2\n", nil, "password of 7 bytes; expected at least 12"},
		"nothing":       {"", nil, "password of 0 bytes"},
		"long":          {strings.Repeat("x", 2000), nil, "expected 1 to 1024"},
		"little memory": {"correct horse battery\n", []string{"--memory", "4"}, "--memory: got 4, expected 8 to 256 MiB"},
	} {
		got := run(t, c.in, append([]string{"auth", "hash-password"}, c.args...)...)
		if got.code != 2 || !strings.Contains(got.err, c.want) || strings.Contains(got.err, "hunter2") {
			t.Errorf("%s: %+v; want %q", what, got, c.want)
		}
	}
	if got := run(t, "", "auth", "new-totp", "--name", "a:b"); got.code != 2 {
		t.Errorf("a name with a colon: %+v", got)
	}
}
