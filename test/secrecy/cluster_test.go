package secrecy_test

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"quorumhub/test/hubtest"
)

// Secrets of all kinds pass through a cluster of three nodes that logs as much as it can. None of them appears in a
// log, an answer, a file, a backup, a metric, or in what a joining node receives.
func TestPlantedSecretsShowNowhereI10(t *testing.T) {
	r := newRun(t)
	r.subscribeWithSecrets()
	r.sendRefusedSubscriptions()
	r.deliverAndRenew()
	r.presentCredentials()
	r.signRequests()
	r.createAPIKey()
	keyFile := r.rotateSealingKey()
	r.forceSnapshotAndDeadLetter()
	r.readAPI()
	r.runCommands()
	r.joinNode(keyFile)

	r.searchAnswers()
	r.nodes[2].Kill(t) // so that the search covers what a crash leaves behind
	for _, n := range r.nodes {
		if n.Running() {
			n.Stop(t)
		}
		r.search("log of "+filepath.Base(n.Dir), []byte(n.Log()))
		r.searchFiles(n.DataDir)
	}
	r.wantExemptSecretFound()
}

// run is one pass of all kinds of secrets through the cluster. Requests go to its first node.
type run struct {
	*planted
	n        *hubtest.Node
	operator http.Header
	topic    string
	sub      *hubtest.Subscriber // of topic
	events   *hubtest.Subscriber // of hub.events
	plain    string              // the hub.secret of sub's /plain
	renewed  string              // the hub.secret of sub's /renewed after its renewal
	query    string              // a secret in the query of callbacks
	answers  map[string][]byte   // everything the hub and its commands answered, searched at the end
}

// callbackQuery names the one secret that may show: in the API, in hub.events and in files, as it is part of the callback's
// URL.
const callbackQuery = "query of a callback"

func newRun(t *testing.T) *run {
	t.Helper()
	p := plant(t)
	return &run{
		planted: p, n: p.nodes[0], operator: hubtest.Headers("X-API-Key", p.root), topic: p.nodes[0].TopicURL("news"),
		sub: hubtest.NewSubscriber(t), events: hubtest.NewSubscriber(t), query: p.secret(callbackQuery), answers: map[string][]byte{},
	}
}

// form posts a form as the operator and searches the answer.
func (r *run) form(params ...string) *hubtest.Reply {
	r.t.Helper()
	reply := r.n.Do(r.t, "POST", "/hub", r.typed(hubtest.FormType), []byte(hubtest.Form(params...)))
	r.search("answer to a form", reply.Body)
	return reply
}

// typed returns the operator's header with a content type.
func (r *run) typed(contentType string) http.Header {
	h := r.operator.Clone()
	h.Set("Content-Type", contentType)
	return h
}

func (r *run) subscribe(callback, secret string, more ...string) {
	r.t.Helper()
	params := append([]string{"hub.mode", "subscribe", "hub.topic", r.topic, "hub.callback", callback, "hub.secret", secret}, more...)
	if reply := r.form(params...); reply.Status != http.StatusAccepted {
		r.t.Fatalf("subscribe: %v", reply)
	}
}

func (r *run) publish(body string) {
	r.t.Helper()
	if reply := r.n.Do(r.t, "POST", hubtest.PublishTarget(r.topic), r.typed("text/plain"), []byte(body)); reply.Status != 200 {
		r.t.Fatalf("publish: %v", reply)
	}
}

// wait waits until holds returns true.
func (r *run) wait(what string, holds func() bool) {
	r.t.Helper()
	hubtest.Eventually(r.t, what, func() error {
		if !holds() {
			return errors.New("not yet")
		}
		return nil
	})
}

// delivered reports whether sub received this body at path, signed with secret.
func (r *run) delivered(path, body, secret string) bool {
	return slices.ContainsFunc(r.sub.Deliveries(), func(d hubtest.Request) bool {
		return d.Path() == path && string(d.Body) == body && d.SignedBy(secret)
	})
}

