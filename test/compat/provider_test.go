package compat_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"quorumhub/test/chaos"
	"quorumhub/test/hubtest"
)

// provider is a real OpenID provider in a child process.
type provider struct {
	issuer string
}

// startProvider starts a provider that ends with the test.
func startProvider(t *testing.T, cmd *exec.Cmd) *provider {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close() // makes the provider exit
		late := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		defer late.Stop()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the provider did not start: %v: %s", err, said.String())
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	return &provider{strings.TrimSpace(line)}
}

func oidcDir(t *testing.T) string {
	t.Helper()
	root, err := hubtest.Root()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(root, "test", "oidc")
}

// unavailable skips the test because a program is missing, or fails it with CI=true.
func unavailable(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// zitadel starts the provider in test/oidc with these clients, in the form its -clients flag takes.
func zitadel(t *testing.T, clients map[string]any) *provider {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "oidc")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".")
	build.Dir = oidcDir(t)
	if out, err := build.CombinedOutput(); err != nil {
		unavailable(t, "test/oidc does not build: "+string(out))
	}
	text, err := json.Marshal(clients)
	if err != nil {
		t.Fatal(err)
	}
	return startProvider(t, exec.Command(binary, "-clients", string(text)))
}

// nodeProvider starts the provider from npm with one client.
func nodeProvider(t *testing.T, client, secret, audience, scopes string) *provider {
	t.Helper()
	dir := oidcDir(t)
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "oidc-provider")); err != nil {
		unavailable(t, "the npm package oidc-provider is not installed (make deps)")
	}
	cmd := exec.Command("node", "provider.mjs", client, secret, audience, scopes)
	cmd.Dir = dir
	return startProvider(t, cmd)
}

// token fetches an access token with client credentials from the endpoint found by discovery.
func (p *provider) token(t *testing.T, client, secret, scope string) string {
	t.Helper()
	var found struct {
		TokenEndpoint string `json:"token_endpoint"`
	}
	read := func(resp *http.Response, err error, into any) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK || json.Unmarshal(body, into) != nil {
			t.Fatalf("unexpected response from the provider: %s %s (%v)", resp.Status, body, err)
		}
	}
	resp, err := http.Get(p.issuer + "/.well-known/openid-configuration")
	read(resp, err, &found)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, found.TokenEndpoint,
		strings.NewReader(url.Values{"grant_type": {"client_credentials"}, "scope": {scope}}.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", formType)
	req.SetBasicAuth(client, secret)
	var granted struct {
		AccessToken string `json:"access_token"`
	}
	resp, err = http.DefaultClient.Do(req)
	read(resp, err, &granted)
	return granted.AccessToken
}

