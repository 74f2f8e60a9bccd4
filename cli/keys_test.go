package cli_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"quorumhub/auth/keyring"
	"quorumhub/test/hubtest"
)

// checkers are subscribers that check every delivery's signature. A secret is made of the callback's path and a generation,
// which renewals raise; that of the last two is right.
type checkers struct {
	*httptest.Server
	mu    sync.Mutex
	gen   map[string]int
	good  map[string]int
	wrong []string
}

func newCheckers(t *testing.T) *checkers {
	k := &checkers{gen: map[string]int{}, good: map[string]int{}}
	k.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(w, r.URL.Query().Get("hub.challenge"))
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		signature := r.Header.Get("X-Hub-Signature")
		for gen := k.gen[r.URL.Path]; gen >= max(0, k.gen[r.URL.Path]-1); gen-- {
			if signature == hubtest.Sign("sha256", secretOf(r.URL.Path, gen), body) {
				k.good[r.URL.Path]++
				return
			}
		}
		k.wrong = append(k.wrong, fmt.Sprintf("%s got %q signed %q", r.URL.Path, body, signature))
	}))
	t.Cleanup(k.Close)
	return k
}

func secretOf(path string, gen int) string { return fmt.Sprintf("secret %d of %s", gen, path) }

// total is how many rightly signed deliveries the callbacks got, at least one each or 0.
func (k *checkers) reached(paths []string, n int) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return !slices.ContainsFunc(paths, func(p string) bool { return k.good[p] < n })
}

func (k *checkers) check(t *testing.T) {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, w := range k.wrong[:min(len(k.wrong), 5)] {
		t.Errorf("a delivery that is not rightly signed: %s", w)
	}
}

// subscribeChecked subscribes or renews, with the next secret.
func (c *devCluster) subscribeChecked(i int, k *checkers, topic, path string) {
	c.t.Helper()
	k.mu.Lock()
	if _, ok := k.gen[path]; ok {
		k.gen[path]++
	} else {
		k.gen[path] = 0
	}
	secret := secretOf(path, k.gen[path])
	k.mu.Unlock()
	resp, err := http.PostForm(c.urls[i]+"/hub", url.Values{"hub.mode": {"subscribe"}, "hub.topic": {c.urls[0] + "/topics/" + topic},
		"hub.callback": {k.URL + path}, "hub.secret": {secret}, "hub.signature_scheme": {"standard-webhooks"}})
	if err != nil {
		c.t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		c.t.Fatalf("subscribe: %s", resp.Status)
	}
}

// keys are the keys as node i says.
func (c *devCluster) keys(i int) (st keyring.Status) {
	c.t.Helper()
	got := run(c.t, "", "keys", "status", "--json", "--hub", c.urls[i])
	if got.code != 0 {
		return st
	}
	if err := json.Unmarshal([]byte(got.out), &st); err != nil {
		c.t.Fatal(err)
	}
	return st
}

// allHave tells whether every node answers and holds the keys.
func allHave(st *keyring.Status, keys ...string) bool {
	return len(st.Nodes) > 0 && !slices.ContainsFunc(st.Nodes, func(n keyring.NodeKeys) bool {
		return n.Error != "" || slices.ContainsFunc(keys, func(id string) bool { return !slices.Contains(n.Holds, id) })
	})
}

func used(st *keyring.Status, key string) int {
	for i := range st.Keys {
		if st.Keys[i].ID == key {
			return st.Keys[i].Secrets()
		}
	}
	return 0
}

func (c *devCluster) keyFile(i int) string { return filepath.Join(c.node(i), "data", "secrets.key") }

