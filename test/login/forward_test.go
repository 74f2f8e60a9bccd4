package login_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"quorumhub/test/hubtest"
)

// application shows what headers say about its visitor.
func application(t *testing.T) *httptest.Server {
	t.Helper()
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = fmt.Fprintf(w, "<h1>wiki</h1><p>%s %s: id=%s user=%s roles=%s method=%s</p>", r.Method, r.URL.RequestURI(), r.Header["X-Principal-Id"], r.Header["X-Principal-User"],
			r.Header["X-Principal-Roles"], r.Header["X-Principal-Method"])
	}))
	t.Cleanup(app.Close)
	return app
}

// example returns the configuration of a proxy from the documentation, with the hosts of the test.
func example(t *testing.T, heading, listen, hub, app string) string {
	t.Helper()
	root, err := hubtest.Root()
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(root, "docs", "identity-forward.md"))
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)## " + heading + "\n.*?```[a-z]*\n(.*?)```").FindSubmatch(page)
	if block == nil {
		t.Fatalf("docs/identity-forward.md has no example for %s", heading)
	}
	return strings.NewReplacer("server_name wiki.example.org;", "listen "+listen+";", "wiki.example.org {", "http://"+listen+" {", "hub.internal:8080", hub, "app.internal:3000", app).Replace(string(block[1]))
}

// proxy starts a program in front of the application, from its example in the documentation.
func proxy(t *testing.T, name, hub, app string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + name)
	}
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is missing; test/deps.sh installs it", name)
		}
		t.Skipf("%s is missing; test/deps.sh installs it", name)
	}
	addrs, err := hubtest.FreeLocalhost(1)
	if err != nil {
		t.Fatal(err)
	}
	listen, dir := addrs[0], t.TempDir()
	file := filepath.Join(dir, "proxy.conf")
	var text string
	var args []string
	switch name {
	case "caddy":
		text = "{\n\tadmin off\n\tauto_https off\n}\n" + example(t, "Caddy", listen, hub, app)
		args = []string{"run", "--adapter", "caddyfile", "--config", file}
	case "nginx":
		text = fmt.Sprintf("daemon off; pid %[1]s/pid; error_log stderr; worker_processes 1;\nevents {}\nhttp {\naccess_log off; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;\n%[2]s}\n", dir, example(t, "nginx", listen, hub, app))
		args = []string{"-c", file, "-p", dir}
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var output strings.Builder
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s:\n%s\n%s", name, text, output.String())
		}
	})
	hubtest.Eventually(t, name+" listens", func() error {
		resp, err := http.Get("http://" + listen + "/.quorumhub/session")
		if err != nil {
			return err
		}
		return resp.Body.Close()
	})
	return "http://" + listen
}

// TestForwardAuthProxies: an application behind Debian's caddy and nginx, as the documentation sets them up, is told who its visitor is;
// the visitor logs in once, for several applications; and a logout at the hub ends all of it.
func TestForwardAuthProxies(t *testing.T) {
	for _, name := range []string{"caddy", "nginx"} {
		t.Run(name, func(t *testing.T) {
			app := application(t)
			addrs, err := hubtest.FreeLocalhost(2)
			if err != nil {
				t.Fatal(err)
			}
			hubAddr := addrs[0]
			site := proxy(t, name, hubAddr, strings.TrimPrefix(app.URL, "http://"))
			n := startAt(t, hubAddr, addrs[1], local(t, fmt.Sprintf("service_providers:\n  - {name: wiki, protocol: forward-auth, hosts: [%q], sequence: staff}\n  - {name: console, protocol: pages, sequence: staff}\n",
				strings.TrimPrefix(site, "http://"))), nil)

			b := chromium(t).open(site + "/page?x=1")
			b.shows("Emergency account").logIn("root", password)
			b.wait("/page?x=1").shows("GET /page?x=1: id=[local/root] user=[root] roles=[admin] method=[session]")
			if got := run(b, evaluate(`fetch("/save", {method: "POST", headers: {"X-Principal-Id": "issuer:corp/boss", "X-Principal-Roles": "boss"}}).then(r => r.text())`)); !strings.Contains(got, "POST /save: id=[local/root] user=[root] roles=[admin]") {
				t.Errorf("a script of the application: %s", got)
			}
			b.open(n.URL + "/login/me").shows("local/root")
			b.press("form[action$='/login/logout'] button").wait("/login/bye")
			b.open(site + "/page").shows("Emergency account")

			for what, h := range map[string]http.Header{"a program": {}, "a program that says who it is": {"X-Principal-Id": {"local/root"}},
				"a program with another host": {"X-Forwarded-Host": {"evil.example"}}, "a bad token": {"Authorization": {"Bearer x"}}} {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, site+"/page", http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				r.Header = h
				resp, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				body, _ := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if resp.StatusCode != http.StatusUnauthorized || strings.Contains(string(body), "wiki") {
					t.Errorf("%s: got %d: %s", what, resp.StatusCode, body)
				}
			}
		})
	}
}
