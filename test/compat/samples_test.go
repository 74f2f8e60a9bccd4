package compat_test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"quorumhub/test/hubtest"
)

// Every sample configuration starts once addresses, directories and certificates are replaced by this
// machine's; everything else stays as it is.
func TestSampleConfigurationsStart(t *testing.T) {
	root, err := hubtest.Root()
	if err != nil {
		t.Fatal(err)
	}
	for sample, rules := range map[string]string{"single-node": "auth.yaml", "three-nodes": "auth.yaml", "edge-site": "",
		"ballerina": "ballerina-auth.yaml", "mosip": "mosip-auth.yaml", "mosip+authmanager": "mosip-authmanager.yaml"} {
		t.Run(sample, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			config, _, _ := strings.Cut(sample, "+")
			config = filepath.Join(root, "configs", config+".yaml")
			text, err := os.ReadFile(config)
			if err != nil {
				t.Fatal(err)
			}
			addrs, err := hubtest.FreeAddrs(1)
			if err != nil {
				t.Fatal(err)
			}
			args := []string{"--config", config}
			set := func(key, value string) { args = append(args, "--set", key+"="+value) }
			set("http.addr", addrs[0])
			set("http.public_url", "")
			set("data_dir", filepath.Join(dir, "data"))
			set("secrets.key_file", "")
			if strings.Contains(string(text), "peers:") {
				set("cluster.addr", "127.0.0.1:0")
				set("cluster.peers", "") // the other nodes do not exist
			}
			if strings.Contains(string(text), "/etc/quorumhub/tls/") {
				files := issue(t, dir)
				for _, key := range []string{"http", "cluster"} {
					if key == "cluster" && !strings.Contains(string(text), "peers:") {
						continue
					}
					set(key+".tls.cert", files+".pem")
					set(key+".tls.key", files+".key")
				}
				if strings.Contains(string(text), "peers:") {
					set("cluster.tls.ca", filepath.Join(dir, "ca.pem"))
				}
			}
			if rules != "" {
				set("auth.file", filepath.Join(root, "configs", rules))
			}
			command(t, append([]string{"check"}, args...)...)
			serve(t, append([]string{"serve"}, args...)...)
		})
	}
}

// issue creates a certificate with the hub's own commands and returns its path without the suffix.
func issue(t *testing.T, dir string) string {
	t.Helper()
	command(t, "cluster", "init-ca", "--dir", dir)
	command(t, "cluster", "issue-cert", "--dir", dir, "--node", "a", "--host", "127.0.0.1")
	return filepath.Join(dir, "a")
}

func command(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), hubtest.Binary(t), args...).CombinedOutput(); err != nil {
		t.Fatalf("quorumhub %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// serve runs a hub until it logs that it is serving, and stops it gracefully.
func serve(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), hubtest.Binary(t), args...)
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	serving := false
	late := time.AfterFunc(hubtest.Patience, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	for lines := bufio.NewScanner(log); lines.Scan(); {
		said.WriteString(lines.Text() + "\n")
		if strings.Contains(lines.Text(), "msg=serving") {
			serving = true
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err != nil || !serving {
		t.Errorf("serving: %v, exit: %v\n%s", serving, err, said.String())
	}
}
