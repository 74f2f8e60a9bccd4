package cli_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// ordered is a message of TestEveryModeSurvivesItsOwner.
type ordered struct {
	Key string `json:"key"`
	N   int    `json:"n"`
}

// modal serves callbacks and remembers what they acknowledged, in order, by path.
type modal struct {
	*httptest.Server
	mu  sync.Mutex
	got map[string][]ordered
}

func newModal(t *testing.T) *modal {
	m := &modal{got: map[string][]ordered{}}
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			io.WriteString(w, r.URL.Query().Get("hub.challenge"))
			return
		}
		var msg ordered
		if err := json.NewDecoder(r.Body).Decode(&msg); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		m.mu.Lock()
		m.got[r.URL.Path] = append(m.got[r.URL.Path], msg)
		m.mu.Unlock()
	}))
	t.Cleanup(m.Close)
	return m
}

// under returns what the callbacks below a path acknowledged, each in order.
func (m *modal) under(prefix string) (out [][]ordered) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for path, got := range m.got {
		if strings.HasPrefix(path, prefix) {
			out = append(out, append([]ordered(nil), got...))
		}
	}
	return out
}

// tally counts distinct messages and repetitions.
func tally(all [][]ordered) (different, repeated int) {
	seen := map[int]bool{}
	n := 0
	for _, got := range all {
		for _, m := range got {
			seen[m.N] = true
			n++
		}
	}
	return len(seen), n - len(seen)
}

func (c *devCluster) subscribeWith(i int, params ...string) {
	c.t.Helper()
	form := url.Values{"hub.mode": {"subscribe"}, "hub.topic": {c.urls[0] + "/topics/t"}}
	for i := 0; i < len(params); i += 2 {
		form.Set(params[i], params[i+1])
	}
	resp, err := http.PostForm(c.urls[i]+"/hub", form)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusAccepted {
		c.t.Fatalf("subscribe: %s %s", resp.Status, body)
	}
}

// listed returns the subscriptions that node i lists, by the path of the callback.
func (c *devCluster) listed(i int) map[string]listedSubscription {
	var page struct{ Items []listedSubscription }
	resp, err := http.Get(c.urls[i] + "/v1/subscriptions")
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	if json.NewDecoder(resp.Body).Decode(&page) != nil {
		return nil
	}
	out := map[string]listedSubscription{}
	for _, s := range page.Items {
		u, _ := url.Parse(s.Callback)
		out[u.Path] = s
	}
	return out
}

type listedSubscription struct {
	ID, Callback, State, Node, Mode string
	Cursor, Lag                     uint64
}

func (c *devCluster) post(i int, path, body string) (int, string) {
	c.t.Helper()
	resp, err := http.Post(c.urls[i]+path, "application/json", strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text)
}

func modePrefixes() []string {
	return []string{"/ordered", "/parallel", "/keyed", "/shared/", "/turns/"}
}

// publishOrdered publishes messages from to to-1 through all nodes but avoid.
func (c *devCluster) publishOrdered(from, to, avoid int) {
	c.t.Helper()
	for n := from; n < to; n++ {
		body, _ := json.Marshal(ordered{fmt.Sprint("k", n%7), n})
		eventually(c.t, "a publish is accepted", func() bool {
			node := n % 3
			if node == avoid {
				node = (node + 1) % 3
			}
			req, _ := http.NewRequest(http.MethodPost, c.urls[node]+"/topics/t", bytes.NewReader(body))
			req.Header.Set("Content-Type", "application/json")
			req.Header.Set("Idempotency-Key", fmt.Sprint(n))
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return false
			}
			resp.Body.Close()
			return resp.StatusCode == http.StatusOK
		})
	}
}