// A rotation from beginning to end, under load, with nodes that are killed: every delivery stays rightly signed, and the old key
// goes only when nothing needs it.
func TestKeysRotatedUnderLoad(t *testing.T) {
	const topics, quiet = 3, 600
	c := startDevCluster(t, 3)
	k := newCheckers(t)
	var busy, still []string
	for i := range 4 * topics {
		busy = append(busy, fmt.Sprintf("/t%d/%d", i%topics, i))
		c.subscribeChecked(i%3, k, fmt.Sprint("t", i%topics), busy[i])
	}
	for i := range quiet {
		still = append(still, fmt.Sprint("/news/", i))
		c.subscribeChecked(i%3, k, "news", still[i])
	}
	old := ""
	eventually(t, "all subscriptions are there", func() bool {
		st := c.keys(0)
		old = st.Sealing
		return slices.ContainsFunc(st.Keys, func(u keyring.KeyUse) bool { return u.ID == old && u.Subscriptions == len(busy)+quiet })
	})
	oldFile, err := os.ReadFile(c.keyFile(0))
	if err != nil {
		t.Fatal(err)
	}
	before := c.backupOf(1)
	load := c.publishing(topics)

	// One is down: nothing happens, and it is named.
	c.kill(2)
	got := run(t, "", "keys", "rotate", "--hub", c.urls[0])
	if got.code != 4 || !strings.Contains(got.err, "node-3 does not report its keys") || c.keys(0).Sealing != old {
		t.Fatalf("rotating without node-3: %+v", got)
	}
	c.restart(2)
	eventually(t, "node-3 answers again", func() bool { return isReady(c.urls[2]) && allHave(ptr(c.keys(0)), old) })

	// The node that does it is killed in the middle; another one goes on.
	done := make(chan result, 1)
	go func() { done <- run(t, "", "keys", "rotate", "--hub", c.urls[1]) }()
	eventually(t, "a rotation is under way", func() bool { st := c.keys(0); return st.Next != "" || st.Sealing != old })
	c.kill(1)
	t.Logf("the command whose node was killed: %+v; the keys: %+v", <-done, c.keys(0))
	c.restart(1)
	eventually(t, "node-2 answers again", func() bool { return isReady(c.urls[1]) && allHave(ptr(c.keys(0)), old) })
	if c.keys(0).Sealing == old {
		eventually(t, "the rotation is finished", func() bool {
			got = run(t, "", "keys", "rotate", "--hub", c.urls[2])
			return got.code == 0
		})
		if !strings.Contains(got.out, "quorumhub keys reencrypt") {
			t.Errorf("rotate says %+v", got)
		}
	}
	st := c.keys(0)
	present := st.Sealing
	if present == old || !allHave(&st, old, present) || used(&st, old) < quiet {
		t.Fatalf("after the rotation: %+v", st)
	}
	if got := run(t, "", "keys", "drop", old, "--hub", c.urls[0]); got.code != 4 || !strings.Contains(got.err, "secrets are still sealed with "+old) {
		t.Errorf("dropping what is needed: %+v", got)
	}

	// Renewals run against it, and again a node is killed.
	go func() { done <- run(t, "", "keys", "reencrypt", "--hub", c.urls[1]) }()
	for i := range 100 {
		c.subscribeChecked(2*(i%2), k, "news", still[i*3])
	}
	c.kill(1)
	t.Logf("the command whose node was killed: %+v", <-done)
	c.restart(1)
	eventually(t, "node-2 answers again", func() bool { return isReady(c.urls[1]) })
	eventually(t, "all is sealed anew", func() bool {
		got = run(t, "", "keys", "reencrypt", "--hub", c.urls[2])
		return got.code == 0 && used(ptr(c.keys(2)), old) == 0
	})
	if !strings.Contains(got.out, "Older backups still need the old key") {
		t.Errorf("reencrypt says %+v", got)
	}
	if got := run(t, "", "keys", "drop", "--old", "--hub", c.urls[0]); got.code != 0 || !strings.Contains(got.out, "Older backups still need the old keys") {
		t.Fatalf("dropping the old key: %+v", got)
	}
	for i := range c.urls {
		eventually(t, "the old key is in no file", func() bool {
			data, err := os.ReadFile(c.keyFile(i))
			return err == nil && !bytes.Contains(data, keyLineIn(t, oldFile))
		})
	}

	// A restart without the old key, of all nodes.
	for i := range c.urls {
		c.stopNode(i)
		c.restart(i)
		eventually(t, "the node is ready without the old key", func() bool { return isReady(c.urls[i]) })
	}
	sent := load.end(t)
	eventually(t, "a message is taken", func() bool { status, _ := c.publish(0, "to everyone"); return status/100 == 2 })
	eventually(t, "everybody has it", func() bool { return k.reached(still, 1) })
	for _, p := range busy {
		eventually(t, "everything is delivered", func() bool { return k.reached([]string{p}, sent[strings.Split(p, "/")[1]]) })
	}
	k.check(t)

	// A node with its file of before is told why it cannot go on.
	c.stopNode(2)
	if err := os.WriteFile(c.keyFile(2), oldFile, 0o600); err != nil {
		t.Fatal(err)
	}
	c.restart(2)
	pid := pidIn(c.node(2))
	eventually(t, "node-3 ends", func() bool { return !isAlive(pid) || isZombie(pid) })
	if log := c.log(2); !strings.Contains(log, "lacks the key "+present) {
		t.Errorf("node-3 does not say why it ends")
	}
	// The backup of before needs the old key, and says so.
	n := c.newNode()
	newFile, err := os.ReadFile(c.keyFile(0))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(n.dir, "secrets.key"), newFile, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := run(t, "", "restore", before, "--config", n.config); got.code == 0 || !strings.Contains(got.err, "sealed with key "+old) {
		t.Errorf("a backup that needs the old key: %+v", got)
	}
	if err := os.WriteFile(filepath.Join(n.dir, "secrets.key"), append(newFile, oldFile...), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := run(t, "", "restore", before, "--config", n.config); got.code != 0 {
		t.Errorf("a backup with the old key at hand: %+v", got)
	}
}

func ptr[T any](v T) *T { return &v }

// keyLineIn is the key in a key file that has one.
func keyLineIn(t *testing.T, file []byte) []byte {
	t.Helper()
	for line := range bytes.Lines(file) {
		if !bytes.HasPrefix(line, []byte("#")) {
			return bytes.TrimSpace(line)
		}
	}
	t.Fatal("no key in the file")
	return nil
}

// A node joins with the keys of the cluster only; what it lacks is said. One command does it all.
func TestKeysOfNodesThatJoin(t *testing.T) {
	c := newGrowingCluster(t, 2)
	shared := filepath.Join(c.dir, "secrets.key")
	c.serveNode(0)
	eventually(t, "the first node is ready", func() bool { return isReady(c.urls[0]) })
	oldFile, err := os.ReadFile(shared)
	if err != nil {
		t.Fatal(err)
	}
	got := run(t, "", "keys", "rotate", "--drop-old", "--hub", c.urls[0])
	if got.code != 0 || !strings.Contains(got.out, "is the sealing key now, on 1 nodes") {
		t.Fatalf("rotate: %+v", got)
	}
	st := c.keys(0)
	// node-2 has a file of its own, of before.
	own := filepath.Join(c.dir, "old.key")
	if err := os.WriteFile(own, oldFile, 0o600); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(c.node(1), "config.yaml")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config, bytes.ReplaceAll(text, []byte(shared), []byte(own)), 0o600); err != nil {
		t.Fatal(err)
	}
	if code := <-c.serveNode(1); code == 0 || !strings.Contains(c.log(1), "node-2 lacks the key for secrets at rest "+st.Sealing) {
		t.Fatalf("node-2 ended with %d:\n%s", code, c.log(1))
	}
	file, err := os.ReadFile(shared)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(own, file, 0o600); err != nil {
		t.Fatal(err)
	}
	c.serveNode(1)
	eventually(t, "node-2 is ready", func() bool { return isReady(c.urls[1]) })
	eventually(t, "node-2 counts", func() bool { return len(c.keys(1).Nodes) == 2 && allHave(ptr(c.keys(1)), st.Sealing) })
	eventually(t, "two nodes rotate", func() bool {
		got = run(t, "", "keys", "rotate", "--drop-old", "--hub", c.urls[1])
		return got.code == 0
	})
	st = c.keys(1)
	eventually(t, "each holds one key", func() bool {
		st = c.keys(0)
		return len(st.Nodes) == 2 && len(st.Nodes[0].Holds) == 1 && slices.Equal(st.Nodes[0].Holds, st.Nodes[1].Holds)
	})
	if got := run(t, "", "keys", "status", "--hub", c.urls[0]); got.code != 0 || !strings.Contains(got.out, st.Sealing+"  seals") || strings.Contains(got.out, string(keyLineIn(t, file))) {
		t.Errorf("status: %+v", got)
	}
}

