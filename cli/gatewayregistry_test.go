package cli_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"quorumhub/cli"
)

const someRegistry = `version: 1
upstreams:
  hr: {urls: [http://127.0.0.1:9100], headers: {X-Api-Key: "${HR_KEY}"}}
services:
  - name: address
    uri: Employee/requestAddress
    versions:
      - {version: "1", target: "hr:/v1/address", methods: [POST], auth: none, body: {schema: address.schema.json}}
`

// gatewayAnswer is what a node says about its gateway.
type gatewayAnswer struct {
	Hash     string
	Index    uint64
	Node     string
	LoadedAt string `json:"loaded_at"`
	Services []struct {
		Name     string
		Versions []struct{ Version, Target string }
	}
	Errors []string
}

func gatewayAt(t *testing.T, url string) (a gatewayAnswer) {
	t.Helper()
	resp, err := http.Get(url + "/v1/gateway")
	if err != nil {
		return a
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || json.NewDecoder(resp.Body).Decode(&a) != nil {
		return gatewayAnswer{} // a node that has just started
	}
	return a
}

// registryFile writes a registry with its schema, and returns its path.
func registryFile(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{"gateway.yaml": text, "address.schema.json": `{"type": "object"}`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "gateway.yaml")
}

// gateway runs a command with a secret in its environment.
func gateway(t *testing.T, secret string, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	code := cli.Run(t.Context(), append([]string{"gateway"}, args...), cli.Streams{In: strings.NewReader(""), Out: &out, Err: &errs, Env: []string{"HR_KEY=" + secret}})
	return result{code, out.String(), errs.String()}
}

func (r result) says(t *testing.T, code int, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if r.code != code || !strings.Contains(r.out+r.err, text) {
			t.Errorf("got %+v, want code %d and %q", r, code, text)
		}
	}
}

