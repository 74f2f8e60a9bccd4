package secrecy_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
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

// Secrets of all kinds go through a cluster of three nodes that logs all it can: none of them shows in a log, an answer, a file,
// a backup, a metric, or what goes to a node that joins.
func TestPlantedSecretsShowNowhereI10(t *testing.T) {
	p := plant(t)
	n := p.nodes[0]
	operator := hubtest.Headers("X-API-Key", p.root)
	form := func(h http.Header, more ...string) *hubtest.Reply {
		t.Helper()
		h = h.Clone()
		h.Set("Content-Type", hubtest.FormType)
		reply := n.Do(t, "POST", "/hub", h, []byte(hubtest.Form(more...)))
		p.search("answer to a form", reply.Body)
		return reply
	}
	topic := n.TopicURL("news")
	sub := hubtest.NewSubscriber(t)
	wait := func(what string, holds func() bool) {
		t.Helper()
		for end := time.Now().Add(hubtest.Patience); !holds(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("it did not happen: %s", what)
			}
		}
	}
	deliveredTo := func(path, body, secret string) func() bool {
		return func() bool {
			return slices.ContainsFunc(sub.Deliveries(), func(r hubtest.Request) bool {
				return r.Path() == path && string(r.Body) == body && r.SignedBy(secret)
			})
		}
	}
	subscribe := func(callback, secret string, more ...string) {
		t.Helper()
		reply := form(operator, append([]string{"hub.mode", "subscribe", "hub.topic", topic, "hub.callback", callback, "hub.secret", secret}, more...)...)
		if reply.Status != http.StatusAccepted {
			t.Fatalf("subscribe: %v", reply)
		}
	}
	publish := func(body string) {
		t.Helper()
		h := operator.Clone()
		h.Set("Content-Type", "text/plain")
		if reply := n.Do(t, "POST", hubtest.PublishTarget(topic), h, []byte(body)); reply.Status != 200 {
			t.Fatalf("publish: %v", reply)
		}
	}

	// Subscribers' secrets: present, of Standard Webhooks, replaced, pending, refused; a callback whose query is a secret.
	plain, former, renewed := p.secret("hub.secret"), p.secret("replaced hub.secret"), p.secret("renewed hub.secret")
	hook := make([]byte, 32)
	copy(hook, p.secret("key of a whsec_ secret"))
	p.secrets["key of a whsec_ secret"] = hook
	whsec := "whsec_" + base64.StdEncoding.EncodeToString(hook)
	query := p.secret("query of a callback")
	mayShow := map[string]string{"query of a callback": "the API, hub.events and the files: it belongs to the callback's URL"}
	subscribe(sub.Callback("/plain"), plain)
	subscribe(sub.Callback("/whsec"), whsec, "hub.signature_scheme", "standard-webhooks")
	subscribe(sub.Callback("/renewed"), former, "hub.signature_scheme", "standard-webhooks")
	subscribe(sub.Callback("/query?"+hubtest.Form("token", query)), plain)
	failing := hubtest.NewSubscriber(t).OnDelivery(hubtest.Answers(hubtest.Status(500)))
	subscribe(failing.Callback("/cb?"+hubtest.Form("token", query)), p.secret("hub.secret of one that fails"))
	gone := hubtest.NewSubscriber(t).OnDelivery(hubtest.Answers(hubtest.Status(410)))
	subscribe(gone.Callback("/cb?"+hubtest.Form("token", query)), p.secret("hub.secret of one that is gone"))
	hang := hubtest.NewSubscriber(t).OnIntent(func(hubtest.Request) hubtest.Answer { return hubtest.Answer{Hang: true} })
	subscribe(hang.Callback("/cb?"+hubtest.Form("token", query)), p.secret("hub.secret of one that never confirms"))
	events := hubtest.NewSubscriber(t)
	form(operator, "hub.mode", "subscribe", "hub.topic", n.TopicURL("hub.events"), "hub.callback", events.Callback("/"), "hub.secret", p.secret("hub.secret for hub.events"))
	for what, more := range map[string][]string{
		"user and password in a callback": {"hub.callback", "http://user:" + p.secret("password in a callback") + "@127.0.0.1:1/"},
		"a callback that is none":         {"hub.callback", "ftp://x/", "hub.secret", p.secret("hub.secret of a bad request")},
		"a secret that is too long":       {"hub.callback", sub.Callback("/"), "hub.secret", strings.Repeat(p.secret("long hub.secret"), 10)},
		"a scheme that is none":           {"hub.callback", sub.Callback("/"), "hub.secret", p.secret("hub.secret with a bad scheme"), "hub.signature_scheme", "x"},
		"a key that is no whsec_":         {"hub.callback", sub.Callback("/"), "hub.secret", "whsec_" + p.secret("bad whsec_"), "hub.signature_scheme", "standard-webhooks"},
	} {
		if reply := form(operator, append([]string{"hub.mode", "subscribe", "hub.topic", topic}, more...)...); reply.Status/100 != 4 {
			t.Errorf("%s: %v", what, reply)
		}
	}
	wait("the subscriptions are there", func() bool {
		return len(sub.Intents("subscribe")) >= 4 && len(failing.Intents("")) > 0 && len(gone.Intents("")) > 0
	})
	publish("one")
	wait("it is signed", deliveredTo("/plain", "one", plain))
	subscribe(sub.Callback("/renewed"), renewed, "hub.signature_scheme", "standard-webhooks")
	wait("the renewal holds", func() bool { publish("two"); return deliveredTo("/renewed", "two", renewed)() })

	// Callers' credentials, right and wrong.
	for name, lifetime := range map[string]time.Duration{"bearer token": time.Minute, "expired bearer token": -30 * time.Second} {
		token := p.token(name, lifetime)
		reply := n.Do(t, "GET", "/v1/auth/whoami", hubtest.Headers("Authorization", "Bearer "+token), nil)
		p.search("answer to a "+name, reply.Body)
		if (reply.Status == 200) != (lifetime > 0) {
			t.Errorf("%s: %v", name, reply)
		}
	}
	cookie := n.Do(t, "GET", "/v1/auth/whoami", hubtest.Headers("Cookie", "Authorization="+p.token("token in a cookie", time.Minute)), nil)
	if p.search("answer to a cookie", cookie.Body); cookie.Status != 200 {
		t.Errorf("cookie: %v", cookie)
	}
	for name, h := range map[string]http.Header{
		"a password":      hubtest.Headers("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("user:"+p.secret("password of basic authentication")))),
		"a wrong API key": hubtest.Headers("X-API-Key", "qhk_aaaaaaaaaaaa_"+p.secret("wrong API key")),
		"a wrong cookie":  hubtest.Headers("Cookie", "Authorization="+base64.RawURLEncoding.EncodeToString([]byte(p.secret("wrong cookie")))),
		"a wrong token":   hubtest.Headers("Authorization", "Bearer "+base64.RawURLEncoding.EncodeToString([]byte(p.secret("wrong token")))),
		"two credentials": hubtest.Headers("Authorization", "Bearer "+p.secret("second token"), "X-API-Key", p.root),
	} {
		for _, target := range []string{"/v1/subscriptions", "/v1/auth/whoami", "/topics/news"} {
			reply := n.Do(t, "GET", target, h, nil)
			p.search(name+": answer", append(reply.Body, fmt.Sprint(reply.Header)...))
		}
	}
	if s := p.signed(n, p.secrets["shared key of RFC 9421"], "signed"); s != 200 {
		t.Errorf("signed request: %d", s)
	}
	if s := p.signed(n, []byte(p.secret("wrong key of RFC 9421")), "forged"); s != 401 {
		t.Errorf("wrongly signed request: %d", s)
	}
	if s := p.geo(n, p.secrets["shared key of GEO-Auth"]); s != 200 {
		t.Errorf("GEO-Auth: %d", s)
	}
	if s := p.geo(n, []byte(p.secret("wrong key of GEO-Auth"))); s != 401 {
		t.Errorf("wrong GEO-Auth: %d", s)
	}
	made := n.Do(t, "POST", "/v1/auth/keys", hubtest.Headers("X-API-Key", p.root, "Content-Type", "application/json"), []byte(`{"name":"meter","scopes":["write"]}`))
	var key struct{ Key, ID string }
	if err := json.Unmarshal(made.Body, &key); err != nil || made.Status != 201 {
		t.Fatalf("an API key: %v", made) // the one answer that shows it
	}
	p.secrets["API key made at run time"] = []byte(key.Key[strings.LastIndexByte(key.Key, '_')+1:])
	h := hubtest.Headers("X-API-Key", key.Key, "Content-Type", "application/json")
	p.search("refused with an API key", n.Do(t, "POST", "/v1/keys/rotate", h, []byte("{}")).Body)

	// A new key for secrets at rest, and one that is told it by the wrong way.
	rotated := n.Do(t, "POST", "/v1/keys/rotate", hubtest.Headers("X-API-Key", p.root, "Content-Type", "application/json"), []byte("{}"))
	if p.search("answer to rotate", rotated.Body); rotated.Status != 200 {
		t.Fatalf("rotate: %v", rotated)
	}
	file, err := os.ReadFile(filepath.Join(n.DataDir, "secrets.key"))
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := base64.StdEncoding.DecodeString(strings.Fields(string(file))[0])
	if err != nil || bytes.Equal(fresh, p.secrets["sealing key"]) {
		t.Fatalf("no new key is in the file (%v)", err)
	}
	p.secrets["new sealing key"] = fresh
	p.search("answer to reencrypt", n.Do(t, "POST", "/v1/keys/reencrypt", operator, nil).Body)
	// Enough for raft to cut its log, so that a node that joins is sent a snapshot.
	for range 40 {
		publish(strings.Repeat("fill ", 2000))
	}
	publish("three")
	wait("it is signed after the rotation", deliveredTo("/plain", "three", plain))
	wait("a message is given up", func() bool {
		return strings.Contains(string(n.Do(t, "GET", "/v1/dead-letters", operator, nil).Body), `"attempts":`)
	})

	// What the API shows, to the operator, to nobody in particular, and to one with a wrong key.
	answers := p.askEverything(n, operator)
	for _, h := range []http.Header{{}, hubtest.Headers("X-API-Key", "qhk_aaaaaaaaaaaa_"+string(p.secrets["wrong API key"]))} {
		for _, target := range append(p.targets(n, operator), "/nope?"+hubtest.Form("x", query)) {
			reply := n.Do(t, "GET", target, h, nil)
			answers["without credentials: "+target] = append(reply.Body, fmt.Sprint(reply.Header)...)
		}
	}
	for _, r := range events.Deliveries() {
		answers["hub.events "+r.MessageID()] = r.Body
	}
	backup := n.Do(t, "GET", "/v1/backup", operator, nil)
	if backup.Status != 200 {
		t.Fatalf("backup: %v", backup)
	}
	answers["backup"] = backup.Body
	for _, args := range [][]string{{"check", "--config", n.ConfigPath}, {"check", "-v", "--config", n.ConfigPath}, {"check", "--json", "--config", n.ConfigPath},
		{"keys", "status", "--hub", n.URL, "--token", p.root}, {"auth", "keys", "--hub", n.URL, "--token", p.root}, {"cluster", "status", "--hub", n.URL, "--token", p.root},
		{"auth", "explain", "publish", "news", "--scope", "write", "--hub", n.URL, "--token", p.root}, {"subscriptions", "--hub", n.URL, "--token", p.root}} {
		out, err := exec.Command(hubtest.Binary(t), args...).CombinedOutput()
		if err != nil {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
		answers[strings.Join(args[:2], " ")+" "+args[len(args)-1]] = out
	}
	bad := filepath.Join(p.dir, "bad.yaml")
	if err := os.WriteFile(bad, []byte("cluster: {token: "+strings.Repeat("x", 600)+string(p.secrets["cluster token"])+"}\nsecrets: {key: "+p.secret("malformed sealing key")+"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(hubtest.Binary(t), "check", "--config", bad).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "secrets.key") {
		t.Errorf("check of a bad configuration: %v\n%s", err, out)
	}
	answers["check of a bad configuration"] = out

	// A node that joins gets a snapshot.
	addrs, err := hubtest.FreeAddrs(2)
	if err != nil {
		t.Fatal(err)
	}
	settings := n.Settings.With(hubtest.Settings{"cluster.peers": []string{"node-1=" + n.Settings["cluster.addr"].(string), "node-4=" + addrs[1]}})
	late := p.node("node-4", addrs[0], addrs[1], string(file), settings)
	if err := late.Run(); err != nil {
		t.Fatal(err)
	}
	wait("node-4 was sent a snapshot", func() bool { return strings.Contains(late.Log(), "snapshot") })
	p.nodes = append(p.nodes, late)

	for where, content := range answers {
		for _, f := range p.secrets.Search(content) {
			if mayShow[f.Secret] == "" {
				t.Errorf("%s shows %s", where, f)
			}
		}
	}
	p.nodes[2].Kill(t) // what a crash leaves behind
	for _, n := range p.nodes {
		if n.Running() {
			n.Stop(t)
		}
		p.search("log of "+filepath.Base(n.Dir), []byte(n.Log()))
		files := 0
		err := filepath.WalkDir(n.DataDir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() || d.Name() == "secrets.key" {
				return err
			}
			content, err := os.ReadFile(path)
			for _, f := range p.secrets.Search(content) {
				if mayShow[f.Secret] == "" {
					t.Errorf("file %s shows %s", path, f)
				}
			}
			if info, ierr := d.Info(); ierr == nil && info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s may be read by others: %v", path, info.Mode())
			}
			files++
			return err
		})
		if err != nil || files < 4 {
			t.Errorf("%d files were read (%v)", files, err)
		}
	}
	// The search itself works on such things: what may show is found where it has to be.
	if len(p.secrets.Search(answers["GET /v1/subscriptions"])) == 0 {
		t.Error("the query of a callback is not in the list of subscriptions: nothing would be found there")
	}
	if len(p.secrets.Search(answers["backup"])) == 0 {
		t.Error("the query of a callback is not in the backup: nothing would be found there")
	}
}

