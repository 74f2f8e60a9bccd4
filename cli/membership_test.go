package cli_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"quorumhub/test/hubtest"
)

// newGrowingCluster prepares a cluster of n nodes with the same list of peers, to be started one by one.
func newGrowingCluster(t *testing.T, n int) *devCluster {
	t.Helper()
	c := &devCluster{t: t, dir: t.TempDir(), out: new(syncBuffer)}
	var peers []string
	var cluster []string
	addrs, err := hubtest.FreeAddrs(2 * n)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		ports := addrs[2*i : 2*i+2]
		c.urls = append(c.urls, "http://"+ports[0])
		cluster = append(cluster, ports[1])
		peers = append(peers, fmt.Sprintf("node-%d=%s", i+1, ports[1]))
	}
	key := filepath.Join(c.dir, "secrets.key")
	for i := range n {
		list := peers
		if i == 0 {
			list = peers[:1] // founds a cluster, which the others join
		}
		config := fmt.Sprintf("http: {addr: %q, public_url: %q, alias_urls: %q}\ndata_dir: %s\nsecrets.key_file: %s\n"+
			"cluster: {node_id: node-%d, addr: %q, peers: %q, token: a token, autopilot: {stabilization: 500ms}}\n"+
			"topics.auto_register: true\ndelivery.egress.mode: dev-loopback\nfetch.egress.mode: dev-loopback\n",
			strings.TrimPrefix(c.urls[i], "http://"), c.urls[0], strings.Join(c.urls, ","), filepath.Join(c.node(i), "data"), key,
			i+1, cluster[i], strings.Join(list, ","))
		if err := os.MkdirAll(c.node(i), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(c.node(i), "config.yaml"), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			for i := range n {
				log, _ := os.ReadFile(filepath.Join(c.node(i), "quorumhub.log"))
				t.Logf("log of node-%d:\n%s", i+1, log)
			}
		}
	})
	return c
}

// serveNode starts node i and returns a channel that receives its exit code.
func (c *devCluster) serveNode(i int) <-chan int {
	c.t.Helper()
	cmd := exec.Command(os.Args[0], "serve", "--config", filepath.Join(c.node(i), "config.yaml"))
	log, err := os.OpenFile(filepath.Join(c.node(i), "quorumhub.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		c.t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.node(i), "quorumhub.pid"), strconv.AppendInt(nil, int64(cmd.Process.Pid), 10), 0o600); err != nil {
		c.t.Fatal(err)
	}
	code, ended := make(chan int, 1), make(chan struct{})
	go func() {
		defer close(ended)
		defer log.Close()
		cmd.Wait()
		code <- cmd.ProcessState.ExitCode()
	}()
	c.t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		<-ended
	})
	return code
}

// votes returns the IDs of the voters as seen by node i.
func (c *devCluster) votes(i int) (ids []string) {
	resp, err := http.Get(c.urls[i] + "/v1/cluster")
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	var a struct {
		Nodes []struct {
			ID    string
			Voter bool
		}
	}
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		return nil
	}
	for _, n := range a.Nodes {
		if n.Voter {
			ids = append(ids, n.ID)
		}
	}
	return ids
}

// publisher publishes through any node that accepts a message, until it is stopped. A message that no node accepts is a failure.
type publisher struct {
	c       *devCluster
	mu      sync.Mutex
	sent    map[string]int // acknowledged messages by topic
	missed  []string
	tries   int
	slowest time.Duration
	stop    chan struct{}
	done    sync.WaitGroup
}

func (c *devCluster) publishing(topics int) *publisher {
	p := &publisher{c: c, sent: map[string]int{}, stop: make(chan struct{})}
	for i := range topics {
		p.done.Go(func() { p.run(fmt.Sprint("t", i), i) })
	}
	return p
}

func (p *publisher) run(topic string, first int) {
	client := http.Client{Timeout: 5 * time.Second}
	for n := 0; ; n++ {
		select {
		case <-p.stop:
			return
		case <-time.After(20 * time.Millisecond):
		}
		begin := time.Now()
		var why []string
		for try := range p.c.urls {
			url := p.c.urls[(first+n+try)%len(p.c.urls)]
			req, _ := http.NewRequest(http.MethodPost, url+"/topics/"+topic, strings.NewReader(fmt.Sprint(n)))
			req.Header.Set("Content-Type", "text/plain")
			req.Header.Set("Idempotency-Key", fmt.Sprint(n))
			resp, err := client.Do(req)
			if err != nil {
				why = append(why, err.Error())
				continue
			}
			resp.Body.Close()
			if resp.StatusCode/100 == 2 {
				why = nil
				break
			}
			why = append(why, url+": "+resp.Status)
		}
		p.mu.Lock()
		p.tries++
		p.slowest = max(p.slowest, time.Since(begin))
		if why == nil {
			p.sent[topic]++
		} else {
			p.missed = append(p.missed, strings.Join(why, "; "))
		}
		p.mu.Unlock()
	}
}

// end stops publishing and returns how many messages of each topic were acknowledged.
func (p *publisher) end(t *testing.T) map[string]int {
	t.Helper()
	close(p.stop)
	p.done.Wait()
	t.Logf("%d messages, the slowest took %v", p.tries, p.slowest)
	for _, m := range p.missed[:min(5, len(p.missed))] {
		t.Errorf("no node accepted a message: %s", m)
	}
	return p.sent
}