// TestEveryModeSurvivesItsOwner kills one of three nodes that deliver parallel, keyed and grouped subscriptions. Each subscription gets
// every message, a group each message once, and keys stay in order. Then one is paused, rewound, resumed and ended through any node.
func TestEveryModeSurvivesItsOwner(t *testing.T) {
	c := startDevCluster(t, 3)
	r := newModal(t)
	subs := map[string][]string{
		"/ordered":  nil,
		"/parallel": {"hub.delivery_window", "8"},
		"/keyed":    {"hub.delivery_key", "json:/key", "hub.delivery_window", "4"},
		"/shared/1": {"consumerGroup", "g", "hub.delivery_mode", "parallel"},
		"/shared/2": {"consumerGroup", "g", "hub.delivery_mode", "parallel"},
		"/shared/3": {"hub.consumer_group", "g", "hub.delivery_mode", "parallel"},
		"/turns/1":  {"consumerGroup", "turns"},
		"/turns/2":  {"consumerGroup", "turns"},
	}
	i := 0
	for path, params := range subs {
		c.subscribeWith(i%3, append([]string{"hub.callback", r.URL + path, "hub.start", "earliest"}, params...)...)
		i++
	}
	eventually(t, "all are active", func() bool {
		n := 0
		for _, s := range c.listed(0) {
			if s.State == "active" && s.Node != "" {
				n++
			}
		}
		return n == len(subs)
	})
	list := c.listed(1)
	if list["/parallel"].Mode != "parallel" || list["/keyed"].Mode != "keyed" || list["/turns/1"].Mode != "ordered" || list["/shared/1"].Node != list["/shared/3"].Node {
		t.Errorf("listed %+v", list)
	}

	c.publishOrdered(0, 300, -1)
	victim := 0
	fmt.Sscanf(list["/shared/1"].Node, "node-%d", &victim)
	victim--
	if err := syscall.Kill(pidIn(c.node(victim)), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c.publishOrdered(300, 600, victim)
	alive := (victim + 1) % 3
	checkDelivered(t, c, r, alive)
	pauseAndRewind(t, c, r, list["/parallel"].ID, victim)
}

// checkDelivered checks that everything was delivered, with few repetitions and keys in order.
func checkDelivered(t *testing.T, c *devCluster, r *modal, alive int) {
	t.Helper()
	all := func(n int) func() bool {
		return func() bool {
			for _, prefix := range modePrefixes() {
				if different, _ := tally(r.under(prefix)); different < n {
					return false
				}
			}
			return true
		}
	}
	eventually(t, "everything is delivered", all(600))
	eventually(t, "all cursors are at the end", func() bool {
		for _, s := range c.listed(alive) {
			if s.Cursor != 600 || s.Lag != 0 {
				return false
			}
		}
		return true
	})
	for _, prefix := range modePrefixes() {
		got := r.under(prefix)
		_, repeated := tally(got)
		t.Logf("%s: %d callbacks, %d repeated", prefix, len(got), repeated)
		if repeated > 300 { // the messages since the last save of the cursors, and those in flight
			t.Errorf("%s: %d repeated", prefix, repeated)
		}
	}
	if n := len(r.under("/shared/")); n != 3 {
		t.Errorf("%d of 3 members of the group received messages", n)
	}
	last := map[string]int{}
	for _, m := range r.under("/keyed")[0] {
		if before, ok := last[m.Key]; ok && m.N > before+7 {
			t.Errorf("key %s: %d after %d", m.Key, m.N, before)
		}
		last[m.Key] = max(last[m.Key], m.N)
	}
}

// pauseAndRewind pauses a subscription, rewinds it, resumes it and ends it, each through another node.
func pauseAndRewind(t *testing.T, c *devCluster, r *modal, id string, victim int) {
	t.Helper()
	alive := (victim + 1) % 3
	if status, body := c.post(alive, "/v1/subscriptions/"+id+"/pause", ""); status != 200 || !strings.Contains(body, `"paused"`) {
		t.Fatalf("pause: %d %s", status, body)
	}
	before := len(r.under("/parallel")[0])
	other := (victim + 2) % 3
	for _, dry := range []bool{true, false} {
		if status, body := c.post(other, "/v1/subscriptions/"+id+"/rewind", fmt.Sprintf(`{"to": 401, "dry_run": %v}`, dry)); status != 200 || !strings.Contains(body, `"sent_again":200,`) {
			t.Fatalf("rewind: %d %s", status, body)
		}
	}
	if status, body := c.post(other, "/v1/subscriptions/"+id+"/rewind", `{"to": 602}`); status != 400 || !strings.Contains(body, "from 1 to 601") {
		t.Errorf("rewind past the end: %d %s", status, body)
	}
	c.publishOrdered(600, 610, victim)
	eventually(t, "the others continue", func() bool { different, _ := tally(r.under("/keyed")); return different == 610 })
	if n := len(r.under("/parallel")[0]); n != before {
		t.Errorf("%d messages were delivered while paused", n-before)
	}
	c.post(other, "/v1/subscriptions/"+id+"/resume", "")
	eventually(t, "the rewound messages are delivered again", func() bool { return len(r.under("/parallel")[0]) >= before+210 })
	seen := map[int]bool{}
	for _, m := range r.under("/parallel")[0][before:] {
		if seen[m.N] || m.N < 400 {
			t.Errorf("message %d after the rewind", m.N)
		}
		seen[m.N] = true
	}
	req, _ := http.NewRequest(http.MethodDelete, c.urls[other]+"/v1/subscriptions/"+id, nil)
	if resp, err := http.DefaultClient.Do(req); err != nil || resp.StatusCode != http.StatusNoContent {
		t.Errorf("end: %v %v", resp, err)
	}
	eventually(t, "it is gone", func() bool { _, ok := c.listed(alive)["/parallel"]; return !ok })
	c.publishOrdered(610, 620, victim)
	eventually(t, "the others continue", func() bool { different, _ := tally(r.under("/turns/")); return different == 620 })
	for _, m := range r.under("/parallel")[0] {
		if m.N >= 610 {
			t.Errorf("message %d was delivered after the end", m.N)
		}
	}
}
