package cli_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// receivers serves many callbacks and remembers what arrived.
type receivers struct {
	*httptest.Server
	mu  sync.Mutex
	got map[string][]received // by path
}

type received struct {
	offset int
	at     time.Time
}

func newReceivers(t *testing.T) *receivers {
	r := &receivers{got: map[string][]received{}}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodGet {
			io.WriteString(w, req.URL.Query().Get("hub.challenge"))
			return
		}
		io.Copy(io.Discard, req.Body)
		_, offset, _ := strings.Cut(req.Header.Get("X-Hub-Message-Id"), "-")
		n, _ := strconv.Atoi(offset)
		r.mu.Lock()
		r.got[req.URL.Path] = append(r.got[req.URL.Path], received{n, time.Now()})
		r.mu.Unlock()
	}))
	t.Cleanup(r.Close)
	return r
}

// tally summarises a callback's deliveries: the newest offset, repetitions, the longest gap between two messages, and messages out of
// order.
func (r *receivers) tally(path string) (head, repeated int, gap time.Duration, wrong []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	got := r.got[path]
	for i, a := range got {
		switch {
		case a.offset == head+1:
			head++
		case a.offset <= head:
			repeated++
		default:
			wrong = append(wrong, fmt.Sprintf("%d after %d", a.offset, head))
			head = a.offset
		}
		if i > 0 {
			gap = max(gap, a.at.Sub(got[i-1].at))
		}
	}
	return head, repeated, gap, wrong
}

func (c *devCluster) subscribe(i int, topic, callback string) {
	c.t.Helper()
	resp, err := http.PostForm(c.urls[i]+"/hub", url.Values{"hub.mode": {"subscribe"}, "hub.topic": {c.urls[0] + "/topics/" + topic}, "hub.callback": {callback}})
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusAccepted {
		c.t.Fatalf("subscribe: %s %s", resp.Status, body)
	}
}

// shares returns the number of subscriptions by owner, as seen by node i.
func (c *devCluster) shares(i int) (out []int) {
	for _, n := range c.ask(i).Nodes {
		out = append(out, n.Subscriptions)
	}
	return out
}

func evenShares(shares []int, sum int) bool {
	least, most, all := sum, 0, 0
	for _, n := range shares {
		least, most, all = min(least, n), max(most, n), all+n
	}
	return all == sum && most-least <= 1
}

// restart restarts a node that was stopped or killed.
func (c *devCluster) restart(i int) {
	c.t.Helper()
	cmd := exec.Command(os.Args[0], "serve", "--config", filepath.Join(c.node(i), "config.yaml"))
	log, err := os.OpenFile(filepath.Join(c.node(i), "quorumhub.log"), os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		c.t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.node(i), "quorumhub.pid"), fmt.Append(nil, cmd.Process.Pid), 0o600); err != nil {
		c.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		log.Close()
		close(ended)
	}()
	c.t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		<-ended
	})
}