// Tokens issued by two independent providers, one with typ JWT and one following RFC 9068. Discovery finds
// their keys.
func TestTokensOfRealProviders(t *testing.T) {
	first := zitadel(t, map[string]any{"writer": map[string]any{"secret": "s1", "audience": "hub", "scopes": []string{"orders.write"}},
		"elsewhere": map[string]any{"secret": "s2", "audience": "bank", "scopes": []string{"orders.write"}}})
	second := nodeProvider(t, "reader", "s3", "urn:hub", "orders.read orders.write")
	path := filepath.Join(t.TempDir(), "auth.yaml")
	if err := os.WriteFile(path, []byte(`
issuers:
  - {name: first, issuer: "`+first.issuer+`", audiences: [hub], typ: any}
  - {name: second, issuer: "`+second.issuer+`", audiences: ["urn:hub"]}
rules:
  - {name: write, may: [publish, topic.register], topics: ["orders/*"], who: [{scope: orders.write, issuer: first}]}
  - {name: read, may: [read], topics: ["orders/*"], who: [{scope: orders.read, issuer: second}]}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	n := hubtest.Start(t, hubtest.Options{Settings: hubtest.Settings{"auth.mode": "required", "auth.file": path, "auth.egress.mode": "dev-loopback"}})
	writer, reader := first.token(t, "writer", "s1", "orders.write"), second.token(t, "reader", "s3", "orders.read")
	do := func(token, method, target, body string) int {
		return n.Do(t, method, target, hubtest.Headers("Authorization", "Bearer "+token), []byte(body)).Status
	}
	parts := strings.Split(writer, ".")
	for name, c := range map[string]struct{ got, want int }{
		"publish":                                     {do(writer, "POST", "/topics/orders/1", "x"), 200},
		"read":                                        {do(reader, "GET", "/topics/orders/1", ""), 200},
		"publish with the reader's token":             {do(reader, "POST", "/topics/orders/1", "x"), 403},
		"the right scope of the wrong issuer":         {do(second.token(t, "reader", "s3", "orders.write"), "POST", "/topics/orders/1", "x"), 403},
		"the right client without the scope":          {do(first.token(t, "writer", "s1", "other"), "POST", "/topics/orders/1", "x"), 403},
		"a token for another service":                 {do(first.token(t, "elsewhere", "s2", "orders.write"), "POST", "/topics/orders/1", "x"), 401},
		"the signature of another token":              {do(parts[0]+"."+parts[1]+"."+strings.Split(reader, ".")[2], "POST", "/topics/orders/1", "x"), 401},
		"the claims of one issuer, signed by another": {do(strings.Split(reader, ".")[0]+"."+parts[1]+"."+strings.Split(reader, ".")[2], "POST", "/topics/orders/1", "x"), 401},
		"no token":                                    {n.Do(t, "POST", "/topics/orders/1", nil, []byte("x")).Status, 401},
	} {
		if c.got != c.want {
			t.Errorf("%s: %d, want %d", name, c.got, c.want)
		}
	}
}

// MOSIP's print flow as its services run it, with tokens of a real provider on three nodes, one of which is
// killed midway: register, subscription by the partner's service account, publish, signed delivery, status
// report.
func TestMOSIPPrintFlowOnThreeNodes(t *testing.T) {
	idp := zitadel(t, map[string]any{
		"mosip-creser-client": map[string]any{"secret": "c", "audience": "account", "roles": []string{"PUBLISH_CREDENTIAL_ISSUED_ALL_INDIVIDUAL"}},
		"mpartner-default-print": map[string]any{"secret": "p", "audience": "account",
			"roles": []string{"SUBSCRIBE_CREDENTIAL_ISSUED_INDIVIDUAL", "PUBLISH_CREDENTIAL_STATUS_UPDATE_GENERAL"}},
		"mosip-crereq-client": map[string]any{"secret": "r", "audience": "account", "roles": []string{"SUBSCRIBE_CREDENTIAL_STATUS_UPDATE_GENERAL"}}})
	path := filepath.Join(t.TempDir(), "auth.yaml")
	if err := os.WriteFile(path, []byte("issuers: [{name: keycloak, issuer: \""+idp.issuer+"\", audiences: [account], typ: any, cookie: Authorization, claims: {user: [/preferred_username]}}]\n"+mosipRules), 0o600); err != nil {
		t.Fatal(err)
	}
	sites, err := chaos.FreeSites(3)
	if err != nil {
		t.Fatal(err)
	}
	cluster := chaos.PrepareCluster(t, sites, hubtest.Settings{"hub.profile": "mosip", "hub.compact_json": true, "hub.lease.default": "24h",
		"topics.auto_register": nil, "auth.mode": "required", "auth.file": path, "auth.egress.mode": "dev-loopback"})
	cluster.Start(t)
	nodes := cluster.Nodes
	creator, printer, requester := idp.token(t, "mosip-creser-client", "c", ""), idp.token(t, "mpartner-default-print", "p", ""), idp.token(t, "mosip-crereq-client", "r", "")

	// send tries one node after another until one answers, as a load balancer would.
	send := func(token, target, contentType, body string, status int, want string) {
		t.Helper()
		hubtest.Eventually(t, target+" "+body, func() error {
			var reply *hubtest.Reply
			var err error
			for _, n := range nodes {
				header := hubtest.Headers("Content-Type", contentType, "Cookie", "Authorization="+token)
				if reply, err = n.Send("POST", target, header, strings.NewReader(body)); err == nil && reply.Status != 503 {
					break
				}
			}
			if err != nil {
				return err
			}
			if reply.Status == 503 {
				return &url.Error{Op: "POST", URL: target, Err: io.ErrNoProgress}
			}
			if reply.Status != status || string(reply.Body) != want {
				t.Fatalf("%s %s: %s, want %d %q", target, body, reply, status, want)
			}
			return nil
		})
	}
	confirm := func(r hubtest.Request) hubtest.Answer {
		return hubtest.Answer{Status: 202, Body: []byte(r.Value("hub.challenge"))}
	}
	printService, requestService := hubtest.NewSubscriber(t), hubtest.NewSubscriber(t)
	printService.OnIntent(confirm)
	requestService.OnIntent(confirm)
	subscribe := func(token, topic, callback, secret string) {
		t.Helper()
		send(token, "/hub/", formType, "hub.mode=subscribe&hub.topic="+url.QueryEscape(topic)+"&hub.callback="+url.QueryEscape(callback)+"&hub.secret="+secret, 202, accepted)
	}
	send(creator, "/hub/", formType, "hub.mode=register&hub.topic="+url.QueryEscape(printTopic), 200, accepted)
	subscribe(printer, printTopic, printService.Callback("/v1/print/print/callback/notifyPrint"), "Kslk30SNF2AChs2")
	subscribe(requester, "CREDENTIAL_STATUS_UPDATE", requestService.Callback("/v1/credentialrequest/callback/notifyStatus"), "test")
	printService.WaitIntent(t, "subscribe", 1)
	requestService.WaitIntent(t, "subscribe", 1)
	issued, status := "/hub/?hub.mode=publish&hub.topic="+printTopic, "/hub/?hub.mode=publish&hub.topic=CREDENTIAL_STATUS_UPDATE"
	send(creator, issued, "application/json", credential, 200, accepted)
	printService.WaitDeliveries(t, 1)
	send(printer, status, "application/json", `{"event":{"status":"printing"}}`, 200, accepted)
	requestService.WaitDeliveries(t, 1)

	nodes[0].Kill(t)
	send(creator, issued, "application/json", strings.Replace(credential, "0b1f8a44", "0b1f8a45", 1), 200, accepted)
	second := printService.WaitFor(t, 1, "the credential after the kill", func(r hubtest.Request) bool { return strings.Contains(string(r.Body), "0b1f8a45") })[0]
	if s := second.Header.Get("X-Hub-Signature"); s != hubtest.Sign("sha256", "Kslk30SNF2AChs2", second.Body) {
		t.Errorf("X-Hub-Signature %s is invalid", s)
	}
	send(printer, status, "application/json", `{"event":{"status":"printed"}}`, 200, accepted)
	requestService.WaitBody(t, `{"event":{"status":"printed"}}`)
}
