package hostile_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"quorumhub/test/hubtest"
)

// victimRate is how many messages the other tenant publishes a second, and window the time of which the 99th percentiles are
// compared.
const (
	victimRate = 100
	window     = 2 * time.Second
)

// victimKey is the idempotency key of a message of the other tenant.
func victimKey(n int) string { return fmt.Sprint("order-", n) }

// victim is a tenant that publishes at a constant rate, in turns through all nodes, and receives what it publishes. Latencies count
// from when a message was due.
type victim struct {
	t      *testing.T
	nodes  []string
	key    string
	client *http.Client
	sink   *httptest.Server

	mu        sync.Mutex
	due       []time.Time
	answered  []time.Duration // 0: not yet
	delivered []time.Duration
	failed    []string
}

func newVictim(t *testing.T, nodes []string, key string) *victim {
	v := &victim{t: t, nodes: nodes, key: key, client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 100}}}
	v.sink = httptest.NewServer(v)
	t.Cleanup(func() {
		v.client.CloseIdleConnections()
		v.sink.Close()
	})
	return v
}

// ServeHTTP is the victim's callback.
func (v *victim) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if challenge := r.URL.Query().Get("hub.challenge"); challenge != "" {
		_, _ = io.WriteString(w, challenge)
		return
	}
	now := time.Now()
	body, err := io.ReadAll(r.Body)
	n, wrong := strconv.Atoi(strings.TrimPrefix(string(body), "message "))
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case err != nil || wrong != nil || n >= len(v.due):
		v.failed = append(v.failed, fmt.Sprintf("received %q, %v", body, err))
	case v.delivered[n] == 0:
		v.delivered[n] = now.Sub(v.due[n])
	}
}

// next returns the number of the next message.
func (v *victim) next(due time.Time) (int, time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.due, v.answered, v.delivered = append(v.due, due), append(v.answered, 0), append(v.delivered, 0)
	return len(v.due) - 1, due
}

// publish sends message n and notes how long the answer took.
func (v *victim) publish(n int, due time.Time) {
	req, err := http.NewRequest(http.MethodPost, v.nodes[n%len(v.nodes)]+"/topics/shared/news", bytes.NewReader(fmt.Append(nil, "message ", n)))
	if err == nil {
		req.Header = http.Header{"X-Api-Key": {v.key}, "Idempotency-Key": {victimKey(n)}, "Content-Type": {"text/plain"}}
	}
	resp, err := v.client.Do(req)
	took := time.Since(due)
	text := fmt.Sprint(err)
	if err == nil {
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		text = resp.Status + " " + string(body)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.answered[n] = took
	if err != nil || resp.StatusCode != http.StatusOK {
		v.failed = append(v.failed, fmt.Sprintf("message %d through node %d: %s", n, n%len(v.nodes)+1, text))
	}
}

// latency is the 99th percentiles of one window: of the answers to publishes, and of the deliveries.
type latency struct{ publish, delivery time.Duration }

func (l latency) String() string {
	return fmt.Sprintf("publish %v, delivery %v", l.publish, l.delivery)
}

// measure publishes for some windows and returns the median of each percentile over the windows: a single stall of the machine
// decides nothing. It calls look after each.
func (v *victim) measure(windows int, look func()) latency {
	v.t.Helper()
	var publish, delivery []time.Duration
	for range windows {
		one := v.window()
		publish, delivery = append(publish, one.publish), append(delivery, one.delivery)
		look()
	}
	return latency{quantile(publish, .5), quantile(delivery, .5)}
}

func (v *victim) window() latency {
	v.t.Helper()
	var sending sync.WaitGroup
	v.mu.Lock()
	first := len(v.due)
	v.mu.Unlock()
	tick := time.NewTicker(time.Second / victimRate)
	for range int(window.Seconds() * victimRate) {
		n, due := v.next(<-tick.C)
		sending.Go(func() { v.publish(n, due) })
	}
	tick.Stop()
	sending.Wait()
	v.settle()
	v.mu.Lock()
	defer v.mu.Unlock()
	return latency{quantile(v.answered[first:], .99), quantile(v.delivered[first:], .99)}
}

// settle waits until everything that was published is delivered.
func (v *victim) settle() {
	v.t.Helper()
	hubtest.EventuallyWithin(v.t, 30*time.Second, "everything is delivered", func() error {
		v.mu.Lock()
		defer v.mu.Unlock()
		if len(v.failed) > 0 {
			return fmt.Errorf("%d failures, the first: %s", len(v.failed), v.failed[0])
		}
		if n := slices.Index(v.delivered, 0); n >= 0 {
			return fmt.Errorf("message %d is missing", n)
		}
		return nil
	})
}

// quantile returns the value that a share q of all does not exceed.
func quantile(all []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}
