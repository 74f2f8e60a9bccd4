package cli_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// callbacks serves several callbacks by path. They respond as the test wants and remember everything.
type callbacks struct {
	*httptest.Server
	answer func(w http.ResponseWriter, a arrival) // nil: 200 at once; holds no lock

	mu     sync.Mutex
	got    []arrival
	under  map[string]int // requests that are being answered, by path; "" stands for all
	most   map[string]int // of these, at most at a time
	asked  map[string]int // verifications of intent
	denied map[string]url.Values
}

// arrival is one delivery.
type arrival struct {
	path, id, body string
	header         http.Header
	at             time.Time
	nth            int // of the path's, from 1
	under          int // requests to the path in progress, including this one
}

func newCallbacks(t *testing.T, answer func(http.ResponseWriter, arrival)) *callbacks {
	c := &callbacks{answer: answer, under: map[string]int{}, most: map[string]int{}, asked: map[string]int{}, denied: map[string]url.Values{}}
	c.Server = httptest.NewServer(http.HandlerFunc(c.serve))
	t.Cleanup(c.Close)
	return c
}

func (c *callbacks) serve(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	if q := r.URL.Query(); r.Method == http.MethodGet {
		c.mu.Lock()
		defer c.mu.Unlock()
		if q.Get("hub.mode") == "denied" {
			c.denied[path] = q
			return
		}
		c.asked[path]++
		_, _ = io.WriteString(w, q.Get("hub.challenge"))
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	a := arrival{path: path, id: r.Header.Get("X-Hub-Message-Id"), body: string(body), header: r.Header, at: time.Now()}
	c.mu.Lock()
	for _, p := range []string{path, ""} {
		c.under[p]++
		c.most[p] = max(c.most[p], c.under[p])
	}
	a.under = c.under[path]
	a.nth = 1
	for _, b := range c.got {
		if b.path == path {
			a.nth++
		}
	}
	c.got = append(c.got, a)
	c.mu.Unlock()
	if c.answer != nil {
		c.answer(w, a)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.under[path]--
	c.under[""]--
}

// at returns the deliveries to the paths with a prefix, in order of arrival.
func (c *callbacks) at(prefix string) (out []arrival) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.got {
		if strings.HasPrefix(a.path, prefix) {
			out = append(out, a)
		}
	}
	return out
}

// bodies returns the bodies delivered to the paths with a prefix.
func (c *callbacks) bodies(prefix string) string {
	var out []string
	for _, a := range c.at(prefix) {
		out = append(out, a.body)
	}
	return strings.Join(out, " ")
}

// different counts the distinct bodies delivered to the paths with a prefix.
func (c *callbacks) different(prefix string) int {
	seen := map[string]bool{}
	for _, a := range c.at(prefix) {
		seen[a.body] = true
	}
	return len(seen)
}

func (c *callbacks) mostUnder(path string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.most[path]
}

// verified returns how often the intent of a path was verified.
func (c *callbacks) verified(path string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked[path]
}

func (c *callbacks) denial(path string) url.Values {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.denied[path]
}

// active waits until these callbacks have active subscriptions on all nodes, and returns their IDs.
func (c *devCluster) active(paths ...string) map[string]string {
	c.t.Helper()
	ids := map[string]string{}
	for i := range c.urls {
		eventually(c.t, fmt.Sprintf("%v are active on node-%d", paths, i+1), func() bool {
			list := c.listed(i)
			for _, p := range paths {
				if list[p].State != "active" || list[p].Node == "" {
					return false
				}
				ids[p] = list[p].ID
			}
			return true
		})
	}
	return ids
}

// other returns a node that does not own a subscription.
func (c *devCluster) other(path string) int {
	owner := slices.IndexFunc([]string{"node-1", "node-2", "node-3"}, func(id string) bool { return id == c.listed(0)[path].Node })
	return (owner + 1) % 3
}

// say publishes bodies to topic t one after the other, through the nodes in turn.
func (c *devCluster) say(bodies ...string) {
	c.t.Helper()
	for _, b := range bodies {
		i := c.said % len(c.urls)
		c.said++
		if status, text := c.post(i, "/topics/t", b); status != http.StatusOK {
			c.t.Fatalf("publish through node-%d: %d %s", i+1, status, text)
		}
	}
}

// refused checks that a subscribe request is refused with a message about the parameter.
func (c *devCluster) refused(i, status int, says string, params ...string) {
	c.t.Helper()
	form := url.Values{"hub.mode": {"subscribe"}, "hub.topic": {c.urls[0] + "/topics/t"}, "hub.callback": {"http://127.0.0.1:9999/bad"}}
	for k := 0; k < len(params); k += 2 {
		form.Set(params[k], params[k+1])
	}
	resp, err := http.PostForm(c.urls[i]+"/hub", form)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != status || !strings.Contains(string(body), says) {
		c.t.Errorf("%v through node-%d: %d %s\nwant %d with %q", params, i+1, resp.StatusCode, body, status, says)
	}
}
