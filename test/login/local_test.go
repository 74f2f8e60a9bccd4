package login_test

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"quorumhub/test/hubtest"
)

const pagesOnly = "service_providers:\n  - {name: console, protocol: pages, sequence: staff}\n"

// logIn fills in the form of the emergency account.
func (b *browser) logIn(name, password string) *browser {
	b.t.Helper()
	return b.fill("input[name=name]", name).fill("input[name=password]", password).press(submit)
}

// TestBrowserLocal: somebody logs in with a local account, sees who they are, is known to the API, ends another session, and logs out.
func TestBrowserLocal(t *testing.T) {
	n := start(t, local(t, pagesOnly), nil)
	b := chromium(t).open(n.URL + "/login/me")
	b.shows("Emergency account").shot("form")
	b.logIn("root", "wrong").shows("That was not right", "2 more times").shot("form-wrong")
	b.logIn("root", password).wait("/login/me").shows("You are logged in", "local/root", "admin", "emergency")
	b.open(n.URL + "/v1/auth/whoami").shows("local/root").open(n.URL + "/login/me")
	if got := run(b, evaluate(`document.cookie`)); got != "" {
		t.Errorf("scripts can read %q", got)
	}
	other := b.other()
	other.open(n.URL+"/login").logIn("root", password).wait("/login/me")
	b.open(n.URL+"/login/me").shows("Another session of yours", "Chrome on Linux").shot("me")
	b.press("form[action$='/login/end'] button").wait("/login/me")
	if strings.Contains(b.text(), "Another session") {
		t.Errorf("the other session is still there:\n%s", b.text())
	}
	other.open(n.URL + "/login/me").shows("Emergency account")
	b.press("form[action$='/login/logout'] button").wait("/login/bye").shows("logged out").shot("bye")
	b.open(n.URL + "/login/me").shows("Emergency account")
	if log := n.Log(); strings.Contains(log, password) || !strings.Contains(log, "credentials refused") {
		t.Error("the log has the password, or no line about the refusal")
	}
}

// TestBrowserTriesAreCounted: the form may be tried three times, exactly; then the login is to be started again.
func TestBrowserTriesAreCounted(t *testing.T) {
	n := start(t, local(t, pagesOnly), nil)
	b := chromium(t).open(n.URL + "/login")
	b.logIn("root", "1").shows("2 more times").logIn("root", "2").shows("once more").logIn("root", "3").shows("could not be logged in", "Start again").shot("refused")
	b.open(n.URL+"/login").logIn("root", password).wait("/login/me")
}

// TestBrowserBackAndTabs: two tabs log in at once; whoever goes back after logging in is still logged in; and a callback that cannot be
// continued changes nothing.
func TestBrowserBackAndTabs(t *testing.T) {
	n := start(t, local(t, pagesOnly), nil)
	one := chromium(t)
	two := one.tab()
	one.open(n.URL + "/login?return=/login/logout")
	two.open(n.URL + "/login")
	two.logIn("root", password).wait("/login/me")
	one.logIn("root", password).wait("/login/logout").shows("You are logged in as root").shot("logout")
	two.back().wait("/login/me").shows("local/root")
	two.open(n.URL+"/login/callback/emergency?state=of-another-browser&code=x").shows("cannot be continued", "You are still logged in as root", "Start again").shot("broken")
	two.open(n.URL + "/login/me").shows("local/root")
}

// TestBrowserTOTP: a second factor is asked with the password.
func TestBrowserTOTP(t *testing.T) {
	secret := newTOTP()
	n := start(t, fmt.Sprintf(`
identity_providers:
  - {name: emergency, kind: local, label: Emergency account, enabled: true, accounts: [{name: root, password_hash: %q, totp: %s, roles: [admin]}]}
service_providers: [{name: console, protocol: pages, sequence: emergency}]
`, hashOf(password), secretFile(t, secret)), nil)
	b := chromium(t).open(n.URL + "/login")
	b.shot("form-totp")
	b.fill("input[name=code]", "000000").logIn("root", password).shows("That was not right")
	b.fill("input[name=code]", codeOf(t, secret, time.Now())).logIn("root", password).wait("/login/me").shows("pwd", "otp")
}

// TestBrowserCluster: the form is sent to another node than the one that made it, and the next page comes from the third; the session is
// known to all, and so is its end.
func TestBrowserCluster(t *testing.T) {
	c := three(t, func(string) string { return local(t, pagesOnly) })
	b := chromium(t)
	for range 3 {
		b.open(c.url+"/login").logIn("root", password).wait("/login/me").shows("local/root")
		for range 3 {
			b.open(c.url + "/login/me").shows("local/root")
		}
		b.press("form[action$='/login/logout'] button").wait("/login/bye")
		for range 3 {
			hubtest.Eventually(t, "the end of the session is known", func() error {
				if b.open(c.url + "/login/me"); !strings.Contains(b.text(), "Emergency account") {
					return fmt.Errorf("still logged in:\n%s", b.text())
				}
				return nil
			})
		}
	}
}

// TestLogoutNeedsPOST: no link and no page elsewhere logs anybody out, or in.
func TestLogoutNeedsPOST(t *testing.T) {
	n := start(t, local(t, pagesOnly), nil)
	for name, header := range map[string]http.Header{"cross-site": {"Sec-Fetch-Site": {"cross-site"}}, "same-site": {"Sec-Fetch-Site": {"same-site"}}, "another origin": {"Origin": {"https://evil.example"}}} {
		for _, path := range []string{"/login/logout", "/login/form", "/login/end"} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.URL+path, strings.NewReader(url.Values{"state": {"x"}}.Encode()))
			if err != nil {
				t.Fatal(err)
			}
			r.Header = header.Clone()
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusForbidden || !strings.Contains(string(body), "different site") || len(resp.Cookies()) != 0 {
				t.Errorf("%s, POST %s: got %d: %s", name, path, resp.StatusCode, body)
			}
		}
	}
}