// subscribeWithSecrets creates subscriptions with secrets that are active, in Standard Webhooks form, about to be replaced,
// failing, gone and pending, and with a secret in the callback's query.
func (r *run) subscribeWithSecrets() {
	r.t.Helper()
	r.plain, r.renewed = r.secret("hub.secret"), r.secret("renewed hub.secret")
	hook := make([]byte, 32)
	copy(hook, r.secret("key of a whsec_ secret"))
	r.secrets["key of a whsec_ secret"] = hook
	whsec := "whsec_" + base64.StdEncoding.EncodeToString(hook)
	token := hubtest.Form("token", r.query)
	r.setCallbackCredentials()
	r.setRegistry()
	r.subscribe(r.sub.Callback("/plain"), r.plain, "hub.header.X-Api-Key", r.secret("header of a subscriber"))
	r.subscribe(r.sub.Callback("/whsec"), whsec, "hub.signature_scheme", "standard-webhooks")
	r.subscribe(r.sub.Callback("/renewed"), r.secret("replaced hub.secret"), "hub.signature_scheme", "standard-webhooks")
	r.subscribe(r.sub.Callback("/query?"+token), r.plain)
	failing := hubtest.NewSubscriber(r.t).OnDelivery(hubtest.Answers(hubtest.Status(500)))
	r.subscribe(failing.Callback("/cb?"+token), r.secret("hub.secret of a failing callback"))
	gone := hubtest.NewSubscriber(r.t).OnDelivery(hubtest.Answers(hubtest.Status(410)))
	r.subscribe(gone.Callback("/cb?"+token), r.secret("hub.secret of a callback that is gone"))
	hang := hubtest.NewSubscriber(r.t).OnIntent(func(hubtest.Request) hubtest.Answer { return hubtest.Answer{Hang: true} })
	r.subscribe(hang.Callback("/cb?"+token), r.secret("hub.secret of a callback that never confirms"))
	r.form("hub.mode", "subscribe", "hub.topic", r.n.TopicURL("hub.events"), "hub.callback", r.events.Callback("/"),
		"hub.secret", r.secret("hub.secret for hub.events"))
	r.wait("the verification of all subscriptions", func() bool {
		return len(r.sub.Intents("subscribe")) >= 4 && len(failing.Intents("")) > 0 && len(gone.Intents("")) > 0
	})
}

// setCallbackCredentials sets what callbacks demand, as operators do, once the cluster has agreed on its feature level.
func (r *run) setCallbackCredentials() {
	r.t.Helper()
	set := func(callback string, credentials map[string]any) *hubtest.Reply {
		credentials["callback"] = callback
		body, err := json.Marshal(credentials)
		if err != nil {
			r.t.Fatal(err)
		}
		reply := r.n.Do(r.t, "PUT", "/v1/callback-credentials", r.typed("application/json"), body)
		r.search("answer to credentials", reply.Body)
		return reply
	}
	basic := map[string]any{"headers": map[string]string{"X-Key": r.secret("header of an operator")},
		"basic": map[string]string{"user": "u", "password": r.secret("password for a callback")}}
	r.wait("credentials are set", func() bool { return set(strings.TrimPrefix(r.sub.URL, "http://"), basic).Status == 200 })
	r.wait("credentials of a client are set", func() bool {
		return set("other.example", map[string]any{"oauth2": map[string]string{"token_url": "https://idp.example/t", "client_id": "c",
			"client_secret": r.secret("client secret")}}).Status == 200
	})
	if reply := set("third.example", map[string]any{"bearer": "x\n" + r.secret("malformed token for a callback")}); reply.Status != 400 {
		r.t.Errorf("malformed credentials: %v", reply)
	}
}

// sendRefusedSubscriptions sends secrets in requests that the hub refuses.
func (r *run) sendRefusedSubscriptions() {
	r.t.Helper()
	for what, more := range map[string][]string{
		"user and password in a callback": {"hub.callback", "http://user:" + r.secret("password in a callback") + "@127.0.0.1:1/"},
		"invalid callback":                {"hub.callback", "ftp://x/", "hub.secret", r.secret("hub.secret of a bad request")},
		"secret that is too long":         {"hub.callback", r.sub.Callback("/"), "hub.secret", strings.Repeat(r.secret("long hub.secret"), 10)},
		"unknown signature scheme":        {"hub.callback", r.sub.Callback("/"), "hub.secret", r.secret("hub.secret with a bad scheme"), "hub.signature_scheme", "x"},
		"header that is the hub's":        {"hub.callback", r.sub.Callback("/"), "hub.header.Host", r.secret("refused header")},
		"invalid whsec_ key":              {"hub.callback", r.sub.Callback("/"), "hub.secret", "whsec_" + r.secret("bad whsec_"), "hub.signature_scheme", "standard-webhooks"},
	} {
		if reply := r.form(append([]string{"hub.mode", "subscribe", "hub.topic", r.topic}, more...)...); reply.Status/100 != 4 {
			r.t.Errorf("%s: %v", what, reply)
		}
	}
}

