package login_test

import (
	"fmt"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"

	"quorumhub/test/hubtest"
	"quorumhub/test/idp"
)

// TestLoginReload: logins come and go with auth.file while the hub runs, and a session ends with the provider that it was begun at.
func TestLoginReload(t *testing.T) {
	n := start(t, "rules: []\n", nil)
	file, _ := n.Settings["auth.file"].(string)
	reload := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(n.PID(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	b := idp.NewBrowser(t)
	until := func(what string, path string, want func(*idp.Page) bool) *idp.Page {
		t.Helper()
		var p *idp.Page
		hubtest.Eventually(t, what, func() error {
			if p = b.Go(t, n.URL+path, nil); !want(p) {
				return fmt.Errorf("got %v", p)
			}
			return nil
		})
		return p
	}
	if p := b.Go(t, n.URL+"/login", nil); p.Status != 404 || !strings.Contains(p.Body, "identity_providers") {
		t.Fatalf("without providers: %v", p)
	}
	both := local(t, pagesOnly)
	reload(both)
	p := until("a login is there", "/login/me", func(p *idp.Page) bool { return p.Status == 200 && strings.Contains(p.Body, "Emergency account") })
	p = b.Send(t, p.Forms[0], url.Values{"name": {"root"}, "password": {password}}, nil)
	if p.Status != 200 || !strings.Contains(p.Body, "local/root") {
		t.Fatalf("logged in: %v", p)
	}

	reload(strings.Replace(both, "enabled: true, ", "", 1))
	until("the session has ended with its provider", "/login/me", func(p *idp.Page) bool { return !strings.Contains(p.Body, "local/root") })
	reload("identity_providers: [{name: broken")
	if p := b.Go(t, n.URL+"/login", nil); p.Status == 404 {
		t.Errorf("a broken file: %v", p)
	}
	reload("rules: []\n")
	until("logins are gone", "/login", func(p *idp.Page) bool { return p.Status == 404 })
}
