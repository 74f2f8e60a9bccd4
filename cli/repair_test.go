package cli_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"filippo.io/age"
	"golang.org/x/crypto/ssh"

	"quorumhub/test/hubtest"
)

// message returns a message of the topic news from node i.
func (c *devCluster) message(i int, offset int) string {
	resp, err := http.Get(fmt.Sprintf("%s/topics/news?offset=%d", c.urls[i], offset))
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return string(body)
}

// publishers publishes through every node until stop is called, which returns the acknowledged messages by offset.
func (c *devCluster) publishers() (acknowledged func() int, stop func() map[int]string) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	acked, ended := map[int]string{}, make(chan struct{})
	for i := range c.urls {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-ended:
					return
				default:
				}
				body := fmt.Sprintf("%d through node-%d", n, i+1)
				if status, h := c.publish(i, body); status/100 == 2 {
					var offset int
					if _, err := fmt.Sscanf(h.Get("X-Hub-Message-Id"), "1-%d", &offset); err != nil {
						c.t.Errorf("message id %q", h.Get("X-Hub-Message-Id"))
					}
					mu.Lock()
					acked[offset] = body
					mu.Unlock()
				}
			}
		})
	}
	acknowledged = func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(acked)
	}
	return acknowledged, func() map[int]string {
		close(ended)
		wg.Wait()
		return acked
	}
}

func (c *devCluster) kill(i int) {
	c.t.Helper()
	pid := pidIn(c.node(i))
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		c.t.Fatal(err)
	}
	eventually(c.t, "the process is gone", func() bool { return !isAlive(pid) || isZombie(pid) })
}

func (c *devCluster) log(i int) string {
	log, _ := os.ReadFile(filepath.Join(c.node(i), "quorumhub.log"))
	return string(log)
}

// backupOf takes a backup from node i.
func (c *devCluster) backupOf(i int, args ...string) string {
	c.t.Helper()
	file := filepath.Join(c.t.TempDir(), "backup")
	got := run(c.t, "", append([]string{"backup", "--hub", c.urls[i], "--to", file}, args...)...)
	if got.code != 0 || !strings.Contains(got.out, "keep sealing key") {
		c.t.Fatalf("backup: %+v", got)
	}
	if fi, err := os.Stat(file); err != nil || fi.Mode().Perm() != 0o600 {
		c.t.Errorf("%v, %v", fi.Mode(), err)
	}
	return file
}

// restored returns a node restored from a backup, with the key of node-1.
func (c *devCluster) restored(file string, args ...string) *restoredNode {
	c.t.Helper()
	n := c.newNode()
	key, err := os.ReadFile(filepath.Join(c.node(0), "data", "secrets.key"))
	if err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(n.dir, "secrets.key"), key, 0o600); err != nil {
		c.t.Fatal(err)
	}
	if got := run(c.t, "", append([]string{"restore", file, "--config", n.config}, args...)...); got.code != 0 {
		c.t.Fatalf("restore: %+v", got)
	}
	return n
}

type restoredNode struct {
	t                *testing.T
	dir, config, url string
}

// newNode writes the configuration of a node outside the cluster, with its own data directory.
func (c *devCluster) newNode() *restoredNode {
	c.t.Helper()
	n := &restoredNode{t: c.t, dir: c.t.TempDir()}
	n.config = filepath.Join(c.t.TempDir(), "node.yaml")
	http, cluster := freeAddr(c.t), freeAddr(c.t)
	n.url = "http://" + http
	text := fmt.Sprintf("http: {addr: %q, alias_urls: [%q]}\ncluster: {addr: %q, node_id: restored}\ndata_dir: %q\ndelivery: {egress: {mode: dev-loopback}}\n",
		http, c.urls[0], cluster, n.dir)
	if err := os.WriteFile(n.config, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return n
}

func freeAddr(t *testing.T) string {
	t.Helper()
	addrs, err := hubtest.FreeAddrs(1)
	if err != nil {
		t.Fatal(err)
	}
	return addrs[0]
}

func (n *restoredNode) serve() {
	n.t.Helper()
	cmd := exec.Command(os.Args[0], "serve", "--config", n.config)
	out := new(syncBuffer)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		if n.t.Failed() {
			n.t.Logf("log of the restored node:\n%s", out)
		}
	})
	eventually(n.t, "the restored node is ready", func() bool { return isReady(n.url) })
}

func getJSON(t *testing.T, url string, v any) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(v); err != nil {
		t.Fatal(err)
	}
}

