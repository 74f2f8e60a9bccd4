package cli_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// auth explain shows each step of a service provider's sequence: who was asked, and why not.
func TestExplainShowsTheStepsOfASequence(t *testing.T) {
	dir := t.TempDir()
	root, rootLine := keyLine(t, "root", "operator")
	user, userLine := keyLine(t, "user", "user")
	authFile, config := filepath.Join(dir, "auth.yaml"), filepath.Join(dir, "hub.yaml")
	writeText(t, authFile, "api_keys:\n"+rootLine+userLine+reloadRules+`
client_certificates: {subject: dns}
identity_providers: [{name: paste, kind: key}]
sequences:
  staff: {steps: [{strategy: multi, of: [paste, key]}, {strategy: failover, of: [certificate, default]}]}
  both: {steps: [{strategy: multi, of: [key, paste]}, {strategy: single, of: [certificate]}]}
service_providers: [{name: console, protocol: pages, sequence: both}]
`)
	writeText(t, config, fmt.Sprintf("http.addr: 127.0.0.1:0\ndata_dir: %q\nauth: {mode: required, file: %q}\n", filepath.Join(dir, "data"), authFile))
	if got := run(t, "", "check", "--config", config); got.code == 0 || !strings.Contains(got.err, "sequences.staff: steps[1]: default is whatever credentials the hub accepts; expected it alone") {
		t.Fatalf("check: %+v", got)
	}
	writeText(t, authFile, "api_keys:\n"+rootLine+userLine+reloadRules+`
client_certificates: {subject: dns}
identity_providers: [{name: paste, kind: key}]
sequences:
  both: {steps: [{strategy: multi, of: [key, paste]}, {strategy: single, of: [certificate]}]}
service_providers: [{name: console, protocol: pages, sequence: both}, {name: desk, protocol: pages, sequence: key}]
`)
	s := serving(t, config, nil, nil)
	explain := func(stdin string, args ...string) string {
		t.Helper()
		got := run(t, stdin, append([]string{"auth", "explain", "--hub", s.url, "--token", root}, args...)...)
		return got.out + got.err
	}
	for name, c := range map[string]struct {
		stdin string
		args  []string
		want  []string
	}{
		"its own credentials": {"", []string{"--service-provider", "console"}, []string{"initial\n", "1 multi key authenticated api-key:root", "2 single certificate initial no credentials of this kind"}},
		"others":              {"GET / HTTP/1.1\nHost: hub\nX-API-Key: " + user + "\n", []string{"--service-provider", "desk", "--request", "-"}, []string{"authenticated as key/", "1 single key authenticated api-key:user"}},
		"wrong ones": {"GET / HTTP/1.1\nHost: hub\nX-API-Key: " + user + "x\n", []string{"--service-provider", "desk", "--request", "-"},
			[]string{"failed: api-key: key", "its secret is wrong"}},
		"none, in a browser": {"GET / HTTP/1.1\nHost: hub\n", []string{"--service-provider", "console", "--request", "-", "--browser"}, []string{"incomplete", "1 multi key initial no credentials of this kind",
			"1 multi paste incomplete waits for somebody to act", "2 single certificate initial"}},
		"an unknown provider":        {"", []string{"--service-provider", "shop"}, []string{"is none of service_providers in auth.file"}},
		"no HTTP request":            {"hello", []string{"--service-provider", "desk", "--request", "-"}, []string{"is no HTTP request"}},
		"two questions":              {"", []string{"publish", "--service-provider", "desk"}, []string{"expected an action, such as publish, or --service-provider"}},
		"a question about an action": {"", []string{"admin.auth"}, []string{"allowed by rule operate"}},
	} {
		got := strings.Join(strings.FieldsFunc(explain(c.stdin, c.args...), func(r rune) bool { return r == ' ' }), " ")
		for _, want := range c.want {
			if want = strings.Join(strings.FieldsFunc(want, func(r rune) bool { return r == ' ' }), " "); !strings.Contains(got, want) {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		if strings.Contains(got, user) {
			t.Errorf("%s: it shows the credentials", name)
		}
	}
	s.stop()
}

// A registry whose sequences the hub could not take callers through is refused where it is applied, not where it is used.
func TestRegistriesWithSequencesThatCannotBe(t *testing.T) {
	dir := t.TempDir()
	root, rootLine := keyLine(t, "root", "operator")
	authFile, config, file := filepath.Join(dir, "auth.yaml"), filepath.Join(dir, "hub.yaml"), filepath.Join(dir, "gateway.yaml")
	writeText(t, authFile, "api_keys:\n"+rootLine+reloadRules+`
identity_providers: [{name: paste, kind: key}]
sequences: {staff: {steps: [{strategy: multi, of: [paste, key]}]}}
`)
	writeText(t, config, fmt.Sprintf("http.addr: 127.0.0.1:0\ndata_dir: %q\nauth: {mode: required, file: %q}\n", filepath.Join(dir, "data"), authFile))
	s := serving(t, config, nil, nil)
	apply := func(sequences, auth string) result {
		t.Helper()
		writeText(t, file, "version: 1\nsequences: "+sequences+"\nservices:\n  - {name: topics, uri: topics, default: \"1\", versions: [{version: \"1\", methods: [GET], target: \"hub:topics\", auth: "+auth+"}]}\n")
		return run(t, "", "gateway", "apply", file, "--hub", s.url, "--token", root)
	}
	for sequences, want := range map[string]string{
		"{partners: [{strategy: single, of: [staff]}]}":          `there is no authenticator "staff"`,
		"{partners: [{strategy: parallel, of: [paste, key]}]}":   "paste needs somebody to act, so it cannot be asked in parallel",
		"{partners: [{strategy: multi, of: [paste, visitors]}]}": `unknown authenticator "visitors"`,
	} {
		if got := apply(sequences, "partners"); got.code == 0 || !strings.Contains(got.out+got.err, want) || !strings.Contains(got.out+got.err, "sequences.partners[0].of") {
			t.Errorf("%s: %+v, want %s", sequences, got, want)
		}
	}
	for sequences, auth := range map[string]string{"{partners: [{strategy: multi, of: [paste, key]}]}": "partners", "{others: [{of: [key]}]}": "staff"} {
		if got := apply(sequences, auth); got.code != 0 {
			t.Errorf("%s with auth: %s: %+v", sequences, auth, got)
		}
	}
	s.stop()
}
