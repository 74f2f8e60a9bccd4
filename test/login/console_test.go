package login_test

import (
	"net/http"
	"strings"
	"testing"

	"quorumhub/test/hubtest"
)

// TestBrowserConsole: somebody who opens a page of the console logs in first and arrives there; a session that has not passed what the
// console asks for is not enough; and programs get 401.
func TestBrowserConsole(t *testing.T) {
	n := start(t, local(t, `service_providers:
  - {name: console, protocol: pages, sequence: staff}
  - {name: other, protocol: pages, sequence: paste}
`), nil)
	b := chromium(t).open(n.URL + "/console/subscriptions?state=active")
	b.shows("Emergency account").logIn("root", password).wait("/console/subscriptions?state=active")
	b.open(n.URL + "/console/")
	if at := b.at(); !strings.HasSuffix(at, "/console/") || strings.Contains(b.text(), "Log in") {
		t.Errorf("at %s: %s", at, b.text())
	}
	keyed := b.other()
	keyed.open(n.URL+"/login?sp=other").fill("input[name=key]", rootKey).press(submit).wait("/login/me").shows("key/")
	keyed.open(n.URL + "/console/").shows("Emergency account")

	reply := n.Do(t, "GET", "/console/", http.Header{"Accept": {"application/json"}}, nil)
	if reply.Status != http.StatusUnauthorized {
		t.Errorf("a program: got %v", reply)
	}
}

// TestBrowserBelowAPath: all of it works below the path of the hub's public URL.
func TestBrowserBelowAPath(t *testing.T) {
	addrs, err := hubtest.FreeLocalhost(2)
	if err != nil {
		t.Fatal(err)
	}
	base := "http://localhost" + addrs[0][strings.LastIndex(addrs[0], ":"):] + "/our/hub"
	startAt(t, addrs[0], addrs[1], local(t, pagesOnly), hubtest.Settings{"http.public_url": base})
	b := chromium(t).open(base + "/login/me")
	b.shows("Emergency account").logIn("root", "wrong").shows("2 more times").logIn("root", password).wait("/our/hub/login/me").shows("local/root")
	b.open(base + "/console/")
	if at := b.at(); at != base+"/console/" {
		t.Errorf("the console: at %s: %s", at, b.text())
	}
	b.open(base + "/login/me").press("form[action$='/login/logout'] button").wait("/our/hub/login/bye")
}