// Invariant I1: a backup taken from a follower under load has everything acknowledged before it, and a cluster restored from it continues
// with the same topics, messages, subscriptions, secrets and deliveries.
func TestI1BackupUnderLoadAndRestore(t *testing.T) {
	c := startDevCluster(t, 3)
	r := newReceivers(t)
	if status, _ := c.publish(0, "first"); status/100 != 2 {
		t.Fatalf("publish: %d", status)
	}
	for n := range 3 {
		c.subscribe(n, "news", fmt.Sprintf("%s/%d", r.URL, n))
	}
	eventually(t, "every node owns one subscription", func() bool { return evenShares(c.shares(0), 3) })
	acknowledged, stop := c.publishers()
	eventually(t, "messages are acknowledged", func() bool { return acknowledged() > 100 })
	follower := (c.leader(0) + 1) % 3
	status, h := c.publish((follower+1)%3, "the last one before the backup")
	var last int
	if _, err := fmt.Sscanf(h.Get("X-Hub-Message-Id"), "1-%d", &last); err != nil || status/100 != 2 {
		t.Fatal(status, err)
	}
	file := c.backupOf(follower)
	acked := stop()
	n := c.restored(file)

	checkRestoredFiles(t, n, file, fmt.Sprintf("node-%d", follower+1))
	// The old cluster is not affected and never contacts the new one.
	n.serve()
	var topics struct {
		Items []struct {
			Name string
			Head int `json:"head_offset"`
		}
	}
	getJSON(t, n.url+"/v1/topics", &topics)
	if len(topics.Items) != 1 || topics.Items[0].Head < last {
		t.Fatalf("topics %+v, expected at least %d messages", topics, last)
	}
	head := topics.Items[0].Head
	c.urls = append(c.urls, n.url)
	for offset, body := range acked {
		if offset > head {
			continue // acknowledged after the backup
		}
		if got := c.message(3, offset); got != body {
			t.Fatalf("message %d is %q, but %q was acknowledged", offset, got, body)
		}
	}
	if c.message(3, last) != "the last one before the backup" {
		t.Error("the backup lacks a message acknowledged before it")
	}
	var subs struct {
		Items []struct{ Callback, State, Node string }
	}
	eventually(t, "the restored node delivers all subscriptions", func() bool {
		getJSON(t, n.url+"/v1/subscriptions", &subs)
		for _, s := range subs.Items {
			if s.Node != "restored" || s.State != "active" {
				return false
			}
		}
		return len(subs.Items) == 3
	})
	before := len(r.offsets("/0"))
	if status, h := c.publish(3, "a new message"); status/100 != 2 || h.Get("X-Hub-Message-Id") != fmt.Sprintf("1-%d", head+1) {
		t.Fatalf("publish: %d %v", status, h)
	}
	for i := range 3 {
		path := fmt.Sprintf("/%d", i)
		eventually(t, "what was published after the restore is delivered", func() bool {
			got := r.offsets(path)
			return len(got) > before && slices.Contains(got[before:], head+1) || i > 0 && slices.Contains(got, head+1)
		})
	}
	if got := c.ask(follower); len(got.Nodes) != 3 || got.Leader == "" {
		t.Errorf("the old cluster: %+v", got)
	}
	if got := run(t, "", "restore", file, "--config", n.config); got.code == 0 || !strings.Contains(got.err, "is in use") && !strings.Contains(got.err, "is not empty") {
		t.Errorf("restore over a running node: %+v", got)
	}
}

// checkRestoredFiles checks that the restored files have the state of the backup, which node made.
func checkRestoredFiles(t *testing.T, n *restoredNode, file, node string) {
	t.Helper()
	var meta struct {
		Node  string
		Index uint64
		Hash  string `json:"state_hash"`
	}
	decode(t, run(t, "", "inspect", "--json", "--deep", file).out, &meta)
	var files struct {
		State struct {
			Index uint64
			Hash  string
		}
	}
	decode(t, run(t, "", "inspect", "--json", n.dir).out, &files)
	if meta.Index == 0 || files.State.Index != meta.Index || files.State.Hash != meta.Hash || meta.Node != node {
		t.Errorf("the backup says %+v, the restored files %+v", meta, files.State)
	}
}

func (r *receivers) offsets(path string) (out []int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range r.got[path] {
		out = append(out, g.offset)
	}
	return out
}