// deliverAndRenew publishes, and replaces a secret.
func (r *run) deliverAndRenew() {
	r.t.Helper()
	r.publish("one")
	r.wait("a signed delivery", func() bool { return r.delivered("/plain", "one", r.plain) })
	r.subscribe(r.sub.Callback("/renewed"), r.renewed, "hub.signature_scheme", "standard-webhooks")
	r.wait("a delivery signed with the renewed secret", func() bool {
		r.publish("two")
		return r.delivered("/renewed", "two", r.renewed)
	})
}

// presentCredentials sends valid and invalid tokens, keys, cookies and passwords.
func (r *run) presentCredentials() {
	r.t.Helper()
	for name, lifetime := range map[string]time.Duration{"bearer token": time.Minute, "expired bearer token": -30 * time.Second} {
		token := r.token(name, lifetime)
		reply := r.n.Do(r.t, "GET", "/v1/auth/whoami", hubtest.Headers("Authorization", "Bearer "+token), nil)
		r.search("answer to a "+name, reply.Body)
		if (reply.Status == 200) != (lifetime > 0) {
			r.t.Errorf("%s: %v", name, reply)
		}
	}
	cookie := r.n.Do(r.t, "GET", "/v1/auth/whoami", hubtest.Headers("Cookie", "Authorization="+r.token("token in a cookie", time.Minute)), nil)
	if r.search("answer to a cookie", cookie.Body); cookie.Status != 200 {
		r.t.Errorf("cookie: %v", cookie)
	}
	for name, h := range map[string]http.Header{
		"password":        hubtest.Headers("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("user:"+r.secret("password of basic authentication")))),
		"invalid API key": hubtest.Headers("X-API-Key", "qhk_aaaaaaaaaaaa_"+r.secret(invalidAPIKey)),
		"invalid cookie":  hubtest.Headers("Cookie", "Authorization="+base64.RawURLEncoding.EncodeToString([]byte(r.secret("invalid cookie")))),
		"invalid token":   hubtest.Headers("Authorization", "Bearer "+base64.RawURLEncoding.EncodeToString([]byte(r.secret("invalid token")))),
		"two credentials": hubtest.Headers("Authorization", "Bearer "+r.secret("second token"), "X-API-Key", r.root),
	} {
		for _, target := range []string{"/v1/subscriptions", "/v1/auth/whoami", "/topics/news"} {
			reply := r.n.Do(r.t, "GET", target, h, nil)
			r.search(name+": answer", append(reply.Body, fmt.Sprint(reply.Header)...))
		}
	}
}

const invalidAPIKey = "invalid API key"

// signRequests sends requests signed with the right and with wrong shared keys.
func (r *run) signRequests() {
	r.t.Helper()
	if s := r.signed(r.n, r.secrets["shared key of RFC 9421"], "signed"); s != 200 {
		r.t.Errorf("signed request: %d", s)
	}
	if s := r.signed(r.n, []byte(r.secret("wrong key of RFC 9421")), "forged"); s != 401 {
		r.t.Errorf("request signed with the wrong key: %d", s)
	}
	if s := r.geo(r.n, r.secrets["shared key of GEO-Auth"]); s != 200 {
		r.t.Errorf("GEO-Auth: %d", s)
	}
	if s := r.geo(r.n, []byte(r.secret("wrong key of GEO-Auth"))); s != 401 {
		r.t.Errorf("GEO-Auth with the wrong key: %d", s)
	}
}

// createAPIKey creates an API key, whose only appearance is in that answer, and has a request refused with it.
func (r *run) createAPIKey() {
	r.t.Helper()
	created := r.n.Do(r.t, "POST", "/v1/auth/keys", r.typed("application/json"), []byte(`{"name":"meter","scopes":["write"]}`))
	var key struct{ Key, ID string }
	if err := json.Unmarshal(created.Body, &key); err != nil || created.Status != 201 {
		r.t.Fatalf("creating an API key: %v", created)
	}
	r.secrets["API key created at run time"] = []byte(key.Key[strings.LastIndexByte(key.Key, '_')+1:])
	h := hubtest.Headers("X-API-Key", key.Key, "Content-Type", "application/json")
	r.search("refusal of an API key", r.n.Do(r.t, "POST", "/v1/keys/rotate", h, []byte("{}")).Body)
}

// rotateSealingKey rotates the sealing key, re-encrypts, and returns the new key file.
func (r *run) rotateSealingKey() (file string) {
	r.t.Helper()
	rotated := r.n.Do(r.t, "POST", "/v1/keys/rotate", r.typed("application/json"), []byte("{}"))
	if r.search("answer to rotate", rotated.Body); rotated.Status != 200 {
		r.t.Fatalf("rotate: %v", rotated)
	}
	text, err := os.ReadFile(filepath.Join(r.n.DataDir, "secrets.key"))
	if err != nil {
		r.t.Fatal(err)
	}
	fresh, err := base64.StdEncoding.DecodeString(strings.Fields(string(text))[0])
	if err != nil || bytes.Equal(fresh, r.secrets["sealing key"]) {
		r.t.Fatalf("the file has no new key (%v)", err)
	}
	r.secrets["new sealing key"] = fresh
	r.search("answer to reencrypt", r.n.Do(r.t, "POST", "/v1/keys/reencrypt", r.operator, nil).Body)
	return string(text)
}

// forceSnapshotAndDeadLetter publishes enough for raft to truncate its log, so that a joining node receives a snapshot, and
// waits for a dead letter.
func (r *run) forceSnapshotAndDeadLetter() {
	r.t.Helper()
	for range 40 {
		r.publish(strings.Repeat("fill ", 2000))
	}
	r.publish("three")
	r.wait("a signed delivery after the rotation", func() bool { return r.delivered("/plain", "three", r.plain) })
	r.wait("a dead letter", func() bool {
		return strings.Contains(string(r.n.Do(r.t, "GET", "/v1/dead-letters", r.operator, nil).Body), `"attempts":`)
	})
}

// readAPI collects what the API shows to the operator, without credentials and with an invalid key, and what hub.events
// delivered.
func (r *run) readAPI() {
	r.t.Helper()
	maps.Copy(r.answers, r.askEverything(r.n, r.operator))
	for _, h := range []http.Header{{}, hubtest.Headers("X-API-Key", "qhk_aaaaaaaaaaaa_"+string(r.secrets[invalidAPIKey]))} {
		for _, target := range append(r.targets(r.n, r.operator), "/nope?"+hubtest.Form("x", r.query)) {
			reply := r.n.Do(r.t, "GET", target, h, nil)
			r.answers["without credentials: "+target] = append(reply.Body, fmt.Sprint(reply.Header)...)
		}
	}
	for _, d := range r.events.Deliveries() {
		r.answers["hub.events "+d.MessageID()] = d.Body
	}
	backup := r.n.Do(r.t, "GET", "/v1/backup", r.operator, nil)
	if backup.Status != 200 {
		r.t.Fatalf("backup: %v", backup)
	}
	r.answers["backup"] = backup.Body
}

// runCommands collects the output of the commands that read a configuration or ask a hub.
func (r *run) runCommands() {
	r.t.Helper()
	for _, args := range [][]string{
		{"check", "--config", r.n.ConfigPath}, {"check", "-v", "--config", r.n.ConfigPath}, {"check", "--json", "--config", r.n.ConfigPath},
		{"keys", "status", "--hub", r.n.URL, "--token", r.root}, {"auth", "keys", "--hub", r.n.URL, "--token", r.root},
		{"cluster", "status", "--hub", r.n.URL, "--token", r.root},
		{"auth", "explain", "publish", "news", "--scope", "write", "--hub", r.n.URL, "--token", r.root}, {"subscriptions", "--hub", r.n.URL, "--token", r.root},
	} {
		out, err := exec.Command(hubtest.Binary(r.t), args...).CombinedOutput()
		if err != nil {
			r.t.Errorf("%v: %v\n%s", args, err, out)
		}
		r.answers[strings.Join(args, " ")] = out
	}
	bad := r.file("bad.yaml", "cluster: {token: "+strings.Repeat("x", 600)+string(r.secrets["cluster token"])+"}\n"+
		"secrets: {key: "+r.secret("malformed sealing key")+"}\n")
	out, err := exec.Command(hubtest.Binary(r.t), "check", "--config", bad).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "secrets.key") {
		r.t.Errorf("check of a bad configuration: %v\n%s", err, out)
	}
	r.answers["check of a bad configuration"] = out
}

