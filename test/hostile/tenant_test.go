package hostile_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"quorumhub/test/hubtest"
)

// What one tenant may have in TestHostileTenant.
const (
	clientConnections = 300 // limits.connections
	keysQuota         = 50  // idempotency_keys
	noncesQuota       = 50  // nonces_per_minute
	refusedBudget     = 60  // limits.refused, per minute and node
	retained          = 4 * mib

	// diskBound is what may be on a node's disk: what is retained (and what was before a file of the log is removed), as many dead
	// letters, raft's log, and its file's free pages.
	diskBound = 32 * mib
)

// tenantCluster is a cluster with two tenants that have the same rights, and a service that is asked about tokens.
type tenantCluster struct {
	t         *testing.T
	nodes     []*hubtest.Node
	ports     []string
	attack    *tenantAttack // its settings
	victim    *victim
	questions atomic.Int64 // about tokens
}

const (
	attackerKey = "qhk_0123456789ab_secret"
	victimsKey  = "qhk_ba9876543210_secret"
	operatorKey = "qhk_012345678901_secret"
	geoSecret   = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
)

func newTenantCluster(t *testing.T) *tenantCluster {
	c := &tenantCluster{t: t}
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.Header.Get("Cookie"), "probe") {
			c.questions.Add(1)
		}
		hubtest.Pause(50 * time.Millisecond)
		_, _ = io.WriteString(w, `{"response":null,"errors":[{"errorCode":"KER-ATH-401"}]}`)
	}))
	refuses := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if challenge := r.URL.Query().Get("hub.challenge"); challenge != "" {
			_, _ = io.WriteString(w, challenge)
			return
		}
		w.WriteHeader(http.StatusBadRequest)
	}))
	t.Cleanup(func() { service.Close(); refuses.Close() })
	file := filepath.Join(t.TempDir(), "auth.yaml")
	secret := filepath.Join(t.TempDir(), "geo")
	sum := sha256.Sum256([]byte("secret"))
	text := fmt.Sprintf(`token_service: {name: tokens, url: %q}
geo_auth: {keys: [{id: signer, secret_file: %q, scopes: [tenant]}, {id: useless, secret_file: %q}]}
api_keys:
  - {id: "0123456789ab", name: attacker, sha256: '%x', scopes: [tenant]}
  - {id: "ba9876543210", name: victim, sha256: '%x', scopes: [tenant]}
  - {id: "012345678901", name: operator, sha256: '%x', roles: [operator]}
links:
  attacker: [key/0123456789ab, signed:geo-auth/signer]
rules:
  - {name: tenants, may: [publish, subscribe, unsubscribe, read, topic.register], topics: ["shared/*"], who: [{scope: tenant}]}
  - {name: operate, may: [admin.*], who: [{role: operator}]}
quotas: {default: {idempotency_keys: %d, nonces_per_minute: %d}, key/ba9876543210: {idempotency_keys: 0}}
`, service.URL, secret, secret, sum, sum, sum, quotaOr("keys", keysQuota), quotaOr("nonces", noncesQuota))
	if err := errors.Join(os.WriteFile(file, []byte(text), 0o600), os.WriteFile(secret, []byte(geoSecret), 0o600)); err != nil {
		t.Fatal(err)
	}
	c.nodes, c.ports = startTrio(t, hubtest.Settings{
		"auth.mode": "required", "auth.file": file, "auth.egress.mode": "dev-loopback", "cluster.token": "a secret of the nodes", "log.level": "error",
		"limits.connections": quotaOr("connections", clientConnections), "limits.refused": fmt.Sprintf("%d/1m", quotaOr("refused", refusedBudget)),
		"message.idempotency_window": "5s", "retention.max_bytes": retained, "dead_letters.max_bytes": mib, "storage.log_bytes": 4 * mib,
	})
	var urls []string
	for _, n := range c.nodes {
		urls = append(urls, n.URL)
	}
	c.attack = &tenantAttack{Nodes: urls, Ports: c.ports, Key: attackerKey, Signer: "signer", Useless: "useless", Secret: geoSecret, Hook: refuses.URL}
	c.victim = newVictim(t, urls, victimsKey)
	c.subscribe()
	return c
}

// quotaOr lets QUORUMHUB_TEST_RAISE raise limits, such as keys=100000,refused=600000, to see the test fail without them.
func quotaOr(name string, limit int) int {
	for one := range strings.SplitSeq(os.Getenv("QUORUMHUB_TEST_RAISE"), ",") {
		if key, value, _ := strings.Cut(one, "="); key == name {
			limit, _ = strconv.Atoi(value)
		}
	}
	return limit
}