func TestEncryptedBackup(t *testing.T) {
	c := startDevCluster(t, 1)
	if status, _ := c.publish(0, "a body that is easy to find"); status/100 != 2 {
		t.Fatalf("publish: %d", status)
	}
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	other, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	identity, wrong := write("key", key.String()+"\n"), write("wrong", other.String()+"\n")
	phrase, wrongPhrase := write("phrase", "correct horse\n"), write("other", "battery staple\n")
	public, sshKey := sshPair(t, dir)
	for _, k := range []struct {
		name             string
		to, with, denied []string
	}{
		{"age", []string{"--recipient", key.Recipient().String()}, []string{"--identity", identity}, []string{"--identity", wrong}},
		{"ssh", []string{"--recipient", public}, []string{"--identity", sshKey}, []string{"--identity", identity}},
		{"passphrase", []string{"--passphrase-file", phrase}, []string{"--passphrase-file", phrase}, []string{"--passphrase-file", wrongPhrase}},
		{"two keys", []string{"-r", key.Recipient().String(), "-r", other.Recipient().String()}, []string{"-i", wrong}, []string{"-i", sshKey}},
	} {
		t.Run(k.name, func(t *testing.T) {
			file := c.backupOf(0, k.to...)
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(data, []byte("easy to find")) || !bytes.HasPrefix(data, []byte("age-encryption.org/v1\n")) {
				t.Error("the backup is not encrypted")
			}
			n := c.newNode()
			for what, args := range map[string][]string{"no key": nil, "the wrong key": k.denied} {
				got := run(t, "", append([]string{"restore", file, "--config", n.config}, args...)...)
				if got.code == 0 || !strings.Contains(got.err, "encrypted") || strings.Count(got.err, "\n") != 1 {
					t.Errorf("with %s: %+v", what, got)
				}
			}
			if left, err := os.ReadDir(n.dir); err != nil || len(left) > 0 {
				t.Errorf("a refused restore left %v, %v", left, err)
			}
			cuts := []int{len(data) / 2, len(data) - 1}
			if k.name == "passphrase" {
				cuts = nil // trying a passphrase takes a second by design
			}
			for _, cut := range cuts {
				short := write("short", string(data[:cut]))
				if got := run(t, "", append([]string{"inspect", short}, k.with...)...); got.code == 0 {
					t.Errorf("%d of %d bytes: %+v", cut, len(data), got)
				}
			}
			c.restored(file, k.with...)
		})
	}
}

// sshPair generates a key pair in the format of ssh-keygen.
func sshPair(t *testing.T, dir string) (public, private string) {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	private = filepath.Join(dir, "id_ed25519")
	if err := os.WriteFile(private, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	line, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(line))), private
}

func TestBackupAndRestoreRefuse(t *testing.T) {
	c := startDevCluster(t, 1)
	if status, _ := c.publish(0, "x"); status/100 != 2 {
		t.Fatalf("publish: %d", status)
	}
	file := c.backupOf(0)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := run(t, "", "backup", "--hub", c.urls[0], "--to", file); got.code != 2 || !strings.Contains(got.err, "already exists") {
		t.Errorf("over a file: %+v", got)
	}
	if got := run(t, "", "backup", "--hub", c.urls[0], "--to", file+"2", "--recipient", "age1nonsense"); got.code != 2 || !strings.Contains(got.err, "--recipient") {
		t.Errorf("for a wrong key: %+v", got)
	}
	// A hub that fails in the middle of the transfer leaves no file.
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		w.Header().Set("X-Backup-Time-Limit", "60")
		w.Write(data[:len(data)/2])
	}))
	defer broken.Close()
	dir := t.TempDir()
	if got := run(t, "", "backup", "--hub", broken.URL, "--to", filepath.Join(dir, "b")); got.code != 3 || !strings.Contains(got.err, "no backup was written") {
		t.Errorf("from a hub that dies: %+v", got)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("half a backup: %v, %v", left, err)
	}
	n := c.newNode()
	refused := func(what, file, words string) {
		t.Helper()
		if got := run(t, "", "restore", file, "--config", n.config); got.code == 0 || !strings.Contains(got.err, words) || strings.Count(got.err, "\n") != 1 {
			t.Errorf("%s: %+v, expected %q", what, got, words)
		}
	}
	refused("without the key", file, "copy the old nodes' key file there")
	if got := run(t, "", "restore", file, "--config", n.config, "--set", "secrets.key_file="+file); got.code == 0 {
		t.Errorf("with an invalid key file: %+v", got)
	}
	changed := bytes.Clone(data)
	changed[len(changed)/2] ^= 4
	for name, bad := range map[string][]byte{"cut": data[:len(data)/2], "changed": changed, "empty": nil} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		refused(name, path, "take another backup, or use an older one")
	}
	if left, err := os.ReadDir(n.dir); err != nil || len(left) > 0 {
		t.Errorf("refused restores left %v, %v", left, err)
	}
	if err := os.WriteFile(filepath.Join(n.dir, "raft.db"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused("into a node's directory", file, "is not empty: it contains raft.db")
}
