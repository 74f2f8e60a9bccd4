package login_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"quorumhub/test/hubtest"
	"quorumhub/test/idp"
)

// federation is a cluster whose people log in at two real providers, or with a local account.
type federation struct {
	*cluster
	corp, partner *idp.Provider
}

// newFederation starts it. The partner's clock is 30 s in front.
func newFederation(t *testing.T) *federation {
	t.Helper()
	f := &federation{}
	f.cluster = three(t, func(url string) string {
		f.corp = idp.Zitadel(t, idp.Client{ID: "hub", Secret: "secret-of-corp", Redirects: []string{url + "/login/callback/corp"}, Logouts: []string{url + "/login/bye"}})
		f.partner = idp.Panva(t, idp.Client{ID: "hub", Secret: "secret-of-partner", Redirects: []string{url + "/login/callback/partner"}, Logouts: []string{url + "/login/bye"},
			BackChannel: url + "/login/backchannel/partner"}, 30*time.Second)
		return fmt.Sprintf(`
identity_providers:
  - {name: corp, kind: oidc, label: Company account, issuer: %q, client_id: hub, client_secret: %s, end_session: true}
  - {name: partner, kind: oidc, label: Partner account, issuer: %q, client_id: hub, client_secret: %s, end_session: true}
  - {name: emergency, kind: local, label: Emergency account, enabled: true, accounts: [{name: root, password_hash: %q}]}
sequences:
  staff: {steps: [{strategy: multi, of: [corp, partner, emergency]}]}
  backup: {steps: [{strategy: failover, of: [corp, partner]}]}
service_providers:
  - {name: console, protocol: pages, sequence: staff}
  - {name: backup, protocol: pages, sequence: backup}
`, f.corp.Issuer, secretFile(t, "secret-of-corp"), f.partner.Issuer, secretFile(t, "secret-of-partner"), hashOf(password))
	})
	return f
}

// atCorp logs in at the page of the company's provider.
func (b *browser) atCorp() *browser {
	b.t.Helper()
	return b.fill("input[name=username]", "test-user2").fill("input[name=password]", "verysecure").press("button[type=submit]")
}

// atPartner logs in at the pages of the partner's provider.
func (b *browser) atPartner(name string) *browser {
	b.t.Helper()
	b.fill("input[name=login]", name).fill("input[name=password]", "any").press("button[type=submit]")
	if strings.Contains(b.at(), "/interaction/") {
		b.press("button[type=submit]") // consent
	}
	return b
}

// TestBrowserProviders: people log in at two real providers at once, each page and callback on another node, with one provider's clock
// 30 s in front and the other's keys replaced in the middle; a logout here is one at the provider.
func TestBrowserProviders(t *testing.T) {
	f := newFederation(t)
	var mu sync.Mutex
	nodes := map[string]map[int]bool{}
	note := func(node int, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if nodes[r.URL.Path] == nil {
			nodes[r.URL.Path] = map[int]bool{}
		}
		nodes[r.URL.Path][node] = true
	}
	f.log.Store(&note)

	b := chromium(t).open(f.url + "/login")
	b.shows("How do you want to log in?", "Company account", "Partner account", "Emergency account").shot("chooser")
	b.press(button("corp")).wait(f.corp.Issuer)
	f.corp.Rotate(t)
	b.atCorp().wait("/login/me").shows("issuer:corp/id2", "corp").shot("me-corp")

	other := b.other()
	other.open(f.url + "/login?idp=partner").wait(f.partner.Issuer).atPartner("ann").wait("/login/me").shows("issuer:partner/ann")
	if corp, start := nodes["/login/callback/corp"], nodes["/login/form"]; len(corp) != 1 || len(start) != 1 || equalKeys(corp, start) {
		t.Errorf("the callback came to node %v, as did the start (%v)", corp, start)
	}
	for range 3 {
		b.open(f.url + "/login/me").shows("issuer:corp/id2")
		other.open(f.url + "/login/me").shows("issuer:partner/ann")
	}

	b.press("form[action$='/login/logout'] button").wait("/login/bye").shows("logged out")
	b.open(f.url + "/login?idp=corp").wait(f.corp.Issuer).shows("Username") // asks again
}

func equalKeys(a, b map[int]bool) bool {
	for k := range a {
		if b[k] {
			return true
		}
	}
	return false
}

// TestBrowserFailover: while one provider is down, people of a failover log in at the next; whoever has chosen it is told.
func TestBrowserFailover(t *testing.T) {
	f := newFederation(t)
	b := chromium(t)
	b.open(f.url + "/login?sp=backup").wait(f.corp.Issuer)
	f.corp.Kill(t)
	hubtest.Eventually(t, "all nodes know", func() error { // they ask again after 10 s
		for range 3 {
			if err := b.try(f.url + "/login?sp=backup"); err != nil || !strings.HasPrefix(b.at(), f.partner.Issuer) {
				return fmt.Errorf("sent to %s: %w", b.at(), err)
			}
		}
		return nil
	})
	b.atPartner("ann").wait("/login/me").shows("issuer:partner/ann")
	other := b.other()
	other.open(f.url+"/login?idp=corp").shows("not possible at the moment", "Start again").shot("unavailable")
	f.corp.Start(t)
	hubtest.EventuallyWithin(t, time.Minute, "the provider is used again", func() error {
		if other.open(f.url + "/login?idp=corp"); !strings.HasPrefix(other.at(), f.corp.Issuer) {
			return fmt.Errorf("at %s: %s", other.at(), other.text())
		}
		return nil
	})
	other.atCorp().wait("/login/me").shows("issuer:corp/id2")
}

// TestBrowserLoginCSRF: a callback that somebody else began logs nobody in, even with a code that is good.
func TestBrowserLoginCSRF(t *testing.T) {
	f := newFederation(t)
	attacker := chromium(t)
	victim := attacker.other()
	var link string
	note := func(_ int, r *http.Request) {
		if r.URL.Path == "/login/callback/partner" {
			link = r.URL.RequestURI()
		}
	}
	attacker.open(f.url + "/login?idp=partner").wait(f.partner.Issuer)
	f.log.Store(&note)
	attacker.atPartner("mallory").wait("/login/me")
	victim.open(f.url + link).shows("cannot be continued")
	victim.open(f.url + "/login/me").shows("How do you want to log in?")
	attacker.open(f.url+link).shows("cannot be continued", "You are still logged in as") // its state was used
}