// load publishes to all topics, through any node that accepts it, until stop is closed. It returns how many messages of each topic were
// acknowledged.
func (c *devCluster) load(topics int, stop <-chan struct{}) []int {
	sent := make([]int, topics)
	client := http.Client{Timeout: time.Second}
	avoid := make([]time.Time, len(c.urls)) // until when
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-stop:
			return sent
		case <-tick.C:
		}
		topic := n % topics
		for try := 0; ; try++ {
			node := (n + try) % len(c.urls)
			if time.Now().Before(avoid[node]) {
				time.Sleep(time.Millisecond)
				continue
			}
			req, _ := http.NewRequest(http.MethodPost, fmt.Sprintf("%s/topics/t%d", c.urls[node], topic), strings.NewReader(fmt.Sprint(n)))
			req.Header.Set("Content-Type", "text/plain")
			req.Header.Set("Idempotency-Key", fmt.Sprint(n))
			resp, err := client.Do(req)
			if err == nil {
				resp.Body.Close()
				if resp.StatusCode/100 == 2 {
					sent[topic]++
					break
				}
			} else {
				avoid[node] = time.Now().Add(3 * time.Second)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// TestI4SharesMoveWithTheNodes checks that nodes share the subscriptions evenly, take over from a killed node within 4 s, lose nothing, and
// repeat nothing when a node restarts gracefully.
func TestI4SharesMoveWithTheNodes(t *testing.T) {
	const topics, each = 4, 5
	c := startDevCluster(t, 3)
	r := newReceivers(t)
	var paths []string
	for i := range topics * each {
		paths = append(paths, fmt.Sprintf("/%d/%d", i%topics, i))
		c.subscribe(i%3, fmt.Sprint("t", i%topics), r.URL+paths[i])
	}
	eventually(t, "all subscriptions are shared evenly", func() bool { return evenShares(c.shares(0), len(paths)) })

	stop := make(chan struct{})
	sent := make(chan []int, 1)
	go func() { sent <- c.load(topics, stop) }()
	repeated := func() (n int) {
		for _, p := range paths {
			_, again, _, _ := r.tally(p)
			n += again
		}
		return n
	}

	time.Sleep(2 * time.Second)
	lead := c.leader(0)
	other := (lead + 1) % 3
	if err := syscall.Kill(pidIn(c.node(lead)), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the dead node owns no subscription", func() bool {
		s := c.shares(other)
		return len(s) == 3 && s[lead] == 0 && s[other]+s[(lead+2)%3] == len(paths)
	})
	time.Sleep(time.Second)
	atKill := repeated()
	c.restart(lead)
	eventually(t, "it owns its share again", func() bool { return evenShares(c.shares(other), len(paths)) })
	time.Sleep(500 * time.Millisecond)
	if n := repeated(); n != atKill {
		t.Errorf("%d messages were repeated when the node came back", n-atKill)
	}

	c.stopNode(other)
	time.Sleep(500 * time.Millisecond)
	c.restart(other)
	eventually(t, "it is ready", func() bool { return isReady(c.urls[other]) })
	time.Sleep(4 * time.Second)
	if n := repeated(); n != atKill {
		t.Errorf("%d messages were repeated by a graceful restart", n-atKill)
	}
	eventually(t, "shares are even", func() bool { return evenShares(c.shares(lead), len(paths)) })
	close(stop)
	acknowledged := <-sent
	eventually(t, "everything is delivered", func() bool {
		for i, p := range paths {
			if head, _, _, _ := r.tally(p); head < acknowledged[i%topics] {
				return false
			}
		}
		return true
	})
	deliveries := 0
	var longest time.Duration
	for _, p := range paths {
		head, _, gap, wrong := r.tally(p)
		deliveries += head
		longest = max(longest, gap)
		// The aim is 4 s, which test/chaos measures; here other tests may use most of the machine.
		if len(wrong) > 0 || gap > 10*time.Second {
			t.Errorf("%s: longest gap %v; %v", p, gap, wrong)
		}
	}
	t.Logf("%d deliveries, %d repeated after the kill, longest gap %v, shares %v", deliveries, atKill, longest, c.shares(0))
	// Below 1 % on an idle machine; on a busy one fewer messages are sent per repetition.
	if atKill*25 > deliveries {
		t.Errorf("%d of %d deliveries were repeated", atKill, deliveries)
	}
}

// TestI4AStoppedProcessSendsNothingStale suspends a process until others own its subscriptions; it must not continue its deliveries when it
// resumes.
func TestI4AStoppedProcessSendsNothingStale(t *testing.T) {
	const topics, each = 4, 5
	c := startDevCluster(t, 3)
	r := newReceivers(t)
	var paths []string
	for i := range topics * each {
		paths = append(paths, fmt.Sprintf("/%d/%d", i%topics, i))
		c.subscribe(i%3, fmt.Sprint("t", i%topics), r.URL+paths[i])
	}
	eventually(t, "all subscriptions are shared evenly", func() bool { return evenShares(c.shares(0), len(paths)) })
	stop := make(chan struct{})
	sent := make(chan []int, 1)
	go func() { sent <- c.load(topics, stop) }()
	time.Sleep(time.Second)
	for _, leads := range []bool{false, true} {
		i := c.leader(0)
		if i < 0 {
			t.Fatal("no leader")
		}
		if !leads {
			i = (i + 1) % 3
		}
		other := (i + 1) % 3
		pid := pidIn(c.node(i))
		suspend(t, pid)
		time.Sleep(5 * time.Second)
		if s := c.shares(other); len(s) != 3 || s[i] != 0 {
			t.Errorf("shares %v while node-%d is suspended", s, i+1)
		}
		if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it owns its share again", func() bool { return evenShares(c.shares(other), len(paths)) })
	}
	close(stop)
	acknowledged := <-sent
	eventually(t, "everything is delivered", func() bool {
		for i, p := range paths {
			if head, _, _, _ := r.tally(p); head < acknowledged[i%topics] {
				return false
			}
		}
		return true
	})
	deliveries, repeated := 0, 0
	var longest time.Duration
	for _, p := range paths {
		head, again, gap, wrong := r.tally(p)
		deliveries, repeated, longest = deliveries+head, repeated+again, max(longest, gap)
		if len(wrong) > 0 || gap > 4*time.Second {
			t.Errorf("%s: longest gap %v; %v", p, gap, wrong)
		}
	}
	t.Logf("%d deliveries, %d repeated, longest gap %v", deliveries, repeated, longest)
	if repeated*50 > deliveries { // two failovers
		t.Errorf("%d of %d deliveries were repeated", repeated, deliveries)
	}
}
