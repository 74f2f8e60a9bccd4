package login_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"quorumhub/test/hubtest"
)

// person is somebody with a browser, as far as cookies, redirects and forms go.
type person struct {
	t *testing.T
	*http.Client
	hub string
}

// insecure makes a jar keep Secure cookies of localhost over plain HTTP, as browsers do.
type insecure struct{ *cookiejar.Jar }

func (j insecure) SetCookies(u *url.URL, cookies []*http.Cookie) {
	for _, c := range cookies {
		c.Secure = false
	}
	j.Jar.SetCookies(u, cookies)
}

func newPerson(t *testing.T, hub string) *person {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &person{t, &http.Client{Jar: insecure{jar}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, hub}
}

var hiddenState = regexp.MustCompile(`name="state" value="([^"]+)"`)

// visit goes somewhere and, if it is asked to, logs in as root. It returns where it ends up: a page of the hub, or an URL elsewhere.
func (p *person) visit(at string) (to, page string) {
	p.t.Helper()
	return p.follow(http.MethodGet, at, nil)
}

func (p *person) follow(method, at string, form url.Values) (to, page string) {
	p.t.Helper()
	for range 12 {
		req, err := http.NewRequestWithContext(p.t.Context(), method, at, strings.NewReader(form.Encode()))
		if err != nil {
			p.t.Fatal(err)
		}
		req.Header.Set("Accept", "text/html")
		if method == http.MethodPost {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		resp, err := p.Do(req)
		if err != nil {
			p.t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			p.t.Fatal(err)
		}
		method, form = http.MethodGet, nil
		if next, err := resp.Location(); err == nil {
			if at = next.String(); !strings.HasPrefix(at, p.hub+"/") {
				return at, ""
			}
			continue
		}
		state := hiddenState.FindSubmatch(body)
		if state == nil || !strings.Contains(string(body), "password") {
			return at, string(body)
		}
		method, at, form = http.MethodPost, p.hub+"/login/form", url.Values{"state": {string(state[1])}, "name": {"root"}, "password": {password}}
	}
	p.t.Fatal("the browser is sent around in circles")
	return "", ""
}

const shopSecret = "a long and random secret of the shop"

// brokerSettings has two applications, and an administrator who may do everything.
func brokerSettings(t *testing.T) func(string) string {
	return func(string) string {
		return strings.Replace(local(t, fmt.Sprintf(`
service_providers:
  - {name: console, protocol: pages, sequence: staff}
  - {name: shop, protocol: oidc, client_id: shop, client_secret_hash: %x, sequence: staff, redirect_uris: [https://shop.example.org/cb], claims: {groups: roles}}
  - {name: desk, protocol: oidc, client_id: desk, sequence: staff, redirect_uris: [http://127.0.0.1/cb], post_logout_redirect_uris: [http://127.0.0.1/cb], claims: {preferred_username: user, name: name}}
`, sha256.Sum256([]byte(shopSecret)))), "may: [admin.view]", "may: ['admin.*']", 1)
	}
}

// desk is an application on npm's openid-client.
type desk struct {
	t     *testing.T
	in    io.Writer
	lines *bufio.Scanner
}

type said struct {
	At     string         `json:"at"`
	Claims map[string]any `json:"claims"`
	Error  string         `json:"error"`
	Iss    bool           `json:"iss"`
}

// unavailable skips the test because a program is missing, or fails it with CI=true.
func unavailable(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

func startDesk(t *testing.T, issuer string) *desk {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		unavailable(t, "node is missing: apt-get install nodejs npm")
	}
	clients, err := filepath.Abs("../interop/clients")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(clients, "node_modules/openid-client")); err != nil {
		unavailable(t, "npm openid-client is missing: npm ci in test/interop/clients")
	}
	cmd := exec.CommandContext(t.Context(), node, filepath.Join(clients, "openid-client.mjs"), issuer, "desk", "http://127.0.0.1/cb")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); _ = cmd.Wait() })
	return &desk{t, in, bufio.NewScanner(out)}
}

// ask sends a line, unless it is empty, and returns the next answer.
func (d *desk) ask(line string) (s said) {
	d.t.Helper()
	if line != "" {
		fmt.Fprintln(d.in, line)
	}
	if !d.lines.Scan() {
		d.t.Fatalf("the application has ended after %q", line)
	}
	if err := json.Unmarshal(d.lines.Bytes(), &s); err != nil {
		d.t.Fatalf("%s: %v", d.lines.Text(), err)
	}
	return s
}

// terminal is a user with a configuration directory of its own.
type terminal struct {
	t   *testing.T
	dir string
	hub string
}

func (m *terminal) command(args ...string) *exec.Cmd {
	m.t.Helper()
	cmd := exec.CommandContext(m.t.Context(), hubtest.Binary(m.t), append(args, "--hub", m.hub)...)
	cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+m.dir, "HOME="+m.dir, "QUORUMHUB_TOKEN=")
	return cmd
}

