package cli_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// sums accepts deliveries of any size and remembers the checksum of each, by callback and message.
type sums struct {
	*httptest.Server
	mu  sync.Mutex
	got map[string]string
	bad []string
}

func newSums(t *testing.T) *sums {
	s := &sums{got: map[string]string{}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			io.WriteString(w, r.URL.Query().Get("hub.challenge"))
			return
		}
		sum, mac := sha256.New(), hmac.New(sha256.New, []byte(testSecret))
		n, err := io.Copy(io.MultiWriter(sum, mac), r.Body)
		s.mu.Lock()
		defer s.mu.Unlock()
		if err == nil && r.Header.Get("X-Hub-Signature") != "sha256="+hex.EncodeToString(mac.Sum(nil)) {
			s.bad = append(s.bad, fmt.Sprintf("%s: %d bytes with signature %q", r.URL.Path, n, r.Header.Get("X-Hub-Signature")))
		}
		if err == nil && n == r.ContentLength {
			s.got[r.URL.Path+" "+r.Header.Get("X-Hub-Message-Id")] = hexSum(sum)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func hexSum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

func (s *sums) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.got)
}

// random returns a body of n bytes, generated as it is read.
func random(seed byte, n int64) io.Reader { return io.LimitReader(rand.NewChaCha8([32]byte{seed}), n) }

// upload publishes n bytes through node i.
func (c *devCluster) upload(i int, seed byte, n int64, key string) (status int, id string) {
	req, err := http.NewRequest(http.MethodPost, c.urls[i]+"/topics/news", random(seed, n))
	if err != nil {
		c.t.Fatal(err)
	}
	req.ContentLength = n
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	if resp.StatusCode/100 != 2 {
		c.t.Logf("node-%d responded %s %s", i+1, resp.Status, text)
	}
	return resp.StatusCode, resp.Header.Get("X-Hub-Message-Id")
}

// memory returns the anonymous memory of node i in bytes, which excludes pages of its files.
func (c *devCluster) memory(i int) int64 {
	c.t.Helper()
	pid := c.pid(i)
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		c.t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(raw), "\n") {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(rest, "kB")), 10, 64)
			if err != nil {
				c.t.Fatal(err)
			}
			return kib << 10
		}
	}
	c.t.Fatal("no RssAnon")
	return 0
}

// A message of 64 MiB reaches signed subscriptions on all nodes: every byte arrives with a valid signature and can be read from every node,
// and the nodes' memory does not grow with the size times the number of subscriptions.
func TestBlobsOnACluster(t *testing.T) {
	const size, subscribers = 64 << 20, 12
	c := startDevCluster(t, 3, "message.max_bytes=64MiB", "delivery.timeout=30s", "delivery.retry.initial=100ms")
	got := newSums(t)
	if status, _ := c.upload(0, 0, 1, ""); status/100 != 2 {
		t.Fatal("publishing to the topic failed")
	}
	for i := range subscribers {
		c.subscribeSigned(i%3, "news", fmt.Sprintf("%s/%d", got.URL, i))
	}
	eventually(t, "the subscriptions are active", func() bool { return evenShares(c.shares(0), subscribers) })
	want := sha256.New()
	io.Copy(want, random(1, size))
	sum := hexSum(want)

	status, id := c.upload(1, 1, size, "large")
	if status/100 != 2 || id != "1-2" {
		t.Fatalf("publish: %d %s", status, id)
	}
	if status, again := c.upload(2, 1, size, "large"); status/100 != 2 || again != id {
		t.Errorf("the same key and content: %d %s, want %s", status, again, id)
	}
	if status, _ := c.upload(2, 2, 300<<10, "large"); status != http.StatusUnprocessableEntity {
		t.Errorf("the same key and other content: %d, want 422", status)
	}
	peak := int64(0)
	eventually(t, "all subscribers have it", func() bool {
		for i := range c.urls {
			peak = max(peak, c.memory(i))
		}
		return got.count() >= subscribers
	})
	got.mu.Lock()
	for who, s := range got.got {
		if s != sum {
			t.Errorf("%s received something else", who)
		}
	}
	if len(got.bad) > 0 {
		t.Errorf("bad signatures: %v", got.bad)
	}
	got.mu.Unlock()
	for i := range c.urls {
		resp, err := http.Get(c.urls[i] + "/topics/news")
		if err != nil {
			t.Fatal(err)
		}
		have := sha256.New()
		n, err := io.Copy(have, resp.Body)
		resp.Body.Close()
		if err != nil || n != size || resp.ContentLength != size || hexSum(have) != sum {
			t.Errorf("node-%d serves %d bytes (%v) of %d", i+1, n, err, resp.ContentLength)
		}
		peak = max(peak, c.memory(i))
	}
	t.Logf("peak memory of a node: %d MiB", peak>>20)
	if peak > 600<<20 {
		t.Errorf("a node used %d MiB for a message of 64 MiB and %d subscriptions", peak>>20, subscribers)
	}
	eventually(t, "all nodes have the same state", func() bool { return c.same(0) })
}

// An upload survives the loss of the leader: its parts are in the log, and the publisher notices nothing.
func TestBlobOutlivesTheLeader(t *testing.T) {
	const size = 24 << 20
	c := startDevCluster(t, 3, "message.max_bytes=64MiB")
	if status, _ := c.upload(0, 0, 1, ""); status/100 != 2 {
		t.Fatal("publishing to the topic failed")
	}
	leader := c.leader(0)
	through := (leader + 1) % 3
	in, out := io.Pipe()
	go func() {
		src := random(3, size)
		io.CopyN(out, src, size/3)
		c.signal(leader, syscall.SIGKILL)
		_, err := io.Copy(out, src)
		out.CloseWithError(err)
	}()
	resp, err := http.Post(c.urls[through]+"/topics/news", "application/x-test", in)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode != 200 || resp.Header.Get("X-Hub-Message-Id") != "1-2" {
		t.Fatalf("%s %s %s", resp.Status, text, resp.Header.Get("X-Hub-Message-Id"))
	}
	c.restart(leader)
	want := sha256.New()
	io.Copy(want, random(3, size))
	for i := range c.urls {
		eventually(t, "the node has the message", func() bool {
			resp, err := http.Get(c.urls[i] + "/topics/news?offset=2")
			if err != nil {
				return false
			}
			defer resp.Body.Close()
			have := sha256.New()
			n, err := io.Copy(have, resp.Body)
			return err == nil && n == size && hexSum(have) == hexSum(want)
		})
	}
	eventually(t, "all nodes have the same state", func() bool { return c.same(through) })
}

// subscribeSigned subscribes with a secret.
func (c *devCluster) subscribeSigned(i int, topic, callback string) {
	c.t.Helper()
	resp, err := http.PostForm(c.urls[i]+"/hub", url.Values{"hub.mode": {"subscribe"}, "hub.topic": {c.urls[0] + "/topics/" + topic},
		"hub.callback": {callback}, "hub.secret": {testSecret}})
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusAccepted {
		c.t.Fatalf("subscribe: %s %s", resp.Status, body)
	}
}
