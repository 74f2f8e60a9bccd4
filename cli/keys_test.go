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

// checkers serves callbacks that verify the signature of every delivery. A secret consists of the callback's path and a generation, which
// each renewal increments; the last two generations are valid.
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

// reached reports whether each callback has received at least n deliveries with a valid signature.
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
		t.Errorf("a delivery with a bad signature: %s", w)
	}
}

// subscribeChecked subscribes or renews with the next secret.
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

// keys returns the sealing keys as seen by node i.
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

// allHave reports whether every node responds and holds the keys.
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

// A complete key rotation under load, with nodes that are killed: every delivery has a valid signature, and the old key is dropped only when
// nothing needs it.
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
	eventually(t, "all subscriptions are active", func() bool {
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
	present := rotateThroughCrashes(t, c, old, quiet)
	reencryptThroughCrash(t, c, k, old, still)
	for i := range c.urls {
		eventually(t, "the old key is in no file", func() bool {
			data, err := os.ReadFile(c.keyFile(i))
			return err == nil && !bytes.Contains(data, keyLineIn(t, oldFile))
		})
	}
	for i := range c.urls {
		c.stopNode(i)
		c.restart(i)
		eventually(t, "the node is ready without the old key", func() bool { return isReady(c.urls[i]) })
	}
	sent := load.end(t)
	eventually(t, "a message is accepted", func() bool { status, _ := c.publish(0, "to everyone"); return status/100 == 2 })
	eventually(t, "everybody has it", func() bool { return k.reached(still, 1) })
	for _, p := range busy {
		eventually(t, "everything is delivered", func() bool { return k.reached([]string{p}, sent[strings.Split(p, "/")[1]]) })
	}
	k.check(t)
	refuseOldKeyFile(t, c, oldFile, present)
	restoreOldBackup(t, c, before, old, oldFile)
}

// rotateThroughCrashes rotates to a new key, first without a node and then through the crash of the node that does it, and returns
// the new key.
func rotateThroughCrashes(t *testing.T, c *devCluster, old string, quiet int) (present string) {
	t.Helper()
	c.kill(2)
	got := run(t, "", "keys", "rotate", "--hub", c.urls[0])
	if got.code != 4 || !strings.Contains(got.err, "node-3 does not report its keys") || c.keys(0).Sealing != old {
		t.Fatalf("rotating without node-3: %+v", got)
	}
	c.restart(2)
	eventually(t, "node-3 responds again", func() bool { return isReady(c.urls[2]) && allHave(ptr(c.keys(0)), old) })

	done := make(chan result, 1)
	go func() { done <- run(t, "", "keys", "rotate", "--hub", c.urls[1]) }()
	eventually(t, "a rotation is in progress", func() bool { st := c.keys(0); return st.Next != "" || st.Sealing != old })
	c.kill(1)
	t.Logf("the command whose node was killed: %+v; the keys: %+v", <-done, c.keys(0))
	c.restart(1)
	eventually(t, "node-2 responds again", func() bool { return isReady(c.urls[1]) && allHave(ptr(c.keys(0)), old) })
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
	present = st.Sealing
	if present == old || !allHave(&st, old, present) || used(&st, old) < quiet {
		t.Fatalf("after the rotation: %+v", st)
	}
	if got := run(t, "", "keys", "drop", old, "--hub", c.urls[0]); got.code != 4 || !strings.Contains(got.err, "secrets are still sealed with "+old) {
		t.Errorf("dropping a key in use: %+v", got)
	}
	return present
}

// reencryptThroughCrash re-encrypts all secrets while subscriptions are renewed and a node crashes, and drops the old key.
func reencryptThroughCrash(t *testing.T, c *devCluster, k *checkers, old string, still []string) {
	t.Helper()
	done := make(chan result, 1)
	go func() { done <- run(t, "", "keys", "reencrypt", "--hub", c.urls[1]) }()
	for i := range 100 {
		c.subscribeChecked(2*(i%2), k, "news", still[i*3])
	}
	c.kill(1)
	t.Logf("the command whose node was killed: %+v", <-done)
	c.restart(1)
	eventually(t, "node-2 responds again", func() bool { return isReady(c.urls[1]) })
	var got result
	eventually(t, "everything is re-encrypted", func() bool {
		got = run(t, "", "keys", "reencrypt", "--hub", c.urls[2])
		return got.code == 0 && used(ptr(c.keys(2)), old) == 0
	})
	if !strings.Contains(got.out, "Older backups still need the old key") {
		t.Errorf("reencrypt says %+v", got)
	}
	if got := run(t, "", "keys", "drop", "--old", "--hub", c.urls[0]); got.code != 0 || !strings.Contains(got.out, "Older backups still need the old keys") {
		t.Fatalf("dropping the old key: %+v", got)
	}
}

// refuseOldKeyFile restarts a node with its old key file; it must say why it exits.
func refuseOldKeyFile(t *testing.T, c *devCluster, oldFile []byte, present string) {
	t.Helper()
	c.stopNode(2)
	if err := os.WriteFile(c.keyFile(2), oldFile, 0o600); err != nil {
		t.Fatal(err)
	}
	c.restart(2)
	pid := pidIn(c.node(2))
	eventually(t, "node-3 exits", func() bool { return !isAlive(pid) || isZombie(pid) })
	if log := c.log(2); !strings.Contains(log, "lacks the key "+present) {
		t.Errorf("node-3 does not say why it exits")
	}
}

// restoreOldBackup restores a backup from before the rotation, which needs the old key.
func restoreOldBackup(t *testing.T, c *devCluster, before, old string, oldFile []byte) {
	t.Helper()
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

// keyLineIn returns the key in a key file.
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

// A node can join only with the cluster's keys, and is told which it lacks. One command rotates and drops the old key.
func TestKeysOfNodesThatJoin(t *testing.T) {
	c := newGrowingCluster(t, 2)
	shared := filepath.Join(c.dir, "secrets.key")
	c.serveNode(0)
	eventually(t, "the first node is ready", func() bool { return isReady(c.urls[0]) })
	eventually(t, "the first key is agreed on", func() bool { return c.keys(0).Sealing != "" })
	oldFile, err := os.ReadFile(shared)
	if err != nil {
		t.Fatal(err)
	}
	got := run(t, "", "keys", "rotate", "--drop-old", "--hub", c.urls[0])
	if got.code != 0 || !strings.Contains(got.out, "is the sealing key now, on 1 nodes") {
		t.Fatalf("rotate: %+v", got)
	}
	st := c.keys(0)
	// node-2 has its own key file, from before the rotation.
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
	if code := <-c.serveNode(1); code == 0 || !strings.Contains(c.log(1), "node-2 lacks the sealing key "+st.Sealing) {
		t.Fatalf("node-2 exited with %d:\n%s", code, c.log(1))
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
	eventually(t, "node-2 is a member", func() bool { return len(c.keys(1).Nodes) == 2 && allHave(ptr(c.keys(1)), st.Sealing) })
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

// Keys from the environment seal like those of a file, but the hub cannot change them and says so.
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
		t.Error("a key file was created as well")
	}
	n.Stop(t)
	n = node(firstText + "," + secondText)
	if got := run(t, "", "keys", "rotate", "--to", second, "--drop-old", "--hub", n.URL); got.code != 0 || !strings.Contains(got.out, "still has "+first+" in its configuration; remove it there") {
		t.Fatalf("rotate to an existing key: %+v", got)
	}
	n.Stop(t)
	n = node(secondText)
	n.Publish(t, n.TopicURL("news"), "text/plain", []byte("hello"))
	if !sub.WaitBody(t, "hello").SignedBy("the secret") {
		t.Error("the delivery has a bad signature")
	}
	n.Stop(t)
	n, err := start(firstText)
	text := fmt.Sprint(err)
	if err == nil {
		exited, code := n.Exited()
		<-exited
		if text = n.Log(); code() == 0 {
			t.Error("a node without its key exited with 0")
		}
		_ = n.Close()
	}
	if !strings.Contains(text, "secrets.key lacks the key "+second) {
		t.Errorf("with an old key it says %s", text)
	}
}
