package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestClusterCertificates(t *testing.T) {
	dir := t.TempDir()
	if r := run(t, "", "cluster", "init-ca", "--dir", dir); r.code != 0 || !strings.Contains(r.out, "ca.pem") {
		t.Fatalf("init-ca: %+v", r)
	}
	if r := run(t, "", "cluster", "init-ca", "--dir", dir); r.code == 0 || !strings.Contains(r.err, "is not overwritten") {
		t.Errorf("init-ca again: %+v", r)
	}
	if r := run(t, "", "cluster", "issue-cert", "--dir", dir, "--node", "a", "--host", "10.0.0.1", "--host", "a.example.org"); r.code != 0 || !strings.Contains(r.out, "a.example.org") {
		t.Fatalf("issue-cert: %+v", r)
	}
	before, err := os.ReadFile(filepath.Join(dir, "a.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if r := run(t, "", "cluster", "issue-cert", "--dir", dir, "--node", "a", "--renew"); r.code != 0 || !strings.Contains(r.out, "10.0.0.1") {
		t.Errorf("issue-cert --renew: %+v", r)
	}
	if after, err := os.ReadFile(filepath.Join(dir, "a.pem")); err != nil || string(after) == string(before) {
		t.Errorf("the certificate was not renewed: %v", err)
	}
	for _, c := range []struct {
		words string
		args  []string
	}{
		{"a.pem already exists and is not overwritten", []string{"--node", "a", "--host", "10.0.0.1"}},
		{"--host is missing", []string{"--node", "b"}},
		{"without a port", []string{"--node", "b", "--host", "10.0.0.1:8180"}},
		{`--node: got "../b"`, []string{"--node", "../b", "--host", "10.0.0.1"}},
		{"--days: got 0", []string{"--node", "b", "--host", "10.0.0.1", "--days", "0"}},
		{"b.pem: no such file", []string{"--node", "b", "--renew"}},
	} {
		if r := run(t, "", append([]string{"cluster", "issue-cert", "--dir", dir}, c.args...)...); r.code == 0 || !strings.Contains(r.err, c.words) {
			t.Errorf("issue-cert %v: %+v, expected %q", c.args, r, c.words)
		}
	}
}
