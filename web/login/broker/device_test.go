package broker_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"quorumhub/hub"
)

// terminal is quorumhub login, waiting.
type terminal struct {
	c      *cluster
	Device string `json:"device_code"`
	Code   string `json:"user_code"`
	Page   string `json:"verification_uri_complete"`
	Plain  string `json:"verification_uri"`
	Every  int    `json:"interval"`
	For    int    `json:"expires_in"`
}

func (c *cluster) terminal(form url.Values) *terminal {
	c.t.Helper()
	status, got, _ := c.token("/v1/auth/device", form)
	if status != http.StatusOK {
		c.t.Fatalf("got %d %v", status, got)
	}
	text, err := json.Marshal(got)
	if err != nil {
		c.t.Fatal(err)
	}
	out := &terminal{c: c}
	if err := json.Unmarshal(text, out); err != nil {
		c.t.Fatal(err)
	}
	return out
}

// poll asks whether somebody has let the terminal in, an interval after the last time.
func (t *terminal) poll() (int, map[string]any) {
	t.c.t.Helper()
	t.c.pass(time.Duration(t.Every) * time.Second)
	t.c.settle()
	return t.ask()
}

func (t *terminal) ask() (int, map[string]any) {
	t.c.t.Helper()
	status, got, _ := t.c.token("/oidc/token", url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "device_code": {t.Device}, "client_id": {"quorumhub-terminal"}})
	return status, got
}

func (t *terminal) wants(want string) {
	t.c.t.Helper()
	if status, got := t.poll(); status != http.StatusBadRequest || got["error"] != want {
		t.c.t.Errorf("got %d %v, want %s", status, got, want)
	}
}

// login has somebody log in with a browser by the shop, which is as good as any other way.
func (c *cluster) login(who string) *browser {
	c.t.Helper()
	c.mu.Lock()
	c.who = who
	c.mu.Unlock()
	b := c.browser()
	c.shop().code(b)
	return b
}

func (b *browser) decide(code, decision string) (int, string) {
	b.c.t.Helper()
	resp, page := b.post("/login/device", url.Values{"user_code": {code}, "decision": {decision}})
	return resp.StatusCode, page
}

// A terminal is let in by a person with a browser, and gets tokens that the hub's API takes, until the session of its own ends.
func TestATerminalIsLetIn(t *testing.T) {
	c := newCluster(t)
	term := c.terminal(url.Values{"host": {"laptop\n<b>\u202e"}, "idp": {"corp"}})
	if !regexp.MustCompile(`^[B-Z]{4}-[B-Z]{4}$`).MatchString(term.Code) || term.Plain != c.URL+"/login/device" || term.For != 600 || term.Every != 5 ||
		term.Page != c.URL+"/login/device?idp=corp&user_code="+term.Code {
		t.Fatalf("got %+v", term)
	}
	term.wants("authorization_pending")

	stranger := c.browser()
	if to, _, _ := stranger.visit(term.Page); to.Path != "/login" || to.Query().Get("idp") != "corp" || !strings.HasPrefix(to.Query().Get("return"), "/login/device?user_code=") {
		t.Errorf("without a session: sent to %v", to)
	}
	if status, page := stranger.decide(term.Code, "allow"); status != http.StatusUnauthorized {
		t.Errorf("allowed without a session: %d %s", status, page)
	}
	alice := c.login("alice")
	_, status, page := alice.visit(term.Page)
	for _, want := range []string{term.Code, "laptop&lt;b&gt;, from 192.0.2.1", "Name of alice", "Allow", "Deny"} {
		if status != http.StatusOK || !strings.Contains(page, want) {
			t.Errorf("the page lacks %q: %d\n%s", want, status, page)
		}
	}
	term.wants("authorization_pending")
	typed := strings.ToLower(strings.Replace(term.Code, "-", " ", 1))
	if resp, page := alice.post("/login/device", url.Values{"user_code": {typed}}); resp.StatusCode != http.StatusOK || !strings.Contains(page, term.Code) {
		t.Errorf("typed as %q: %d %s", typed, resp.StatusCode, page)
	}
	if status, page := alice.decide(term.Code, "allow"); status != http.StatusOK || !strings.Contains(page, "logged in now") {
		t.Fatalf("allow: %d %s", status, page)
	}
	if status, _ := alice.decide(term.Code, "deny"); status != http.StatusNotFound {
		t.Errorf("decided again: %d", status)
	}
	if _, status, page := alice.visit(term.Page); status != http.StatusNotFound || strings.Contains(page, "laptop") {
		t.Errorf("the page of one that was decided about: %d %s", status, page)
	}
	status, got := term.poll()
	access, _ := got["access_token"].(string)
	refresh, _ := got["refresh_token"].(string)
	if status != http.StatusOK || !strings.HasPrefix(access, "qht_") || refresh == "" || got["id_token"] != nil {
		t.Fatalf("got %d %v", status, got)
	}
	for _, n := range c.nodes {
		api := n.verifier()
		p, lives, err := api.Principal(t.Context(), access)
		if err != nil || p.ID != "issuer:corp/alice" || !p.HasRole("clerk") || !lives() {
			t.Errorf("at the API: %+v, %v", p, err)
		}
	}
	if status, _ := c.userinfo(access); status != http.StatusUnauthorized {
		t.Errorf("userinfo takes the terminal's token: %d", status)
	}
	alice.outlives(t, refresh)
}

