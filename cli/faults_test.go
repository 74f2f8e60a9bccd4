package cli_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Wherever YAML is read, a mistake is one line with its place and what is expected there.
func TestAMistakeInYAMLIsOneLine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.yaml")
	if err := os.WriteFile(file, []byte("rules:\n  - name: r\n     may: [publish]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const fault = "indented by 5 spaces, expected 4 as in line 2\n"
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"check", "--config", file}, 2, "a.yaml:3:6: not valid YAML: " + fault},
		{[]string{"serve", "--config", file}, 2, "a.yaml:3:6: not valid YAML: " + fault},
		{[]string{"check", "--set", "auth.mode=required", "--set", "auth.file=" + file, "--set", "data_dir=" + t.TempDir()}, 2, "auth.file " + file + ": line 3, column 6: " + fault},
		{[]string{"check", "--set", "delivery.tls_file=" + file, "--set", "data_dir=" + t.TempDir()}, 2, "delivery.tls_file " + file + ": line 3, column 6: " + fault},
		{[]string{"auth", "rules", "set", file}, 2, file + ": line 3, column 6: " + fault},
		{[]string{"apply", "--check", file}, 2, "a.yaml:3:6: not valid YAML: " + fault},
	} {
		got := run(t, "", c.args...)
		if got.code != c.code || !strings.HasSuffix(got.err, c.want) || strings.Count(got.err, "\n") != 1 {
			t.Errorf("%v: %+v, want exit code %d and %q", c.args, got, c.code, c.want)
		}
	}
}

// An error about a file names the file that was given: no argument's name, no temporary file.
func TestErrorsNameTheFileThatWasGiven(t *testing.T) {
	hub := newScriptedHub(t, func(w http.ResponseWriter, r request) {
		if r.Path == "/v1/backup" {
			_, _ = io.WriteString(w, strings.Repeat("x", 1<<20))
			return
		}
		fmt.Fprint(w, `{"items":[],"next":""}`)
	})
	dir := t.TempDir()
	missing := filepath.Join(dir, "none", "file")
	for _, args := range [][]string{
		{"apply", missing}, {"apply", "--check", missing}, {"auth", "rules", "set", missing}, {"dump", "--output", missing}, {"backup", "--to", missing},
		{"publish", "x", "--file", missing}, {"publish", "x", "--batch", missing}, {"import", "--from", "mosip", missing}, {"restore", missing, "--set", "data_dir=" + dir},
		{"check", "--config", missing}, {"inspect", missing},
	} {
		if args[0] != "restore" && args[0] != "check" && args[0] != "inspect" {
			args = append(args, "--hub", hub.URL)
		}
		got := run(t, "", args...)
		if got.code == 0 || !strings.Contains(got.err, missing) || strings.Contains(got.err, "FILE:") || strings.Contains(got.err, "/.") || strings.Count(got.err, "\n") != 1 {
			t.Errorf("%v: %+v", args, got)
		}
	}
}