func (c *tenantCluster) call(node int, key, method, target, body string, more ...string) *hubtest.Reply {
	c.t.Helper()
	return c.nodes[node].Do(c.t, method, target, hubtest.Headers(append(more, "X-Api-Key", key)...), []byte(body))
}

// subscribe makes the victim's subscription.
func (c *tenantCluster) subscribe() {
	c.t.Helper()
	hubtest.Eventually(c.t, "every member knows owners", func() error {
		if body := string(c.call(0, operatorKey, "GET", "/v1/cluster", "").Body); !strings.Contains(body, `"feature_level":`) || strings.Contains(body, `"feature_level":0`) {
			return errors.New(body)
		}
		return nil
	})
	form := hubtest.Form("hub.mode", "subscribe", "hub.topic", c.nodes[0].URL+"/topics/shared/news", "hub.callback", c.victim.sink.URL)
	if r := c.call(0, victimsKey, "POST", "/hub", form, "Content-Type", hubtest.FormType); r.Status != http.StatusAccepted {
		c.t.Fatal(r)
	}
	hubtest.Eventually(c.t, "the subscription is active", func() error {
		if r := c.call(0, victimsKey, "GET", "/v1/subscriptions", ""); !strings.Contains(string(r.Body), `"active"`) {
			return errors.New(r.String())
		}
		return nil
	})
}

// usage is what a node uses at a moment, memory and disk in bytes.
type usage struct{ memory, heap, disk, connections, bodies, goroutines, files float64 }

func (u usage) String() string {
	return fmt.Sprintf("%.1f MiB of memory, %.1f MiB of heap, %.1f MiB on disk, %.0f connections, %.0f KiB of bodies, %.0f goroutines, %.0f files",
		u.memory/mib, u.heap/mib, u.disk/mib, u.connections, u.bodies/1024, u.goroutines, u.files)
}

func (u usage) max(o usage) usage {
	return usage{max(u.memory, o.memory), max(u.heap, o.heap), max(u.disk, o.disk), max(u.connections, o.connections), max(u.bodies, o.bodies),
		max(u.goroutines, o.goroutines), max(u.files, o.files)}
}

func (c *tenantCluster) lookAll() (all []usage) {
	c.t.Helper()
	for i := range c.nodes {
		all = append(all, c.look(i))
	}
	return all
}

func (c *tenantCluster) look(node int) (s usage) {
	c.t.Helper()
	n := c.nodes[node]
	for line := range strings.SplitSeq(string(c.call(node, operatorKey, "GET", "/metrics", "").Body), "\n") {
		name, value, _ := strings.Cut(line, " ")
		to := map[string]*float64{"quorumhub_http_connections": &s.connections, "quorumhub_http_body_bytes": &s.bodies, "go_goroutines": &s.goroutines,
			"process_open_fds": &s.files, "go_memstats_heap_inuse_bytes": &s.heap}[name]
		if to != nil {
			*to, _ = strconv.ParseFloat(value, 64)
		}
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.PID()))
	if err != nil {
		c.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "RssAnon:")
	if _, err := fmt.Sscan(rest, &s.memory); err != nil {
		c.t.Fatal(err)
	}
	s.memory *= 1 << 10
	_ = filepath.WalkDir(n.DataDir, func(path string, _ fs.DirEntry, _ error) error {
		if info, err := os.Lstat(path); err == nil { // files come and go
			s.disk += float64(info.Sys().(*syscall.Stat_t).Blocks) * 512
		}
		return nil
	})
	return s
}

// used returns how many of a thing the attacker has.
func (c *tenantCluster) used(what string) int {
	c.t.Helper()
	var page struct {
		Items []map[string]json.RawMessage
	}
	if err := json.Unmarshal(c.call(0, operatorKey, "GET", "/v1/auth/usage?principal=key/0123456789ab", "").Body, &page); err != nil || len(page.Items) != 1 {
		return 0
	}
	var u struct{ Used int }
	if err := json.Unmarshal(page.Items[0][what], &u); err != nil {
		c.t.Error(err)
	}
	return u.Used
}

// start starts the attacker. stop ends it and returns what came of its attacks.
func (c *tenantCluster) start() (stop func() map[string]int) {
	c.t.Helper()
	settings, err := json.Marshal(c.attack)
	if err != nil {
		c.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), attackEnv+"="+string(settings))
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	in, err := cmd.StdinPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	ended := false
	stop = func() (counts map[string]int) {
		if ended {
			return nil
		}
		ended = true
		in.Close()
		if err := cmd.Wait(); err != nil {
			c.t.Errorf("the attacker: %v %s", err, errs.String())
		}
		if err := json.Unmarshal(out.Bytes(), &counts); err != nil {
			c.t.Error(err)
		}
		return counts
	}
	c.t.Cleanup(func() { stop() })
	return stop
}