// outlives checks that what a terminal has does not depend on the browser that has let it in, and ends with its own session.
func (b *browser) outlives(t *testing.T, refresh string) {
	t.Helper()
	c := b.c
	form := func() url.Values {
		return url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}, "client_id": {"quorumhub-terminal"}}
	}
	status, got, _ := c.token("/oidc/token", form())
	if status != http.StatusOK {
		t.Fatalf("refresh: %d %v", status, got)
	}
	refresh, _ = got["refresh_token"].(string)
	access, _ := got["access_token"].(string)

	// The browser's logout leaves the terminal alone, whose session is one of its own.
	if _, page := b.post("/oidc/end_session", url.Values{"confirm": {"yes"}}); strings.Contains(page, "Log out") {
		t.Fatal(page)
	}
	if status, got, _ = c.token("/oidc/token", form()); status != http.StatusOK {
		t.Fatalf("refresh after the browser's logout: %d %v", status, got)
	}
	refresh, _ = got["refresh_token"].(string)
	if said := strings.Join(c.audited, "\n"); !strings.Contains(said, "issuer:corp/alice terminal.allow [from laptop<b>, from 192.0.2.1]") || !strings.Contains(said, "logout") {
		t.Errorf("the audit log says\n%s", said)
	}
	var mine []hub.Session
	c.settle()
	c.nodes[1].View(func(s *hub.State) {
		mine, _, _ = s.Sessions(hub.SessionFilter{Principal: "issuer:corp/alice"}, hub.SessionID{}, 0)
	})
	if len(mine) != 1 || mine[0].Client != "quorumhub login on laptop<b>" {
		t.Fatalf("got %+v", mine)
	}
	if err := (sessions{c.nodes[2]}).End(t.Context(), mine[0].Principal, mine[0].ID); err != nil {
		t.Fatal(err)
	}
	if status, got, _ = c.token("/oidc/token", form()); got["error"] != "invalid_grant" {
		t.Errorf("refresh after its session has ended: %d %v", status, got)
	}
	c.settle()
	api := c.nodes[0].verifier()
	if _, _, err := api.Principal(t.Context(), access); err == nil {
		t.Error("the API takes a token whose session has ended")
	}

	alice := c.login("alice")
	term := c.terminal(nil)
	alice.decide(term.Code, "allow")
	_, got = term.poll()
	if status, _, _ := c.token("/oidc/revoke", url.Values{"token": {got["refresh_token"].(string)}, "client_id": {"quorumhub-terminal"}}); status != http.StatusOK {
		t.Errorf("revoke: %d", status)
	}
	c.settle()
	c.nodes[1].View(func(s *hub.State) {
		mine, _, _ = s.Sessions(hub.SessionFilter{Principal: "issuer:corp/alice"}, hub.SessionID{}, 0)
	})
	if len(mine) != 1 || mine[0].Client != "a browser" {
		t.Errorf("after quorumhub logout: %+v", mine)
	}
}

