package cli_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"quorumhub/cli"
	"quorumhub/configs"
)

// devCluster is a dev command with several nodes that runs inside the test.
type devCluster struct {
	t    *testing.T
	dir  string
	urls []string
	out  *syncBuffer
	said int // messages that say has published
}

type clusterAnswer struct {
	Leader string
	Nodes  []struct {
		ID            string
		HTTPAddr      string `json:"http_addr"`
		ClusterAddr   string `json:"cluster_addr"`
		Role          string
		AppliedIndex  uint64 `json:"applied_index"`
		StateHash     string `json:"state_hash"`
		Subscriptions int
	}
}

func startDevCluster(t *testing.T, nodes int, set ...string) *devCluster {
	t.Helper()
	c := &devCluster{t: t, dir: t.TempDir(), out: new(syncBuffer)}
	ctx, cancel := context.WithCancel(context.Background())
	args := []string{"dev", "--nodes", fmt.Sprint(nodes), "--http", "127.0.0.1:0", "--data-dir", c.dir}
	for _, s := range set {
		args = append(args, "--set", s)
	}
	done := make(chan int, 1)
	begin := time.Now()
	go func() {
		done <- cli.Run(ctx, args, cli.Streams{In: strings.NewReader(""), Out: c.out, Err: c.out, Env: os.Environ()})
	}()
	t.Cleanup(func() {
		cancel()
		if code := <-done; code != 0 {
			t.Errorf("dev exited with %d:\n%s", code, c.out)
		}
		if t.Failed() {
			for i := range nodes {
				log, _ := os.ReadFile(filepath.Join(c.node(i), "quorumhub.log"))
				t.Logf("log of node-%d:\n%s", i+1, log)
			}
		}
	})
	eventually(t, "dev is ready", func() bool { return strings.Contains(c.out.String(), "ready") })
	t.Logf("%d nodes are ready after %v", nodes, time.Since(begin))
	for i := range nodes {
		cfg, err := configs.Load(configs.Source{File: filepath.Join(c.node(i), "config.yaml")})
		if err != nil {
			t.Fatal(err)
		}
		c.urls = append(c.urls, "http://"+cfg.HTTP.Addr)
	}
	return c
}

// node returns the directory of node i, counted from 0.
func (c *devCluster) node(i int) string { return filepath.Join(c.dir, fmt.Sprintf("node-%d", i+1)) }

func (c *devCluster) ask(i int) (a clusterAnswer) {
	resp, err := http.Get(c.urls[i] + "/v1/cluster")
	if err != nil {
		return a
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusServiceUnavailable {
		return a // it is starting
	}
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		c.t.Error(err)
	}
	return a
}

// leader returns the number of the leader as seen by node i, or -1.
func (c *devCluster) leader(i int) int {
	for n, v := range c.ask(i).Nodes {
		if v.Role == "leader" {
			return n
		}
	}
	return -1
}

func (c *devCluster) publish(i int, body string) (status int, answer http.Header) {
	client := http.Client{Timeout: 5 * time.Second}
	resp, err := client.Post(c.urls[i]+"/topics/news", "text/plain", strings.NewReader(body))
	if err != nil {
		return 0, nil
	}
	resp.Body.Close()
	return resp.StatusCode, resp.Header
}

// newest returns the newest message of the topic on node i.
func (c *devCluster) newest(i int) string { return c.content(i, "") }

// same reports whether node i sees every node up, with the same state.
func (c *devCluster) same(i int) bool {
	a := c.ask(i)
	for _, n := range a.Nodes {
		if n.Role == "down" || n.StateHash != a.Nodes[0].StateHash || n.AppliedIndex != a.Nodes[0].AppliedIndex {
			return false
		}
	}
	return len(a.Nodes) == len(c.urls)
}