// run runs a command and returns its exit code and output.
func (m *terminal) run(args ...string) (int, string) {
	m.t.Helper()
	cmd := m.command(args...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		m.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

func (m *terminal) file() string {
	m.t.Helper()
	files, err := filepath.Glob(filepath.Join(m.dir, "quorumhub/logins/*.json"))
	if err != nil || len(files) != 1 {
		m.t.Fatalf("got %v, %v; expected one login", files, err)
	}
	return files[0]
}

// login runs quorumhub login, and lets it in with a browser.
func (m *terminal) login(p *person) string {
	m.t.Helper()
	cmd := m.command("login")
	var out strings.Builder
	cmd.Stdout = &out
	errs, err := cmd.StderrPipe()
	if err != nil {
		m.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	lines, told := bufio.NewScanner(errs), ""
	for lines.Scan() {
		told += lines.Text() + "\n"
		if found := regexp.MustCompile(`allow the code ([A-Z-]+)\.`).FindStringSubmatch(lines.Text()); found != nil {
			page := m.hub + "/login/device?user_code=" + found[1]
			if _, body := p.visit(page); !strings.Contains(body, found[1]) {
				m.t.Fatalf("the page lacks the code: %s", body)
			}
			if _, body := p.follow(http.MethodPost, m.hub+"/login/device", url.Values{"user_code": {found[1]}, "decision": {"allow"}}); !strings.Contains(body, "logged in now") {
				m.t.Fatalf("allow: %s", body)
			}
		}
	}
	if err := cmd.Wait(); err != nil {
		m.t.Fatalf("quorumhub login: %v\n%s%s", err, told, out.String())
	}
	return out.String()
}

// expire makes the login's access token look expired, and returns what the file was turned into.
func (m *terminal) expire() string {
	m.t.Helper()
	text, err := os.ReadFile(m.file())
	if err != nil {
		m.t.Fatal(err)
	}
	text = regexp.MustCompile(`"expires": "[^"]*"`).ReplaceAll(text, []byte(`"expires": "2020-01-01T00:00:00Z"`))
	if err := os.WriteFile(m.file(), text, 0o600); err != nil {
		m.t.Fatal(err)
	}
	return string(text)
}

// claimsOf verifies the shop's ID token and returns what it says.
func claimsOf(t *testing.T, provider *oidc.Provider, tok *oauth2.Token) (claims map[string]any) {
	t.Helper()
	raw, _ := tok.Extra("id_token").(string)
	id, err := provider.Verifier(&oidc.Config{ClientID: "shop", SupportedSigningAlgs: []string{"ES256"}}).Verify(t.Context(), raw)
	if err == nil {
		err = id.Claims(&claims)
	}
	if err != nil {
		t.Fatal(err)
	}
	return claims
}

// Two applications, one on golang.org/x/oauth2 and one on npm's openid-client, share a login on three nodes, each request of which goes to
// another one than the request before. The keys are rotated in the middle, by somebody who has logged in at a terminal. A logout at one
// application ends what the other has, and the terminal stays.
func TestApplicationsOnThreeNodes(t *testing.T) {
	c := three(t, brokerSettings(t))
	issuer, p := c.url+"/oidc", newPerson(t, c.url)
	ctx := context.WithValue(t.Context(), oauth2.HTTPClient, &http.Client{Timeout: 10 * time.Second})
	provider, err := oidc.NewProvider(ctx, issuer)
	if err != nil {
		t.Fatal(err)
	}
	shop := &oauth2.Config{ClientID: "shop", ClientSecret: shopSecret, RedirectURL: "https://shop.example.org/cb", Endpoint: provider.Endpoint(), Scopes: []string{"openid", "offline_access"}}
	verifier := oauth2.GenerateVerifier()
	to, page := p.visit(shop.AuthCodeURL("s1", oauth2.S256ChallengeOption(verifier), oidc.Nonce("n1")))
	back, err := url.Parse(to)
	if err != nil || back.Host != "shop.example.org" || back.Query().Get("iss") != issuer || back.Query().Get("code") == "" {
		t.Fatalf("got %s %s", to, page)
	}
	tok, err := shop.Exchange(ctx, back.Query().Get("code"), oauth2.VerifierOption(verifier))
	if err != nil {
		t.Fatal(err)
	}
	verify := func(tok *oauth2.Token) map[string]any { return claimsOf(t, provider, tok) }
	if got := verify(tok); got["sub"] != "local/root" || got["nonce"] != "n1" || fmt.Sprint(got["groups"]) != "[admin]" || got["name"] != nil {
		t.Errorf("the shop learns %v", got)
	}

	m := &terminal{t, t.TempDir(), c.url}
	if out := m.login(p); !strings.Contains(out, "local/root") || !strings.Contains(out, "session") {
		t.Errorf("quorumhub login says %s", out)
	}
	if code, out := m.run("keys", "rotate"); code != 0 {
		t.Fatalf("keys rotate: %d %s", code, out)
	}

	second := startDesk(t, issuer)
	to, page = p.visit(second.ask("").At)
	if !strings.HasPrefix(to, "http://127.0.0.1/cb?") {
		t.Fatalf("got %s %s", to, page)
	}
	if got := second.ask(to); !got.Iss || got.Claims["sub"] != "local/root" || got.Claims["groups"] != nil {
		t.Errorf("the desk learns %+v", got)
	}
	for _, command := range []string{"userinfo", "refresh", "userinfo", "refresh"} {
		if got := second.ask(command); got.Claims["sub"] != "local/root" {
			t.Errorf("the desk, %s: %+v", command, got)
		}
	}
	renew := func() (*oauth2.Token, error) {
		return shop.TokenSource(ctx, &oauth2.Token{RefreshToken: tok.RefreshToken}).Token()
	}
	for range 3 {
		if tok, err = renew(); err != nil {
			t.Fatal(err)
		}
		if got := verify(tok); got["sub"] != "local/root" {
			t.Errorf("after the rotation the shop learns %v", got)
		}
	}
	if to, page = p.visit(second.ask("logout").At); to != "http://127.0.0.1/cb" {
		t.Errorf("logged out: sent to %s %s", to, page)
	}
	if got := second.ask("refresh"); got.Error != "invalid_grant" {
		t.Errorf("the desk refreshes after the logout: %+v", got)
	}
	if _, err := renew(); err == nil || !strings.Contains(err.Error(), "invalid_grant") {
		t.Errorf("the shop refreshes after the logout: %v", err)
	}
	if got := second.ask("userinfo"); got.Claims != nil {
		t.Errorf("the desk's userinfo after the logout: %+v", got)
	}
	if code, out := m.run("whoami"); code != 0 || !strings.Contains(out, "local/root") {
		t.Errorf("the terminal after the browser's logout: %d %s", code, out)
	}
}

// A login at a terminal is renewed by whichever command needs it, ends with quorumhub logout or when somebody ends its session, and is not
// used if others could have read it.
func TestLoginAtATerminal(t *testing.T) {
	n := start(t, brokerSettings(t)(""), nil)
	m, p := &terminal{t, t.TempDir(), n.URL}, newPerson(t, n.URL)
	if code, out := m.run("auth", "sessions"); code != 4 {
		t.Errorf("without a login: %d %s", code, out)
	}
	m.login(p)
	info, err := os.Stat(m.file())
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the login's file: %v %v", info, err)
	}
	if code, out := m.run("auth", "sessions"); code != 0 || !strings.Contains(out, "quorumhub login on ") {
		t.Errorf("auth sessions: %d %s", code, out)
	}
	elsewhere := start(t, brokerSettings(t)(""), nil)
	other := &terminal{t, m.dir, elsewhere.URL}
	if code, out := other.run("whoami"); code != 0 || !strings.Contains(out, "anonymous") {
		t.Errorf("the login at another hub: %d %s", code, out)
	}

	was := m.expire()
	var at sync.WaitGroup
	for range 5 {
		at.Go(func() {
			if code, out := m.run("whoami"); code != 0 || !strings.Contains(out, "local/root") {
				t.Errorf("one of several at once: %d %s", code, out)
			}
		})
	}
	at.Wait()
	if now, _ := os.ReadFile(m.file()); string(now) == was {
		t.Error("the login was not renewed")
	}

	if err := os.Chmod(m.file(), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, out := m.run("whoami"); code != 2 || !strings.Contains(out, "others can read") {
		t.Errorf("a login that others can read: %d %s", code, out)
	}
	if code, out := m.run("logout"); code != 0 || !strings.Contains(out, "logged out") {
		t.Errorf("logout: %d %s", code, out)
	}
	if code, out := m.run("whoami"); code != 0 || !strings.Contains(out, "anonymous") {
		t.Errorf("after the logout: %d %s", code, out)
	}
	if code, out := m.run("logout"); code != 2 || !strings.Contains(out, "no login") {
		t.Errorf("logout again: %d %s", code, out)
	}

	m.login(p)
	if _, body := p.visit(n.URL + "/login/me"); strings.Count(body, "quorumhub login on") != 1 {
		t.Errorf("the page about me lists other logins than one: %s", body)
	}
	id := regexp.MustCompile(`(?m)^([0-9a-f]{12})\b.*quorumhub login`).FindStringSubmatch(second(m.run("auth", "sessions")))
	if id == nil {
		t.Fatalf("no session of the terminal is listed: %s", second(m.run("auth", "sessions")))
	}
	if code, out := m.run("auth", "end-session", id[1]); code != 0 {
		t.Errorf("end-session: %d %s", code, out)
	}
	if code, out := m.run("whoami"); code != 4 {
		t.Errorf("after its session has ended: %d %s", code, out)
	}
	m.expire()
	if code, out := m.run("whoami"); code != 4 || !strings.Contains(out, "log in again") {
		t.Errorf("renewing after its session has ended: %d %s", code, out)
	}
	if files, _ := filepath.Glob(filepath.Join(m.dir, "quorumhub/logins/*.json")); len(files) != 0 {
		t.Errorf("a login that has ended is kept: %v", files)
	}
	if log := n.Log(); strings.Contains(log, "qht_") || strings.Contains(log, "qhr_") || !strings.Contains(log, "terminal.allow") {
		t.Error("the log has a token, or no audit line about the terminal")
	}
}

func second(_ int, s string) string { return s }