// Whatever else happens to a device code, it becomes no token.
func TestATerminalIsNotLetIn(t *testing.T) {
	c := newCluster(t)
	alice := c.login("alice")

	denied := c.terminal(nil)
	if status, page := alice.decide(denied.Code, "deny"); status != http.StatusOK || !strings.Contains(page, "Denied") {
		t.Errorf("deny: %d %s", status, page)
	}
	denied.wants("access_denied")

	late := c.terminal(nil)
	c.pass(9*time.Minute + 58*time.Second)
	if _, _, page := alice.visit(late.Page); !strings.Contains(page, late.Code) {
		t.Errorf("in time: %s", page)
	}
	c.pass(5 * time.Second)
	if status, _ := alice.decide(late.Code, "allow"); status != http.StatusNotFound {
		t.Errorf("too late: %d", status)
	}
	late.wants("expired_token")

	hasty := c.terminal(nil)
	hasty.wants("authorization_pending")
	slow := 0
	for range 6 { // each node counts for itself
		if _, got := hasty.ask(); got["error"] == "slow_down" {
			slow++
		}
	}
	if slow < 3 {
		t.Errorf("%d of 6 polls at once were told to slow down", slow)
	}

	twice := c.terminal(nil)
	alice.decide(twice.Code, "allow")
	if status, _ := twice.poll(); status != http.StatusOK {
		t.Fatal("not let in")
	}
	twice.wants("invalid_grant") // somebody has copied the code

	guessed := *hasty
	guessed.Device = strings.Repeat("A", 43)
	guessed.wants("invalid_grant")
	if status, got, _ := c.token("/oidc/token", url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "device_code": {hasty.Device}}, "shop", shopSecret); status != http.StatusBadRequest || got["error"] != "unauthorized_client" {
		t.Errorf("by an application: %d %v", status, got)
	}
	for name, form := range map[string]url.Values{"another client": {"client_id": {"shop"}}, "an unknown provider": {"idp": {"nobody"}}, "twice": {"host": {"a", "b"}}} {
		if status, got, _ := c.plain("/v1/auth/device", form); status != http.StatusBadRequest {
			t.Errorf("%s: %d %v", name, status, got)
		}
	}
	for _, decision := range []string{"perhaps", "ALLOW"} {
		if status, _ := alice.decide(hasty.Code, decision); status != http.StatusBadRequest {
			t.Errorf("decision %q: %d", decision, status)
		}
	}
}

// User codes cannot be guessed: wrong ones are counted, for a client and for a principal. Nor can one network take the places of others.
func TestUserCodesCannotBeGuessed(t *testing.T) {
	c := newCluster(t)
	alice := c.login("alice")
	term := c.terminal(nil)
	refused := 0
	for range 3 * 12 { // each node counts for itself
		if status, _ := alice.decide("BBBB-CCCC", "allow"); status == http.StatusTooManyRequests {
			refused++
		}
	}
	if refused < 3 {
		t.Errorf("%d of 36 wrong codes were refused unseen", refused)
	}
	if why := c.logged(); !strings.Contains(why, "issuer:corp/alice") {
		t.Errorf("the log says %q", why)
	}
	bob := c.login("bob")
	c.mu.Lock()
	c.budget = 2
	c.mu.Unlock()
	for i := range 3 {
		if status, _ := bob.decide("BBBB-CCCC", "allow"); (status == http.StatusTooManyRequests) != (i == 2) {
			t.Errorf("wrong code %d of a client: %d", i+1, status)
		}
	}
	c.mu.Lock()
	c.budget = 1000
	c.mu.Unlock()
	for _, typed := range []string{"", "B", "AAAA-AAAA", "BCDF-GHJ1", strings.Repeat("B", 300), "BCDFGHJK\u0000", "<script>"} {
		if _, page := bob.decide(typed, "allow"); !strings.Contains(page, "no code of a terminal") || typed != "" && len(typed) > 1 && strings.Contains(page, typed) {
			t.Errorf("typed %q: %s", typed, page)
		}
	}
	term.wants("authorization_pending")
	for range hub.MaxNetworkDevices - 1 {
		c.terminal(nil)
	}
	if status, got, h := c.plain("/v1/auth/device", nil); status != http.StatusTooManyRequests || h.Get("Retry-After") == "" {
		t.Errorf("one more of a network: %d %v", status, got)
	}
}