// A hub begins with the registry of gateway.file; another one replaces it on all nodes at one place of the log, whichever node is
// down, and is in backups.
func TestGatewayRegistryIsReplicated(t *testing.T) {
	t.Setenv("HR_KEY", "first-secret")
	file := registryFile(t, someRegistry)
	c := startDevCluster(t, 3, "gateway.file="+file)
	everywhere := func(what string, but int, ok func(gatewayAnswer) bool) {
		t.Helper()
		for i, url := range c.urls {
			if i != but {
				eventually(t, what, func() bool { return ok(gatewayAt(t, url)) })
			}
		}
	}
	everywhere("the registry of gateway.file is served", -1, func(a gatewayAnswer) bool {
		return a.Hash != "" && a.Index > 0 && a.LoadedAt != "" && len(a.Services) == 1 && a.Services[0].Versions[0].Target == "hr:/v1/address"
	})
	first := gatewayAt(t, c.urls[0])
	everywhere("all nodes have the same one", -1, func(a gatewayAnswer) bool { return a.Hash == first.Hash && a.Index == first.Index })
	hub := func(i int) []string { return []string{"--hub", c.urls[i] + "/hub"} }
	do := func(i int, secret string, args ...string) result {
		return gateway(t, secret, append(args, hub(i)...)...)
	}

	do(1, "first-secret", "apply", file).says(t, 0, "nothing to change")
	do(1, "first-secret", "diff", file).says(t, 0, "nothing to change")
	do(1, "other-secret", "diff", file).says(t, 6, "~ secret HR_KEY")
	do(2, "", "show").says(t, 0, `X-Api-Key: "${HR_KEY}"`)
	do(2, "", "routes").says(t, 0, "Employee/requestAddress", "hr:/v1/address")
	do(2, "", "usage").says(t, 0, "CONSUMER")
	run(t, "", append([]string{"cluster", "status"}, hub(0)...)...).says(t, 0, first.Hash[:12])

	next := registryFile(t, strings.Replace(someRegistry, "hr:/v1", "hr:/v2", 1)+"  - {name: new, uri: new, versions: [{version: \"1\", target: \"hr:/new\", methods: [GET], auth: none}]}\n")
	do(0, "first-secret", "apply", "--dry-run", next).says(t, 6, "~ service address, version 1: target.path /v1/address → /v2/address", "+ service new")
	do(0, "first-secret", "diff", registryFile(t, strings.Replace(someRegistry, ":9100", ":9200", 1))).says(t, 6, "~ upstream hr: urls http://127.0.0.1:9100 → http://127.0.0.1:9200")
	if now := gatewayAt(t, c.urls[0]); now.Hash != first.Hash {
		t.Fatal("a dry run changed it")
	}
	do(0, "first-secret", "apply", next, "--replaces", "0123").says(t, 4, "412", "gateway diff")
	lead := c.leader(0)
	if err := syscall.Kill(pidIn(c.node(lead)), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	other := (lead + 1) % 3
	eventually(t, "the others accept it", func() bool { return do(other, "first-secret", "apply", next, "--replaces", first.Hash).code == 0 })
	second := gatewayAt(t, c.urls[other])
	if second.Hash == first.Hash || len(second.Services) != 2 || second.Index <= first.Index {
		t.Fatalf("applied: %+v, was %+v", second, first)
	}
	everywhere("the others serve it", lead, func(a gatewayAnswer) bool { return a.Hash == second.Hash && a.Index == second.Index })
	serveAgain(t, c, 0, lead)
	everywhere("the killed node serves it, too, although gateway.file has the first", -1, func(a gatewayAnswer) bool { return a.Hash == second.Hash && a.Index == second.Index })
	do(lead, "", "apply", next).says(t, 2, "gateway.yaml:3:", "HR_KEY")

	backup := c.backupOf(other)
	n := c.restored(backup)
	n.serve()
	eventually(t, "the restored hub serves it", func() bool { a := gatewayAt(t, n.url); return a.Hash == second.Hash && len(a.Services) == 2 })
	gateway(t, "first-secret", "apply", next, "--hub", n.url+"/hub").says(t, 0, "nothing to change") // so its secrets are there
	noSecretIn(t, c.dir, n.dir)
}

// noSecretIn checks that no file contains the secret of the registry, except gateway.file itself.
func noSecretIn(t *testing.T, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			content, err := os.ReadFile(path)
			if err == nil && bytes.Contains(content, []byte("first-secret")) {
				t.Errorf("%s contains the secret", path)
			}
			return nil // a file that is gone contains nothing
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// What is wrong with a registry is told with file, line and column; what only the hub knows, by the hub.
func TestGatewayRegistryIsRefused(t *testing.T) {
	broken := registryFile(t, strings.Replace(someRegistry, "hr:/v1", "nobody:/v1", 1))
	gateway(t, "x", "apply", broken, "--hub", "http://127.0.0.1:1/hub").says(t, 2, "gateway.yaml:8:", "services[0].versions[0].target", "nobody")
	gateway(t, "x", "apply", filepath.Join(t.TempDir(), "none.yaml")).says(t, 2, "no such file")
	run(t, "", "check", "--set", "gateway.file="+broken, "--set", "data_dir="+t.TempDir()).says(t, 2, "gateway.file: ", "gateway.yaml:8:", "nobody")

	c := startDevCluster(t, 1)
	unknown := registryFile(t, strings.Replace(someRegistry, "auth: none", "auth: geo", 1))
	gateway(t, "x", "apply", unknown, "--hub", c.urls[0]+"/hub").says(t, 4, "services[0].versions[0].auth", "geo")
	self := registryFile(t, strings.Replace(someRegistry, "http://127.0.0.1:9100", c.urls[0], 1))
	gateway(t, "x", "apply", self, "--hub", c.urls[0]+"/hub").says(t, 4, "upstreams.hr.urls[0]")
	if a := gatewayAt(t, c.urls[0]); a.Hash != "" {
		t.Errorf("a refused registry is served: %+v", a)
	}
	gateway(t, "x", "show", "--hub", c.urls[0]+"/hub").says(t, 4, "no registry has been applied")
	gateway(t, "x", "routes", "--hub", c.urls[0]+"/hub").says(t, 0, "METHODS", "there are no services; quorumhub gateway apply")
}