// delivered checks that every callback, named /<topic>/<n>, received everything once and in order.
func (r *receivers) delivered(t *testing.T, paths []string, sent map[string]int) {
	t.Helper()
	topic := func(path string) string { return strings.Split(path, "/")[1] }
	eventually(t, "everything is delivered", func() bool {
		for _, p := range paths {
			if head, _, _, _ := r.tally(p); head < sent[topic(p)] {
				return false
			}
		}
		return true
	})
	var longest time.Duration
	for _, p := range paths {
		_, again, gap, wrong := r.tally(p)
		longest = max(longest, gap)
		if again > 0 || len(wrong) > 0 {
			t.Errorf("%s: %d repeated, out of order: %v", p, again, wrong)
		}
	}
	t.Logf("longest gap between two deliveries: %v", longest)
}

// A cluster grows from one node to three under load and shrinks to one that joined later: no publish fails, no message is lost or
// repeated.
func TestGrowAndShrinkUnderLoad(t *testing.T) {
	const topics, each = 3, 4
	c := newGrowingCluster(t, 3)
	codes := []<-chan int{c.serveNode(0)}
	eventually(t, "the first node is ready", func() bool { return isReady(c.urls[0]) })
	r := newReceivers(t)
	var paths []string
	for i := range topics * each {
		paths = append(paths, fmt.Sprintf("/t%d/%d", i%topics, i))
		c.subscribe(0, fmt.Sprint("t", i%topics), r.URL+paths[i])
	}
	eventually(t, "all subscriptions are active", func() bool { return evenShares(c.shares(0), len(paths)) })
	load := c.publishing(topics)
	for i := 1; i < 3; i++ {
		codes = append(codes, c.serveNode(i))
	}
	eventually(t, "there are three voters", func() bool { return len(c.votes(2)) == 3 })
	eventually(t, "shares are even", func() bool { return evenShares(c.shares(2), len(paths)) && len(c.shares(2)) == 3 })

	for i, args := range [][]string{{"cluster", "remove", "node-1", "--hub", c.urls[1]}, {"cluster", "leave", "--hub", c.urls[1]}} {
		if got := run(t, "", args...); got.code != 0 {
			t.Fatalf("%v: %+v", args, got)
		}
		select {
		case code := <-codes[i]:
			if code != 0 {
				t.Errorf("node-%d exited with %d", i+1, code)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("node-%d does not exit", i+1)
		}
	}
	if v := c.votes(2); len(v) != 1 {
		t.Errorf("remaining voters: %v", v)
	}
	if got := run(t, "", "cluster", "leave", "--hub", c.urls[2]); got.code != 4 || !strings.Contains(got.err, "only voter") {
		t.Errorf("the last node can leave: %+v", got)
	}
	if got := run(t, "", "cluster", "status", "--hub", c.urls[2]); got.code != 0 || !strings.Contains(got.out, "1 of 1 voters are healthy: none may fail") {
		t.Errorf("status: %+v", got)
	}
	r.delivered(t, paths, load.end(t))
	code := <-c.serveNode(0)
	if log, _ := os.ReadFile(filepath.Join(c.node(0), "quorumhub.log")); code != 1 || !strings.Contains(string(log), "was removed from its cluster") {
		t.Errorf("the removed node exited with %d when restarted", code)
	}
}

// A rolling restart under load: every message is accepted by some node, none is lost or delivered twice, and nothing waits for a lease to
// expire.
func TestRollingRestart(t *testing.T) {
	const topics, each = 4, 5
	c := startDevCluster(t, 3)
	r := newReceivers(t)
	var paths []string
	for i := range topics * each {
		paths = append(paths, fmt.Sprintf("/t%d/%d", i%topics, i))
		c.subscribe(i%3, fmt.Sprint("t", i%topics), r.URL+paths[i])
	}
	eventually(t, "all subscriptions are shared evenly", func() bool { return evenShares(c.shares(0), len(paths)) })
	load := c.publishing(topics)
	time.Sleep(500 * time.Millisecond) // of load
	last := c.leader(0)
	for n := 1; n <= 3; n++ { // the leader last
		i := (last + n) % 3
		began := time.Now()
		pid := pidIn(c.node(i))
		if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		other := (i + 1) % 3
		eventually(t, "others own its subscriptions", func() bool { s := c.shares(other); return len(s) == 3 && s[i] == 0 })
		t.Logf("others own the subscriptions of node-%d after %v", i+1, time.Since(began))
		eventually(t, "it has exited", func() bool { return !isAlive(pid) || isZombie(pid) })
		c.restart(i)
		eventually(t, "it is ready", func() bool { return isReady(c.urls[i]) })
		eventually(t, "shares are even", func() bool { return evenShares(c.shares(other), len(paths)) })
	}
	sent := load.end(t)
	r.delivered(t, paths, sent)
	for _, p := range paths {
		// A contact lease expires after 1.5 s, and subscriptions move 2.5 s after the last contact with a node that did not hand over.
		if _, _, gap, _ := r.tally(p); gap > 2*time.Second {
			t.Errorf("%s waited %v", p, gap)
		}
	}
}
