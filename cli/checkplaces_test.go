package cli_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// checkSite is a directory with a good configuration of one of two nodes, in which a test breaks something.
type checkSite struct {
	t   *testing.T
	dir string
	set []string // KEY=VALUE; later ones win
}

func newCheckSite(t *testing.T) *checkSite {
	t.Helper()
	s := &checkSite{t: t, dir: t.TempDir()}
	for _, args := range [][]string{{"init-ca"}, {"issue-cert", "--node", "a", "--host", "127.0.0.1"}, {"issue-cert", "--node", "b", "--host", "127.0.0.1"}} {
		if got := run(t, "", append(append([]string{"cluster"}, args...), "--dir", s.dir)...); got.code != 0 {
			t.Fatalf("%+v", got)
		}
	}
	writeText(t, s.path("secrets.key"), run(t, "", "keys", "new").out)
	key, line := keyLine(t, "root", "operator")
	_ = key
	writeText(t, s.path("auth.yaml"), "api_keys:\n"+line+"rules: [{name: operate, may: [\"admin.*\"], who: [{role: operator}]}]\n")
	s.set = []string{
		"http.addr=127.0.0.1:0", "http.tls.cert=" + s.path("a.pem"), "http.tls.key=" + s.path("a.key"), "data_dir=" + s.path("data"),
		"cluster.addr=127.0.0.1:0", "cluster.node_id=a", "cluster.peers=a=127.0.0.1:1,b=127.0.0.1:2", "cluster.token=ohmuayaiqu3sheiGh5oo",
		"cluster.tls.ca=" + s.path("ca.pem"), "cluster.tls.cert=" + s.path("a.pem"), "cluster.tls.key=" + s.path("a.key"),
		"secrets.key_file=" + s.path("secrets.key"), "auth.mode=required", "auth.file=" + s.path("auth.yaml"), "http.public_url=https://127.0.0.1:8443",
	}
	return s
}

func (s *checkSite) path(name string) string { return filepath.Join(s.dir, name) }

func (s *checkSite) run(command string, set ...string) result {
	s.t.Helper()
	args := []string{command}
	for _, v := range append(s.set[:len(s.set):len(s.set)], set...) {
		args = append(args, "--set", v)
	}
	return run(s.t, "", args...)
}