// Keys from the environment seal like those of a file; what the hub cannot change is said.
func TestKeysFromTheEnvironment(t *testing.T) {
	key := func() (id, text string) {
		got := run(t, "", "keys", "new")
		if got.code != 0 {
			t.Fatalf("%+v", got)
		}
		text = string(keyLineIn(t, []byte(got.out)))
		return strings.TrimSuffix(strings.Fields(got.out)[2], ","), text
	}
	first, firstText := key()
	second, secondText := key()
	dir := t.TempDir()
	start := func(keys string) (*hubtest.Node, error) {
		return hubtest.StartNode(hubtest.Options{Dir: dir, Binary: os.Args[0], Env: []string{"QUORUMHUB_SECRETS_KEY=" + keys}})
	}
	node := func(keys string) *hubtest.Node {
		n, err := start(keys)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = n.Close() })
		return n
	}
	n := node(firstText)
	sub := hubtest.NewSubscriber(t)
	n.Subscribe(t, n.TopicURL("news"), sub.Callback("/"), "hub.secret", "the secret")
	if got := run(t, "", "keys", "rotate", "--hub", n.URL); got.code != 4 || !strings.Contains(got.err, "in its configuration (secrets.key, QUORUMHUB_SECRETS_KEY), which only an operator changes") {
		t.Fatalf("rotate: %+v", got)
	}
	if _, err := os.Stat(filepath.Join(n.DataDir, "secrets.key")); err == nil {
		t.Error("a key file was made beside")
	}
	n.Stop(t)
	n = node(firstText + "," + secondText)
	if got := run(t, "", "keys", "rotate", "--to", second, "--drop-old", "--hub", n.URL); got.code != 0 || !strings.Contains(got.out, "still has "+first+" in its configuration; remove it there") {
		t.Fatalf("rotate to a key that is there: %+v", got)
	}
	n.Stop(t)
	n = node(secondText)
	n.Publish(t, n.TopicURL("news"), "text/plain", []byte("hello"))
	if !sub.WaitBody(t, "hello").SignedBy("the secret") {
		t.Error("the delivery is not rightly signed")
	}
	n.Stop(t)
	n, err := start(firstText)
	text := fmt.Sprint(err)
	if err == nil {
		exited, code := n.Exited()
		<-exited
		if text = n.Log(); code() == 0 {
			t.Error("a node without the key that it needs ended as if all was well")
		}
		_ = n.Close()
	}
	if !strings.Contains(text, "secrets.key lacks the key "+second) {
		t.Errorf("with a key of before it says %s", text)
	}
}