// targets are all paths that can be read, of everything that is there.
func (p *planted) targets(n *hubtest.Node, operator http.Header) (out []string) {
	p.t.Helper()
	var doc struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal(n.Do(p.t, "GET", "/v1/openapi.json", nil, nil).Body, &doc); err != nil {
		p.t.Fatal(err)
	}
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
			p.t.Errorf("%s has nothing to look at", path)
		}
		return out
	}
	for path, item := range doc.Paths {
		_, get := item["get"]
		base, rest, found := strings.Cut(path, "/{")
		switch {
		case !get || path == "/v1/backup":
		case !found:
			out = append(out, path)
		default:
			list := base
			if base == "/topics" {
				list = "/v1/topics"
			}
			_, after, _ := strings.Cut(rest, "}")
			for _, id := range ids(list) {
				out = append(out, base+"/"+id+after)
			}
		}
	}
	slices.Sort(out)
	return append(out, "/")
}

// askEverything reads all of them.
func (p *planted) askEverything(n *hubtest.Node, operator http.Header) map[string][]byte {
	p.t.Helper()
	out := map[string][]byte{}
	for _, target := range p.targets(n, operator) {
		reply := n.Do(p.t, "GET", target, operator, nil)
		if pending := strings.Contains(target, "/r-"); reply.Status/100 != 2 && !pending { // which has no attempts
			p.t.Errorf("GET %s: %v", target, reply)
		}
		out["GET "+target] = append(reply.Body, fmt.Sprint(reply.Header)...)
	}
	if len(out) < 20 {
		p.t.Errorf("only %d paths were read", len(out))
	}
	return out
}
