package login_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"quorumhub/test/hubtest"
)

// registryFor writes a gateway's registry whose route asks for a sequence of auth.file, and another for one of its own.
func registryFor(t *testing.T, service string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gateway.yaml")
	text := fmt.Sprintf(`version: 1
upstreams: {app: {urls: [%q]}}
sequences: {either: [{strategy: multi, of: [key, emergency]}]}
services:
  - {name: reports, uri: reports, versions: [{version: "1", methods: [GET], auth: staff, target: "app:/r"}]}
  - {name: charts, uri: charts, versions: [{version: "1", methods: [GET], auth: either, target: "app:/c"}]}
  - {name: keys, uri: keys, versions: [{version: "1", methods: [GET], auth: key, target: "app:/k"}]}
`, service)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestBrowserGateway: a browser that comes to a route of the gateway logs in as the route asks, and arrives; programs get 401; and the
// service behind never sees the cookie.
func TestBrowserGateway(t *testing.T) {
	var cookies []string
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cookies = append(cookies, r.Header.Get("Cookie"))
		w.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprintf(w, "<main><h1>%s for %s</h1></main>", r.URL.RequestURI(), r.Header.Get("X-Principal-Subject"))
	}))
	t.Cleanup(service.Close)
	n := start(t, local(t, pagesOnly), hubtest.Settings{"gateway.file": registryFor(t, service.URL)})

	get := func(path string, header ...string) (*http.Response, string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, n.URL+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i+1 < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		resp, err := (&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp, string(body)
	}
	hubtest.Eventually(t, "the gateway serves", func() error {
		if r, body := get("/gateway/reports"); r.StatusCode != http.StatusUnauthorized {
			return fmt.Errorf("got %d: %s", r.StatusCode, body)
		}
		return nil
	})
	if r, _ := get("/gateway/reports?x=1", "Accept", "text/html", "Sec-Fetch-Mode", "navigate"); r.StatusCode != http.StatusSeeOther || r.Header.Get("Location") != "/login?return=%2Fgateway%2Freports%3Fx%3D1&sp=gateway%3Astaff" {
		t.Errorf("a browser: got %d to %q", r.StatusCode, r.Header.Get("Location"))
	}
	for name, header := range map[string][]string{"a script": {"Accept", "text/html", "Sec-Fetch-Mode", "cors"}, "a program": {"Accept", "*/*"}} {
		if r, _ := get("/gateway/charts", header...); r.StatusCode != http.StatusUnauthorized || r.Header.Get("Www-Authenticate") == "" {
			t.Errorf("%s: got %d, %v", name, r.StatusCode, r.Header)
		}
	}
	if r, _ := get("/gateway/keys", "Accept", "text/html", "Sec-Fetch-Mode", "navigate"); r.StatusCode != http.StatusUnauthorized {
		t.Errorf("a route on which nobody can log in: got %d", r.StatusCode)
	}
	if r, body := get("/login?sp=gateway:key", "Accept", "text/html"); r.StatusCode == http.StatusSeeOther || strings.Contains(body, "<form") {
		t.Errorf("logging in for it: got %d: %s", r.StatusCode, body)
	}
	if r, _ := get("/login?sp=gateway:nobody", "Accept", "text/html"); r.StatusCode != http.StatusBadRequest {
		t.Errorf("logging in for a route that is not there: got %d", r.StatusCode)
	}

	b := chromium(t).open(n.URL + "/gateway/reports?x=1")
	b.shows("Emergency account").logIn("root", password).wait("/gateway/reports?x=1").shows("/r?x=1 for root")
	b.open(n.URL + "/gateway/charts").shows("/c for root") // no second login
	b.other().open(n.URL+"/gateway/charts").shows("Emergency account").logIn("root", password).wait("/gateway/charts").shows("/c for root")
	for _, c := range cookies {
		if c != "" {
			t.Errorf("the service behind got the cookie %q", c)
		}
	}
}