// occupied returns the address of a listener.
func occupied(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

// What keeps a hub from starting, a check finds, with the same words.
func TestCheckFindsWhatKeepsServeFromStarting(t *testing.T) {
	s := newCheckSite(t)
	if got := s.run("check"); got.code != 0 || got.err != "" {
		t.Fatalf("the good configuration: %+v", got)
	}
	if _, err := os.Stat(s.path("data")); !os.IsNotExist(err) {
		t.Errorf("the check has made the data directory: %v", err)
	}
	writeText(t, s.path("file"), "")
	writeText(t, s.path("empty.key"), "")
	writeText(t, s.path("rules.yaml"), fmt.Sprintf("- {hosts: [h.example.org], cert: %q, key: %q}\n", s.path("a.pem"), s.path("b.key")))
	if err := os.Mkdir(s.path("other"), 0o700); err != nil {
		t.Fatal(err)
	}
	writeText(t, s.path("other/node.json"), `{"format":1,"id":"b","cluster_id":"c"}`)
	if err := os.MkdirAll(s.path("removed"), 0o700); err != nil {
		t.Fatal(err)
	}
	writeText(t, s.path("removed/node.json"), `{"format":1,"id":"a","cluster_id":"c","removed_at":"2026-01-01T00:00:00Z"}`)
	if err := os.MkdirAll(s.path("used"), 0o700); err != nil {
		t.Fatal(err)
	}
	writeText(t, s.path("used/node.json"), `{"format":1,"id":"a","cluster_id":"c"}`)
	alone := []string{"cluster.peers=", "http.addr=127.0.0.1:0"}
	taken := occupied(t)
	for name, c := range map[string]struct {
		set  []string
		says string
	}{
		"a missing certificate":                    {[]string{"http.tls.cert=" + s.path("none.pem")}, "http.tls.cert, http.tls.key: open " + s.path("none.pem")},
		"a key of another certificate":             {[]string{"http.tls.key=" + s.path("b.key")}, "http.tls.cert, http.tls.key: tls: private key does not match"},
		"a missing client_ca":                      {[]string{"http.tls.client_ca=" + s.path("none.pem")}, "http.tls.client_ca: open " + s.path("none.pem")},
		"another node's certificate":               {[]string{"cluster.tls.cert=" + s.path("b.pem"), "cluster.tls.key=" + s.path("b.key")}, "is the certificate of b, but this node is a"},
		"a missing authority":                      {[]string{"cluster.tls.ca=" + s.path("none.pem")}, "cluster.tls.ca: open " + s.path("none.pem")},
		"a certificate of another authority":       {[]string{"cluster.tls.ca=" + s.path("b.pem")}, "does not go with cluster.tls.ca"},
		"no sealing key in a cluster":              {[]string{"secrets.key_file=" + s.path("none.key")}, "all nodes of a cluster share one key"},
		"a lost sealing key":                       {append(alone, "secrets.key_file="+s.path("none.key"), "data_dir="+s.path("used")), "restore the file from a copy"},
		"a broken sealing key":                     {[]string{"secrets.key_file=" + s.path("empty.key")}, "contains no key"},
		"a data_dir below a file":                  {[]string{"data_dir=" + s.path("file/data")}, "data_dir: "},
		"a data_dir that is a file":                {[]string{"data_dir=" + s.path("file")}, "data_dir: "},
		"a data_dir that cannot be made":           {[]string{"data_dir=/proc/quorumhub"}, "data_dir: "},
		"another node's data":                      {[]string{"data_dir=" + s.path("other")}, `this is the data of node "b", but cluster.node_id is "a"`},
		"a removed node's data":                    {[]string{"data_dir=" + s.path("removed")}, "this node was removed from its cluster"},
		"a missing auth.file":                      {[]string{"auth.file=" + s.path("none.yaml")}, "auth.file: open " + s.path("none.yaml")},
		"a missing tls_file":                       {[]string{"delivery.tls_file=" + s.path("none.yaml")}, "delivery.tls_file: open " + s.path("none.yaml")},
		"a broken tls_file":                        {[]string{"delivery.tls_file=" + s.path("rules.yaml")}, "delivery.tls_file " + s.path("rules.yaml") + ": [0]: cert, key: "},
		"networks in mode public":                  {[]string{"auth.egress.allow_cidrs=10.0.0.0/8"}, "auth.egress: egress allow_cidrs and allow_hosts have no effect in mode public"},
		"an occupied address":                      {[]string{"http.addr=" + taken}, "http.addr: listen tcp " + taken + ": bind: address already in use"},
		"an occupied cluster address":              {[]string{"cluster.addr=" + taken}, "cluster.addr: listen tcp " + taken + ": bind: address already in use"},
		"an address of another machine":            {[]string{"http.addr=192.0.2.1:8080"}, "http.addr: listen tcp 192.0.2.1:8080: bind: "},
		"a socket in no directory":                 {[]string{"http.addr=unix:" + s.path("none/hub.sock")}, "http.addr: listen unix " + s.path("none/hub.sock")},
		"a file in place of a socket":              {[]string{"http.addr=unix:" + s.path("file")}, "http.addr: " + s.path("file") + " exists and is not a socket"},
		"one port for both":                        {[]string{"http.addr=127.0.0.1:8080", "cluster.addr=127.0.0.1:8080"}, `cluster.addr: "127.0.0.1:8080" is the port of http.addr`},
		"one port for both, under another name":    {[]string{"http.addr=127.0.0.1:8080", "cluster.addr=localhost:8080"}, `cluster.addr: "localhost:8080" is the port of http.addr`},
		"one port for both, once on every address": {[]string{"http.addr=:8080", "cluster.addr=127.0.0.1:8080"}, `cluster.addr: "127.0.0.1:8080" is the port of http.addr`},
		"a pid_file in no directory":               {[]string{"pid_file=" + s.path("none/hub.pid")}, "pid_file: "},
	} {
		for _, command := range []string{"check", "serve"} {
			got := s.run(command, c.set...)
			if got.code == 0 || !strings.Contains(got.err, c.says) || strings.Contains(got.out, "valid") {
				t.Errorf("%s: %s: %+v, want %q", name, command, got, c.says)
			}
		}
	}
	// Everything at once, one line each.
	got := s.run("check", "http.tls.cert="+s.path("none.pem"), "cluster.tls.ca="+s.path("none.pem"), "secrets.key_file="+s.path("none.key"), "http.addr="+taken)
	if got.code != 2 || strings.Count(got.err, "\n") != 4 {
		t.Errorf("four faults: %+v", got)
	}
}

func TestCheckDoesNotTakeOneNodesDirectoryForAnothers(t *testing.T) {
	dir := t.TempDir()
	config := writeText(t, filepath.Join(dir, "hub.yaml"), fmt.Sprintf("http.addr: %s\ndata_dir: %q\n", freeAddr(t), filepath.Join(dir, "data")))
	hub := serving(t, config, nil, nil)
	if got := run(t, "", "check", "--config", config); got.code != 0 || !strings.Contains(got.err, "warning: a node with this configuration is running") {
		t.Errorf("the configuration of a running hub: %+v", got)
	}
	got := run(t, "", "check", "--config", config, "--set", "http.addr="+freeAddr(t))
	if got.code == 0 || !strings.Contains(got.err, "is in use by another quorumhub") {
		t.Errorf("another hub with its data: %+v", got)
	}
	got = run(t, "", "check", "--config", config, "--set", "data_dir="+filepath.Join(dir, "other"))
	if got.code == 0 || !strings.Contains(got.err, "address already in use") {
		t.Errorf("another hub with its address: %+v", got)
	}
	hub.stop()
	if got := run(t, "", "check", "--config", config); got.code != 0 || got.err != "" {
		t.Errorf("the configuration of a stopped hub: %+v", got)
	}
}

// What cannot be meant is a warning, of a check and of a start.
func TestWarnings(t *testing.T) {
	s := newCheckSite(t)
	mode := func(name string, mode os.FileMode) string {
		t.Helper()
		if err := os.Chmod(s.path(name), mode); err != nil {
			t.Fatal(err)
		}
		return s.path(name)
	}
	for _, name := range []string{"readable.yaml", "a2.key", "token.yaml", "client.key", "shared.key"} {
		writeText(t, s.path(name), "")
	}
	copyFile := func(from, to string) {
		t.Helper()
		data, err := os.ReadFile(s.path(from))
		if err != nil {
			t.Fatal(err)
		}
		writeText(t, s.path(to), string(data))
	}
	copyFile("auth.yaml", "readable.yaml")
	copyFile("a.key", "a2.key")
	copyFile("a.key", "client.key")
	mode("readable.yaml", 0o644)
	mode("a2.key", 0o644)
	mode("client.key", 0o604)
	writeText(t, s.path("rules.yaml"), fmt.Sprintf("- {hosts: [h.example.org], cert: %q, key: %q}\n", s.path("a.pem"), s.path("client.key")))
	writeText(t, s.path("norules.yaml"), "{}\n")
	writeText(t, s.path("certs.yaml"), "client_certificates: {subject: cn}\nrules: [{name: operate, may: [\"admin.*\"], who: [{role: operator}]}]\n")
	for _, d := range []string{"open", "open/data", "sticky", "sticky/data", "group"} {
		if err := os.Mkdir(s.path(d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	mode("open", 0o777)
	mode("sticky", 0o777|os.ModeSticky)
	mode("group", 0o770)
	plain := []string{"http.tls.cert=", "http.tls.key="}
	for name, c := range map[string]struct {
		set  []string
		says string // "": nothing
	}{
		"nothing":                        {nil, ""},
		"keys over plain HTTP":           {append(plain, "http.addr=0.0.0.0:0", "http.public_url=http://hub.example.org"), "serves plain HTTP, so API keys, tokens and secrets of callers cross the network unencrypted"},
		"plain HTTP behind a proxy":      {append(plain, "http.addr=0.0.0.0:0", "http.public_url=https://hub.example.org"), ""},
		"plain HTTP on this machine":     {append(plain, "http.public_url=http://hub.example.org"), ""},
		"plain HTTP, everybody":          {append(plain, "http.addr=0.0.0.0:0", "http.public_url=http://hub.example.org", "auth.mode=open", "auth.file="), "auth.mode is open: everyone who can reach 0.0.0.0:0 may publish"},
		"HTTPS under an http URL":        {[]string{"http.public_url=http://hub.example.org"}, "subscribers are told a URL that does not answer"},
		"a certificate for another host": {[]string{"http.public_url=https://hub.example.org"}, "is not for hub.example.org, the host of http.public_url"},
		"a readable auth.file":           {[]string{"auth.file=" + s.path("readable.yaml")}, "auth.file: " + s.path("readable.yaml") + " has mode 0644, so everybody on this machine can read the secrets in it"},
		"a readable key":                 {[]string{"http.tls.key=" + s.path("a2.key")}, "http.tls.key: " + s.path("a2.key") + " has mode 0644"},
		"a readable key of the cluster":  {[]string{"cluster.tls.key=" + s.path("a2.key")}, "cluster.tls.key: " + s.path("a2.key") + " has mode 0644"},
		"a readable key for callbacks":   {[]string{"delivery.tls_file=" + s.path("rules.yaml")}, "key: " + s.path("client.key") + " has mode 0604"},
		"a data_dir for everybody":       {[]string{"data_dir=" + mode("open/data", 0o707)}, "data_dir: " + s.path("open/data") + " has mode 0707, so others on this machine can replace"},
		"a data_dir for the group":       {[]string{"data_dir=" + s.path("group")}, "data_dir: " + s.path("group") + " has mode 0770"},
		"its parent for everybody":       {[]string{"data_dir=" + s.path("open/new")}, "data_dir: " + s.path("open") + " has mode 0777"},
		"a sticky parent":                {[]string{"data_dir=" + s.path("sticky/data")}, ""},
		"keys where others can put them": {[]string{"auth.file=" + func() string { copyFile("auth.yaml", "open/auth.yaml"); return s.path("open/auth.yaml") }()}, "auth.file: " + s.path("open") + " has mode 0777"},
		"a placeholder":                  {[]string{"cluster.token=replace with a random string shared by all nodes"}, "cluster.token is a placeholder"},
		"a short token":                  {[]string{"cluster.token=hunter2"}, "cluster.token has 7 characters"},
		"an unknown host":                {[]string{"cluster.peers=a=127.0.0.1:1,b=b.invalid:2"}, "cluster.peers: b=b.invalid:2: "},
		"an unknown proxy":               {[]string{"fetch.egress.proxy=https://proxy.invalid:3128"}, "fetch.egress.proxy: "},
		"a password in the open":         {[]string{"delivery.egress.proxy=http://192.0.2.1:3128", "delivery.egress.proxy_auth=u:s3cret"}, "delivery.egress.proxy_auth crosses the network unencrypted"},
		"no rules":                       {[]string{"auth.file=" + s.path("norules.yaml")}, "has no rules"},
		"certificates nobody asks for":   {[]string{"auth.file=" + s.path("certs.yaml")}, "http.tls.client_ca is empty"},
		"retries beyond retention":       {[]string{"retention.max_age=1h"}, "delivery.retry.max_age (1d) is longer than retention.max_age (1h)"},
		"proxies everywhere":             {[]string{"http.trusted_proxies=0.0.0.0/0"}, "http.trusted_proxies contains 0.0.0.0/0"},
		"networks everywhere":            {[]string{"delivery.egress.mode=edge", "delivery.egress.allow_cidrs=::/0"}, "delivery.egress.allow_cidrs contains ::/0"},
		"a socket for everybody":         {append(plain, "http.addr=unix:"+s.path("s"), "http.socket_mode=0666"), "http.socket_mode 0666 lets everybody on this machine write"},
		"profiles for everybody":         {append(plain, "http.addr=0.0.0.0:0", "http.public_url=http://h.example.org", "auth.mode=open", "auth.file=", "debug.pprof=true"), "debug.pprof is on"},
	} {
		got := s.run("check", c.set...)
		if got.code != 0 || !strings.Contains(got.err, c.says) || (c.says == "") != (got.err == "") || strings.Contains(got.err, "s3cret") {
			t.Errorf("%s: %+v, want %q", name, got, c.says)
		}
	}
}

// A start warns as a check does, and both of a readable file with secrets.
func TestServeWarnsLikeCheck(t *testing.T) {
	dir := t.TempDir()
	config := writeText(t, filepath.Join(dir, "hub.yaml"), fmt.Sprintf("http.addr: 0.0.0.0:0\nhttp.public_url: http://hub.example.org\ndata_dir: %q\nauth: {mode: required, file: %q}\n"+
		"delivery.egress: {proxy: \"https://127.0.0.1:1\", proxy_auth: \"u:s3cret\"}\n", filepath.Join(dir, "data"), filepath.Join(dir, "auth.yaml")))
	writeText(t, filepath.Join(dir, "auth.yaml"), "{}\n")
	for _, f := range []string{"hub.yaml", "auth.yaml"} {
		if err := os.Chmod(filepath.Join(dir, f), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(config, 0o646); err != nil {
		t.Fatal(err)
	}
	check := run(t, "", "check", "--config", config)
	warnings := strings.Split(strings.TrimSpace(check.err), "\n")
	if check.code != 0 || len(warnings) != 5 || !strings.Contains(check.err, "--config: "+config+" has mode 0646") || !strings.Contains(check.err, "delivery.egress.proxy_auth is in a file that others can read: "+config) {
		t.Fatalf("%+v", check)
	}
	hub := serving(t, config, nil, nil)
	for _, w := range warnings {
		if w = strings.TrimPrefix(w, "warning: "); !strings.Contains(hub.log.String(), "level=WARN msg=\""+w+"\"") {
			t.Errorf("the start does not warn: %s", w)
		}
	}
	hub.stop()
}