// joinNode adds a fourth node, which receives a snapshot.
func (r *run) joinNode(keyFile string) {
	r.t.Helper()
	addrs, err := hubtest.FreeAddrs(2)
	if err != nil {
		r.t.Fatal(err)
	}
	settings := r.n.Settings.With(hubtest.Settings{"cluster.peers": []string{"node-1=" + r.n.Settings["cluster.addr"].(string), "node-4=" + addrs[1]}})
	joining := r.node("node-4", addrs[0], addrs[1], keyFile, settings)
	if err := joining.Run(); err != nil {
		r.t.Fatal(err)
	}
	r.wait("a snapshot for node-4", func() bool { return strings.Contains(joining.Log(), "snapshot") })
	r.nodes = append(r.nodes, joining)
}

// searchExempt is search without the one secret that may show.
func (r *run) searchExempt(where string, content []byte) {
	r.t.Helper()
	for _, f := range r.secrets.Search(content) {
		if f.Secret != callbackQuery {
			r.t.Errorf("%s shows %s", where, f)
		}
	}
}

func (r *run) searchAnswers() {
	r.t.Helper()
	for where, content := range r.answers {
		r.searchExempt(where, content)
	}
}

// searchFiles searches a data directory, except for its key file, and checks that other users cannot access the files.
func (r *run) searchFiles(dir string) {
	r.t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || d.Name() == "secrets.key" {
			return err
		}
		content, err := os.ReadFile(path)
		r.searchExempt("file "+path, content)
		if info, ierr := d.Info(); ierr == nil && info.Mode().Perm()&0o077 != 0 {
			r.t.Errorf("%s is accessible to other users: %v", path, info.Mode())
		}
		files++
		return err
	})
	if err != nil || files < 4 {
		r.t.Errorf("%d files were read (%v)", files, err)
	}
}

