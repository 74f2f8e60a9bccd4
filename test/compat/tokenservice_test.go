package compat_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"quorumhub/test/hubtest"
)

// authmanager imitates MOSIP's authmanager for tokens that a test makes up.
type authmanager struct {
	server *httptest.Server

	mu    sync.Mutex
	users map[string][2]string // token to userId and role
	asked map[string]int
	down  bool
}

func newAuthmanager(t *testing.T) *authmanager {
	t.Helper()
	m := &authmanager{users: map[string][2]string{}, asked: map[string]int{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/authmanager/authorize/admin/validateToken", func(w http.ResponseWriter, r *http.Request) {
		token := strings.TrimPrefix(r.Header.Get("Cookie"), "Authorization=")
		if token == "slow" {
			<-r.Context().Done()
			return
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.asked[token]++
		if m.down {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		switch token {
		case "lie":
			fmt.Fprint(w, `{"response":{"userId":"u","role":"PUBLISH_CREDENTIAL_ISSUED_ALL_INDIVIDUAL"},"errors":[{"errorCode":"KER-ATH-402","message":"Token expired"}]}`)
			return
		case "big":
			fmt.Fprintf(w, `{"response":{"userId":"u","role":"PUBLISH_CREDENTIAL_ISSUED_ALL_INDIVIDUAL,%s"}}`, strings.Repeat("A,", 64<<10))
			return
		}
		user, ok := m.users[token]
		if !ok {
			fmt.Fprint(w, `{"id":null,"version":null,"response":null,"errors":[{"errorCode":"KER-ATH-401","message":"Authentication Failed"}]}`)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"response": map[string]any{"userId": user[0], "role": user[1], "token": token}, "errors": nil})
	})
	m.server = httptest.NewServer(mux)
	t.Cleanup(m.server.Close)
	return m
}

func (m *authmanager) url() string { return m.server.URL + "/v1/authmanager" }

// grant creates a token, or removes it if roles is empty.
func (m *authmanager) grant(token, user, roles string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if roles == "" {
		delete(m.users, token)
		return
	}
	m.users[token] = [2]string{user, roles}
}

func (m *authmanager) setDown(down bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = down
}

func (m *authmanager) questions(token string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.asked[token]
}

// remoteMOSIP returns the settings of a hub that asks an authmanager, with the sample's rules.
// viewerKey is an API key of somebody who may read the hub's state, see viewer.
const viewerKey = "qhk_0123456789ab_secret"

// viewer returns the lines of auth.file that make viewerKey valid. They follow the list of rules.
func viewer() string {
	sum := sha256.Sum256([]byte("secret"))
	return fmt.Sprintf("\n  - {name: view, may: [admin.view], who: [{role: viewer}]}\napi_keys: [{id: '0123456789ab', name: viewer, sha256: '%x', roles: [viewer]}]\n", sum)
}

func remoteMOSIP(t *testing.T, base, more string) hubtest.Settings {
	t.Helper()
	root, err := hubtest.Root()
	if err != nil {
		t.Fatal(err)
	}
	sample, err := os.ReadFile(filepath.Join(root, "configs", "mosip-authmanager.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	_, rules, ok := strings.Cut(string(sample), "\nrules:\n")
	if !ok {
		t.Fatal("the sample has no rules")
	}
	path := filepath.Join(t.TempDir(), "auth.yaml")
	text := fmt.Sprintf("token_service: {name: authmanager, url: %q%s}\nrules:\n%s", base, more, rules) + viewer()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return hubtest.Settings{"hub.profile": "mosip", "hub.compact_json": true, "topics.auto_register": nil, "hub.lease.default": "24h",
		"auth.mode": "required", "auth.file": path, "auth.egress.mode": "dev-loopback"}
}

// MOSIP's services with tokens that only its authmanager understands: the roles of the print flow, who may
// subscribe to which topic, what is cached and for how long, and that nobody new gets in while the
// authmanager is down.
func TestMOSIPTokensOfAuthmanager(t *testing.T) {
	m := newAuthmanager(t)
	m.grant("creator", creator, "PUBLISH_CREDENTIAL_ISSUED_ALL_INDIVIDUAL")
	m.grant("printer", printUser, "SUBSCRIBE_CREDENTIAL_ISSUED_INDIVIDUAL,PUBLISH_CREDENTIAL_STATUS_UPDATE_GENERAL")
	m.grant("bare", "mpartner-default-print", "SUBSCRIBE_CREDENTIAL_ISSUED_INDIVIDUAL")
	m.grant("other", "service-account-other", "SUBSCRIBE_CREDENTIAL_ISSUED_INDIVIDUAL")
	h := &compatHub{t: t, Node: hubtest.Start(t, hubtest.Options{Settings: remoteMOSIP(t, m.url(), ", cache: 10m, refused_cache: 1ms, timeout: 2s")})}
	register := "hub.mode=register&hub.topic=" + url.QueryEscape(printTopic)
	h.exchange("creator", "POST", "/hub/", formType, register, 200, accepted)
	h.exchange("printer", "POST", "/hub/", formType, register, 200, denied("Publisher is not authorized"))
	sub := hubtest.NewSubscriber(t)
	subscribe := "hub.mode=subscribe&hub.topic=" + url.QueryEscape(printTopic) + "&hub.callback=" + url.QueryEscape(sub.Callback("/cb")) + "&hub.secret=Kslk30SNF2AChs2"
	h.exchange("other", "POST", "/hub/", formType, subscribe, 500, denied("Subscriber is not authorized"))
	h.exchange("printer", "POST", "/hub/", formType, subscribe, 202, accepted)
	h.exchange("bare", "POST", "/hub/", formType, subscribe, 202, accepted)
	sub.WaitIntent(t, "subscribe", 1)
	publish := "/hub/?hub.mode=publish&hub.topic=" + printTopic
	for range 5 {
		h.exchange("creator", "POST", publish, "application/json", credential, 200, accepted)
	}
	if n := m.questions("creator"); n != 1 {
		t.Errorf("asked %d times about one token, want once", n)
	}
	if n := m.questions(""); n != 1 {
		t.Errorf("asked %d times at startup, want once", n)
	}

	// An invalid token gets 401, upon which MOSIP's client fetches a new one. No token at all gets
	// hub.mode=denied, as in MOSIP's hub.
	bad := func(cookie string, want int) {
		t.Helper()
		reply := h.Do(t, "POST", publish, hubtest.Headers("Content-Type", "application/json", "Cookie", cookie), []byte(`{}`))
		if reply.Status != want || strings.Contains(string(reply.Body), "KER-ATH") {
			t.Errorf("%s: %s, want %d without the reason", cookie, reply, want)
		}
	}
	bad("Authorization=nobody", 401)
	bad("session=1;Authorization=nobody", 401)
	bad("session=1", 200)
	bad("Authorization=lie", 401)
	bad("Authorization=big", 503)
	bad("Authorization=slow", 503)
	expired := newIssuer(t).expired(creator, "PUBLISH_CREDENTIAL_ISSUED_ALL_INDIVIDUAL")
	m.grant(expired, creator, "PUBLISH_CREDENTIAL_ISSUED_ALL_INDIVIDUAL")
	bad("Authorization="+expired, 401)
	if n := m.questions(expired); n != 0 {
		t.Errorf("asked %d times about a token whose own exp has passed, want never", n)
	}
	for _, cookie := range []string{"session=1;Authorization=creator", "session=1 ;   Authorization=creator ; x=y", "a=b;; Authorization=creator;"} {
		if got := raw(t, h.Node, post(publish, credential, "Content-Type: application/json", "Cookie: "+cookie)); got != okLine+asForm+accepted {
			t.Errorf("%s: %s", cookie, got)
		}
	}

	// A revoked token remains valid on this node until its cached answer expires.
	m.grant("creator", "", "")
	h.exchange("creator", "POST", publish, "application/json", credential, 200, accepted)

	// While the authmanager is down, cached tokens still work; all others get 503 and publish nothing.
	m.setDown(true)
	h.exchange("creator", "POST", publish, "application/json", credential, 200, accepted)
	bad("Authorization=new", 503)
	bad("Authorization=nobody", 503)
	var ready struct{ Warnings []string }
	if err := json.Unmarshal(h.Do(t, "GET", "/health/ready", hubtest.Headers("X-API-Key", viewerKey), nil).Body, &ready); err != nil ||
		len(ready.Warnings) == 0 || !strings.Contains(ready.Warnings[0], "authmanager") {
		t.Errorf("/health/ready warns of %q", ready.Warnings)
	}
	m.setDown(false)
	m.grant("new", creator, "PUBLISH_CREDENTIAL_ISSUED_ALL_INDIVIDUAL")
	h.exchange("new", "POST", publish, "application/json", credential, 200, accepted)
	sub.WaitDeliveries(t, 11)
}

// A hub whose token service or issuer is unreachable says so in check and at startup, and admits nobody.
func TestWhoVouchesIsNotThere(t *testing.T) {
	m := newAuthmanager(t)
	m.setDown(true)
	is := newIssuer(t)
	is.server.Close()
	for name, settings := range map[string]hubtest.Settings{
		"token service": remoteMOSIP(t, m.url(), ""),
		"issuer": {"hub.profile": "ballerina", "topics.auto_register": nil, "auth.mode": "required", "auth.egress.mode": "dev-loopback",
			"auth.file": settingsFile(t, is, "", ballerinaRules)},
	} {
		t.Run(name, func(t *testing.T) {
			n, err := hubtest.PrepareNode(hubtest.Options{Settings: settings, Dir: t.TempDir(), Binary: hubtest.Binary(t)})
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(n.ConfigPath, []byte(n.Settings.YAML()), 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.CommandContext(t.Context(), hubtest.Binary(t), "check", "--config", n.ConfigPath).CombinedOutput()
			if err != nil || !strings.Contains(string(out), "warning: "+name) || !strings.Contains(string(out), "503") {
				t.Errorf("check: %v %s", err, out)
			}
			start := exec.CommandContext(t.Context(), hubtest.Binary(t), "serve", "--config", n.ConfigPath)
			var said strings.Builder
			start.Stderr = &said
			if err := start.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = start.Process.Kill(); _ = start.Wait() })
			hubtest.Eventually(t, "not ready for this reason alone", func() error {
				reply, err := n.Send("GET", "/health/ready", hubtest.Headers("X-API-Key", viewerKey), nil)
				if err != nil {
					return err
				}
				var body struct{ Reasons []string }
				if json.Unmarshal(reply.Body, &body) != nil || reply.Status != 503 || len(body.Reasons) != 1 || !strings.Contains(body.Reasons[0], name) {
					return fmt.Errorf("%s", reply)
				}
				return nil
			})
			if reply := n.Do(t, "GET", "/health/ready", nil, nil); reply.Status != 503 || strings.Contains(string(reply.Body), name) {
				t.Errorf("/health/ready tells anybody %s", reply)
			}
			header := hubtest.Headers("Content-Type", formType, "Cookie", "Authorization=x.y.z")
			if name == "issuer" {
				header = hubtest.Headers("Content-Type", formType, "Authorization", "Bearer "+is.token("u", "register_topic"))
			}
			if reply := n.Do(t, "POST", "/hub", header, []byte("hub.mode=register&hub.topic=T")); reply.Status != 503 {
				t.Errorf("POST /hub: %s, want 503", reply)
			}
			if reply := n.Do(t, "GET", "/v1/topics", header, nil); reply.Status != 503 {
				t.Errorf("GET /v1/topics: %s, want 503", reply)
			}
			if reply := n.Do(t, "GET", "/v1/topics", nil, nil); reply.Status != 401 {
				t.Errorf("GET /v1/topics without credentials: %s, want 401", reply)
			}
		})
	}
}

// An invalid rules file keeps the hub from starting, and check says what is wrong where.
func TestBrokenRulesDoNotStart(t *testing.T) {
	for name, text := range map[string]string{
		"no YAML":      "rules: [",
		"unknown key":  "rulez: []",
		"nobody":       `rules: [{name: r, may: [publish], topics: ["**"]}]`,
		"no topics":    `rules: [{name: r, may: [publish], who: [{scope: x}]}]`,
		"unbound name": `rules: [{name: r, may: [publish], topics: ["{t}"], who: [{role: "PUBLISH_{topic}"}]}]`,
	} {
		path := filepath.Join(t.TempDir(), "auth.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		n, err := hubtest.PrepareNode(hubtest.Options{Dir: t.TempDir(), Binary: hubtest.Binary(t), Settings: hubtest.Settings{
			"auth.mode": "required", "auth.file": path}})
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Run(); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: serve: %v, want an error that names the file", name, err)
		}
		out, err := exec.CommandContext(t.Context(), hubtest.Binary(t), "check", "--config", n.ConfigPath).CombinedOutput()
		if err == nil || !strings.Contains(string(out), path) {
			t.Errorf("%s: check: %v %s, want an error that names the file", name, err, out)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
}
