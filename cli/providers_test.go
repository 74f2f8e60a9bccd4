package cli_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Files of auth.directory are taken over without a signal, as a whole or not at all; check names what is wrong with them.
func TestProvidersOfADirectoryAreTakenOver(t *testing.T) {
	dir := t.TempDir()
	root, rootLine := keyLine(t, "root", "operator")
	authFile, config := filepath.Join(dir, "auth.yaml"), filepath.Join(dir, "hub.yaml")
	providers := filepath.Join(dir, "providers")
	for _, kind := range []string{"identity-providers", "service-providers"} {
		if err := os.MkdirAll(filepath.Join(providers, kind), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	writeText(t, authFile, "api_keys:\n"+rootLine+reloadRules)
	writeText(t, config, fmt.Sprintf("http.addr: 127.0.0.1:0\ndata_dir: %q\nauth: {mode: required, file: %q, directory: %q}\n", filepath.Join(dir, "data"), authFile, providers))
	s := serving(t, config, nil, nil)
	rules := func() int { status, _ := s.do("GET", "/v1/auth/rules", root, ""); return status }
	becomes := func(what string, want int) {
		t.Helper()
		eventually(t, what, func() bool { return rules() == want })
	}
	becomes("the key is enough", http.StatusOK)

	// The API now wants what only a person can give.
	api := filepath.Join(providers, "service-providers", "api.yaml")
	writeText(t, filepath.Join(providers, "identity-providers", "paste.yaml"), "name: paste\nkind: key\n")
	writeText(t, api, "name: api\nprotocol: api\nsequence: paste\n")
	becomes("the API's sequence is in force", http.StatusUnauthorized)
	if text := s.log.String(); !strings.Contains(text, "auth.directory has changed: rules: 3, issuers: 0, API keys: 1, identity providers: 1, service providers: 1") {
		t.Errorf("it does not say what has changed:\n%s", text)
	}
	if got := run(t, "", "check", "--config", config); strings.Contains(got.out+got.err, "auth.directory") {
		t.Errorf("check: %+v", got)
	}

	// What cannot be used changes nothing, even if another file would be good.
	writeText(t, api, "name: api\nprotocol: api\nsequence: key\n")
	writeText(t, filepath.Join(providers, "service-providers", "other.yaml"), "name: other\nprotocol: pages\nsequence: stuff\n")
	eventually(t, "it says what is wrong", func() bool {
		return strings.Contains(s.log.String(), "auth.directory cannot be used; the previous one stays in force") && strings.Contains(s.log.String(), "other.yaml (other): sequence")
	})
	if status := rules(); status != http.StatusUnauthorized {
		t.Errorf("half of the directory is in force: %d", status)
	}
	got := run(t, "", "check", "--config", config)
	if got.code == 0 || !strings.Contains(got.err, `other.yaml (other): sequence: "stuff"; expected one of`) {
		t.Errorf("check: %+v", got)
	}
	if err := os.Remove(filepath.Join(providers, "service-providers", "other.yaml")); err != nil {
		t.Fatal(err)
	}
	becomes("the rest is in force", http.StatusOK)
	s.stop()
}