// wantExemptSecretFound shows that the search works on such content: it finds the secret that may show.
func (r *run) wantExemptSecretFound() {
	r.t.Helper()
	for _, where := range []string{"GET /v1/subscriptions", "backup"} {
		if len(r.secrets.Search(r.answers[where])) == 0 {
			r.t.Errorf("the query of a callback is not in %s, so the search would find nothing there", where)
		}
	}
}

// targets returns all paths that can be read, for every existing object.
func (p *planted) targets(n *hubtest.Node, operator http.Header) (out []string) {
	p.t.Helper()
	var doc struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal(n.Do(p.t, "GET", "/v1/openapi.json", nil, nil).Body, &doc); err != nil {
		p.t.Fatal(err)
	}
	lists := map[string]string{"/topics": "/v1/topics", "/v1/messages": "/v1/messages?topic=news"}
	ids := func(path string) (out []string) {
		var list struct {
			Items []struct{ ID, Name string } `json:"items"`
		}
		if err := json.Unmarshal(n.Do(p.t, "GET", path, operator, nil).Body, &list); err != nil {
			p.t.Fatal(err)
		}
		for _, i := range list.Items {
			if i.ID == "" {
				i.ID = i.Name
			}
			out = append(out, i.ID)
		}
		if len(out) == 0 {
			p.t.Errorf("%s lists nothing", path)
		}
		return out
	}
	for path, item := range doc.Paths {
		_, get := item["get"]
		base, rest, found := strings.Cut(path, "/{")
		switch {
		case !get || path == "/v1/backup" || path == "/share/{id}": // for whoever got a reference, and none was sent
		case !found:
			out = append(out, cmp.Or(lists[path], path))
		default:
			_, after, _ := strings.Cut(rest, "}")
			for _, id := range ids(cmp.Or(lists[base], base)) {
				out = append(out, base+"/"+id+after)
			}
		}
	}
	slices.Sort(out)
	return append(out, "/")
}

// askEverything reads all targets.
func (p *planted) askEverything(n *hubtest.Node, operator http.Header) map[string][]byte {
	p.t.Helper()
	out := map[string][]byte{}
	for _, target := range p.targets(n, operator) {
		reply := n.Do(p.t, "GET", target, operator, nil)
		if pending := strings.Contains(target, "/r-"); reply.Status/100 != 2 && !pending { // a pending request has no attempts
			p.t.Errorf("GET %s: %v", target, reply)
		}
		out["GET "+target] = append(reply.Body, fmt.Sprint(reply.Header)...)
	}
	if len(out) < 20 {
		p.t.Errorf("only %d paths were read", len(out))
	}
	return out
}
