package identity_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"quorumhub/test/hubtest"
	"quorumhub/test/idp"
)

// federation is a hub whose people log in at two real providers. The partner's clock is 29 s in front.
type federation struct {
	*hubtest.Node
	corp, partner *idp.Provider
	authFile      string
}

func newFederation(t *testing.T) *federation {
	t.Helper()
	addrs, err := hubtest.FreeAddrs(2)
	if err != nil {
		t.Fatal(err)
	}
	n, err := hubtest.PrepareNode(hubtest.Options{Dir: t.TempDir(), Binary: hubtest.Binary(t), ReadyIn: 2 * hubtest.Patience})
	if err != nil {
		t.Fatal(err)
	}
	n.Place("node-1", addrs[0], addrs[1])
	f := &federation{Node: n, authFile: filepath.Join(t.TempDir(), "auth.yaml")}
	known := func(name string) idp.Client {
		return idp.Client{ID: clientID, Secret: secret, Redirects: []string{n.URL + "/login/callback/" + name}, Logouts: []string{n.URL + "/login/bye"},
			BackChannel: n.URL + "/login/backchannel/" + name}
	}
	f.corp, f.partner = idp.Zitadel(t, known("corp")), idp.Panva(t, known("partner"), 29*time.Second)
	f.configure(t, "corp", "partner")
	n.Settings = n.Settings.With(hubtest.Settings{"http.public_url": n.URL, "auth.mode": "required", "auth.file": f.authFile, "auth.egress.mode": "dev-loopback"})
	n.ShowLogOnFailure(t)
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("closing the node: %v", err)
		}
	})
	if err := n.Run(); err != nil {
		t.Fatal(err)
	}
	return f
}