func TestDevClusterGoesOnWhenItsLeaderIsKilled(t *testing.T) {
	c := startDevCluster(t, 3)
	checkNodes(t, c)
	eventually(t, "all nodes have the same state", func() bool { return c.same(0) })

	for round := range 2 {
		lead := c.leader(0)
		if lead < 0 {
			t.Fatal("no leader")
		}
		if err := syscall.Kill(pidIn(c.node(lead)), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		publishAgain(t, c, round, lead)
		other := (lead + 1) % 3
		eventually(t, "the killed node is shown as down", func() bool { return c.ask(other).Nodes[lead].Role == "down" })

		serveAgain(t, c, round, lead)
		eventually(t, "it is ready again", func() bool { return isReady(c.urls[lead]) })
		eventually(t, "all nodes have the same state", func() bool { return c.same(lead) && c.same(other) })
		if c.newest(lead) != c.newest(other) {
			t.Errorf("node-%d has %q, node-%d has %q", lead+1, c.newest(lead), other+1, c.newest(other))
		}
	}
}

// checkNodes checks what every node shows of the cluster, and that all nodes serve what was published through any of them.
func checkNodes(t *testing.T, c *devCluster) {
	t.Helper()
	for i := range c.urls {
		a := c.ask(i)
		if len(a.Nodes) != 3 || a.Leader == "" {
			t.Fatalf("node-%d shows %+v", i+1, a)
		}
		for j, n := range a.Nodes {
			if n.ID != fmt.Sprintf("node-%d", j+1) || "http://"+n.HTTPAddr != c.urls[j] || portOf(t, n.ClusterAddr) != portOf(t, n.HTTPAddr)+100 {
				t.Errorf("node-%d shows %+v", i+1, n)
			}
		}
		body := fmt.Sprintf("message through node-%d", i+1)
		if status, h := c.publish(i, body); status/100 != 2 || h.Get("X-Hub-Message-Id") != fmt.Sprintf("1-%d", i+1) {
			t.Fatalf("publish on node-%d: %d %v", i+1, status, h)
		}
		for j := range c.urls {
			if j == i && c.newest(j) != body {
				t.Errorf("node-%d does not read its own write", j+1)
			}
			eventually(t, "the others read it too", func() bool { return c.newest(j) == body })
		}
	}
}

// publishAgain publishes through each of the surviving nodes until they accept messages again.
func publishAgain(t *testing.T, c *devCluster, round, lead int) {
	t.Helper()
	begin := time.Now()
	for _, i := range []int{(lead + 1) % 3, (lead + 2) % 3} {
		refusals := 0
		var slowest time.Duration
		for {
			at := time.Now()
			status, h := c.publish(i, fmt.Sprintf("after the crash %d %d", round, i))
			slowest = max(slowest, time.Since(at))
			if status/100 == 2 {
				break
			}
			if refusals++; status != http.StatusServiceUnavailable || h.Get("Retry-After") == "" {
				t.Errorf("node-%d responds %d without a leader", i+1, status)
			}
			if time.Since(begin) > 10*time.Second {
				t.Fatal("publishing does not recover")
			}
		}
		took := time.Since(begin)
		t.Logf("node-%d accepts messages again %v after the kill; it refused %d; its slowest response took %v", i+1, took, refusals, slowest)
		// The aim is 2 s, but other tests may use most of the machine meanwhile.
		if took > 6*time.Second {
			t.Errorf("publishing on node-%d recovered after %v, expected about 2 s", i+1, took)
		}
	}
}

// serveAgain restarts a node as a child of the test.
func serveAgain(t *testing.T, c *devCluster, round, i int) {
	t.Helper()
	again := exec.Command(os.Args[0], "serve", "--config", filepath.Join(c.node(i), "config.yaml"))
	log, err := os.Create(filepath.Join(c.dir, fmt.Sprintf("again-%d.log", round)))
	if err != nil {
		t.Fatal(err)
	}
	again.Stdout, again.Stderr = log, log
	if err := again.Start(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.node(i), "quorumhub.pid"), fmt.Append(nil, again.Process.Pid), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		again.Process.Signal(syscall.SIGTERM)
		again.Wait()
		log.Close()
	})
}

func TestANodeWithoutAQuorumSaysSoQuickly(t *testing.T) {
	c := startDevCluster(t, 3)
	if status, _ := c.publish(0, "x"); status/100 != 2 {
		t.Fatalf("publish: %d", status)
	}
	for _, i := range []int{1, 2} {
		if err := syscall.Kill(pidIn(c.node(i)), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "it is not ready", func() bool { return !isReady(c.urls[0]) })
	c.publish(0, "y") // may still be in progress when the quorum is lost
	begin := time.Now()
	status, h := c.publish(0, "z")
	if took := time.Since(begin); status != http.StatusServiceUnavailable || h.Get("Retry-After") == "" || took > 1500*time.Millisecond {
		t.Errorf("publish without a quorum: %d %v after %v", status, h, took)
	}
	if c.newest(0) != "x" {
		t.Errorf("it does not serve its data: %q", c.newest(0))
	}
}

func TestDevWithFiveNodes(t *testing.T) {
	c := startDevCluster(t, 5)
	for i := range c.urls {
		if status, _ := c.publish(i, fmt.Sprint(i)); status/100 != 2 {
			t.Errorf("publish on node-%d: %d", i+1, status)
		}
	}
	eventually(t, "all nodes have the same state", func() bool { return c.same(3) })
}