// configure writes auth.file with some of the providers.
func (f *federation) configure(t *testing.T, names ...string) {
	t.Helper()
	at := filepath.Join(filepath.Dir(f.authFile), "client.secret")
	var list strings.Builder
	for _, name := range names {
		p := map[string]*idp.Provider{"corp": f.corp, "partner": f.partner}[name]
		fmt.Fprintf(&list, "  - {name: %s, kind: oidc, issuer: %q, client_id: %s, client_secret: {file: %s}, end_session: true, claims: {user: /preferred_username, roles: [/roles]}}\n", name, p.Issuer, clientID, at)
	}
	text := fmt.Sprintf(`
identity_providers:
%s  - {name: keys, kind: key}
sequences:
  staff: {steps: [{strategy: multi, of: [%s, keys]}]}
  backup: {steps: [{strategy: failover, of: [%[2]s]}]}
service_providers:
  - {name: console, protocol: pages, sequence: staff}
  - {name: backup, protocol: pages, sequence: backup}
  - {name: shop, protocol: oidc, client_id: shop, client_secret_hash: %x, sequence: staff, redirect_uris: [%q], post_logout_redirect_uris: [%q], claims: {groups: roles}}
  - {name: wiki, protocol: oidc, client_id: wiki, sequence: staff, redirect_uris: [%q], claims: {preferred_username: user}}
rules:
  - {name: staff, may: [admin.view], who: [{role: staff, issuer: partner}]}
`, &list, strings.Join(names, ", "), sha256.Sum256([]byte(secret)), shopURL, shopBye, wikiURL)
	if len(names) == 1 {
		text = strings.Replace(text, "strategy: failover", "strategy: single", 1)
		text, _, _ = strings.Cut(text, "rules:")
	}
	for path, text := range map[string]string{at: secret, f.authFile: text} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// me returns whom the hub takes a browser for; empty: nobody.
func (f *federation) me(t *testing.T, b *idp.Browser) string {
	t.Helper()
	page := b.Go(t, f.URL+"/login/me", nil)
	if !strings.Contains(page.Body, "You are logged in.") {
		return ""
	}
	_, rest, _ := strings.Cut(page.Body, "<dt>Principal</dt><dd>")
	who, _, _ := strings.Cut(rest, "<")
	return who
}

// login begins a login and goes on until the callback, which it does not open.
func (f *federation) login(t *testing.T, b *idp.Browser, query, name string) *url.URL {
	t.Helper()
	stop := func(u *url.URL) bool { return strings.HasPrefix(u.Path, "/login/callback/") }
	page := b.LogIn(t, b.Go(t, f.URL+"/login?"+query, stop), name, "verysecure", stop)
	if !stop(page.URL) {
		t.Fatalf("no callback, but %s", page)
	}
	return page.URL
}

// in logs in and returns the browser.
func (f *federation) in(t *testing.T, query, name, want string) *idp.Browser {
	t.Helper()
	b := idp.NewBrowser(t)
	page := b.Go(t, f.login(t, b, query, name).String(), nil)
	if page.Status != http.StatusOK || page.URL.Path != "/login/me" {
		t.Fatalf("after the callback: %s", page)
	}
	if got := f.me(t, b); got != want {
		t.Fatalf("logged in as %q, want %q", got, want)
	}
	return b
}

// People log in at either provider and out again, here and there; the provider's logout ends exactly what it names.
func TestHubWithRealProviders(t *testing.T) {
	t.Parallel()
	f := newFederation(t)
	corp := f.in(t, "idp=corp", "test-user2", "issuer:corp/id2")
	ada := f.in(t, "idp=partner", "ada", "issuer:partner/ada")
	elsewhere := f.in(t, "idp=partner", "ada", "issuer:partner/ada")
	eve := f.in(t, "idp=partner", "eve", "issuer:partner/eve")

	// Claims become rights: the partner's staff may look at lists, others may not, whatever they are called.
	for b, want := range map[*idp.Browser]int{ada: 200, corp: 403, idp.NewBrowser(t): 401} {
		if page := b.Go(t, f.URL+"/v1/cluster", nil); page.Status != want {
			t.Errorf("/v1/cluster: %d, want %d: %s", page.Status, want, page.Body)
		}
	}

	// A callback that was used, and one of another browser.
	b := idp.NewBrowser(t)
	at := f.login(t, b, "idp=corp", "test-user2")
	if page := idp.NewBrowser(t).Go(t, at.String(), nil); page.Status < 400 {
		t.Errorf("a callback in another browser: %s", page)
	}
	if page := b.Go(t, at.String(), nil); page.Status != 200 {
		t.Errorf("the callback: %s", page)
	}
	if page := b.Go(t, at.String(), nil); page.Status < 400 {
		t.Errorf("the callback once more: %s", page)
	}

	// Ada logs out at the partner: that browser's session ends, and no other.
	page := ada.Go(t, f.partner.Issuer+"/session/end", nil)
	if len(page.Forms) == 0 {
		t.Fatal(page)
	}
	ada.Send(t, page.Forms[0], url.Values{"logout": {"yes"}}, nil)
	hubtest.Eventually(t, "the back-channel logout", func() error {
		if who := f.me(t, ada); who != "" {
			return errors.New("still " + who)
		}
		return nil
	})
	for b, want := range map[*idp.Browser]string{elsewhere: "issuer:partner/ada", eve: "issuer:partner/eve", corp: "issuer:corp/id2"} {
		if got := f.me(t, b); got != want {
			t.Errorf("after another's logout: %q, want %q", got, want)
		}
	}
	for name, token := range map[string]string{"nothing": "", "a forged one": "eyJhbGciOiJub25lIn0.e30."} {
		form := url.Values{"logout_token": {token}}.Encode()
		if got := f.Do(t, http.MethodPost, "/login/backchannel/partner", hubtest.Headers("Content-Type", "application/x-www-form-urlencoded"), []byte(form)); got.Status != http.StatusBadRequest {
			t.Errorf("%s: %s", name, got)
		}
	}

	// Eve logs out here: she is sent to the partner, who ends its own session, and back.
	page = eve.Go(t, f.URL+"/login/me", nil)
	page = eve.Send(t, page.Forms[0], nil, nil)
	if !strings.HasPrefix(page.URL.String(), f.partner.Issuer) || len(page.Forms) == 0 {
		t.Fatalf("logging out: %s", page)
	}
	if page = eve.Send(t, page.Forms[0], url.Values{"logout": {"yes"}}, nil); !strings.HasPrefix(page.URL.String(), f.URL+"/login/bye") || page.Status != 200 {
		t.Errorf("back at the hub: %s", page)
	}
	if page = eve.Go(t, f.URL+"/login?idp=partner", nil); !strings.HasPrefix(page.URL.String(), f.partner.Issuer+"/interaction/") {
		t.Errorf("the partner still knows her: %s", page)
	}
	if who := f.me(t, eve); who != "" {
		t.Errorf("still %s", who)
	}
}

// One provider is killed: before a login, and in the middle of one. The next one of a failover takes over; a provider that was chosen is
// told to be unavailable, and used again when it is back with other keys.
func TestHubFailsOver(t *testing.T) {
	t.Parallel()
	f := newFederation(t)
	b := idp.NewBrowser(t)
	at := f.login(t, b, "sp=backup", "test-user2")
	if !strings.HasSuffix(at.Path, "/corp") {
		t.Fatalf("the first of the failover is %s", at.Path)
	}
	f.corp.Kill(t)
	page := b.Go(t, at.String(), nil)
	if !strings.HasPrefix(page.URL.String(), f.partner.Issuer) {
		t.Fatalf("killed in the middle: %s", page)
	}
	atHub := func(u *url.URL) bool { return u.Path == "/login/me" }
	if page = b.LogIn(t, page, "ada", "x", atHub); !atHub(page.URL) || f.me(t, b) != "issuer:partner/ada" {
		t.Fatalf("at the partner: %s", page)
	}
	f.in(t, "sp=backup", "ada", "issuer:partner/ada") // it is known to be down
	if page := idp.NewBrowser(t).Go(t, f.URL+"/login?idp=corp", nil); page.Status != http.StatusServiceUnavailable || strings.Contains(page.Body, f.corp.Issuer) {
		t.Errorf("chosen, and down: %s", page)
	}
	f.corp.Start(t)
	hubtest.Eventually(t, "the provider is used again", func() error {
		if page := idp.NewBrowser(t).Go(t, f.URL+"/login?sp=backup", nil); !strings.HasPrefix(page.URL.String(), f.corp.Issuer) {
			return fmt.Errorf("at %s", page.URL)
		}
		return nil
	})
	f.in(t, "sp=backup", "test-user2", "issuer:corp/id2")
	// Keys are replaced between the page of the provider and the callback.
	b = idp.NewBrowser(t)
	at = f.login(t, b, "idp=corp", "test-user2")
	f.corp.Rotate(t)
	if page := b.Go(t, at.String(), nil); page.URL.Path != "/login/me" || f.me(t, b) != "issuer:corp/id2" {
		t.Errorf("after the rotation: %s", page)
	}
	// A refusal never leads to the next: the person says no at the provider.
	b = idp.NewBrowser(t)
	stop := func(u *url.URL) bool { return strings.HasPrefix(u.String(), f.corp.Issuer) }
	out := b.Go(t, f.URL+"/login?sp=backup", stop).URL.Query()
	page = b.Go(t, f.URL+"/login/callback/corp?"+url.Values{"error": {"access_denied"}, "state": {out.Get("state")}}.Encode(), nil)
	if strings.HasPrefix(page.URL.String(), f.partner.Issuer) || page.Status < 400 && !strings.HasPrefix(page.URL.String(), f.corp.Issuer) && len(page.Forms) == 0 {
		t.Errorf("after a refusal: %s", page)
	}
}

// A provider that auth.file does not have any more lets nobody in, nor go on; the others' sessions stay.
func TestProviderIsTakenAway(t *testing.T) {
	t.Parallel()
	f := newFederation(t)
	corp, ada := f.in(t, "idp=corp", "test-user2", "issuer:corp/id2"), f.in(t, "idp=partner", "ada", "issuer:partner/ada")
	f.configure(t, "partner")
	if err := syscall.Kill(f.PID(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	hubtest.Eventually(t, "the reload", func() error {
		if who := f.me(t, corp); who != "" {
			return errors.New("still " + who)
		}
		return nil
	})
	if who := f.me(t, ada); who != "issuer:partner/ada" {
		t.Errorf("the partner's session: %q", who)
	}
	if page := idp.NewBrowser(t).Go(t, f.URL+"/login?idp=corp", nil); page.Status < 400 {
		t.Errorf("a login at it: %s", page)
	}
	f.in(t, "idp=partner", "eve", "issuer:partner/eve")
}
