package gateway_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"quorumhub/test/hubtest"
)

const whichRegistry = `
version: 1
upstreams:
  which: {urls: [UPSTREAM]}
services:
  - {name: which, uri: which, versions: [{version: "1", target: "which:/", methods: [GET], auth: none}]}
  - {name: held, uri: held, versions: [{version: "1", target: "which:/held", methods: [GET], auth: none, timeout: 1m}]}
`

// whichServices returns registries that differ in the service behind, which answers one and two. Requests to /held say so, and wait.
func whichServices(t *testing.T, entered chan<- struct{}, leave <-chan struct{}) (one, two string) {
	t.Helper()
	service := func(answer string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/held" {
				entered <- struct{}{}
				<-leave
			}
			_, _ = io.WriteString(w, answer)
		}))
		t.Cleanup(s.Close)
		return strings.ReplaceAll(whichRegistry, "UPSTREAM", s.URL)
	}
	return service("one"), service("two")
}

// get returns the status and body of an answer.
func (c *trio) get(i int, path string) string {
	reply, err := c.Nodes[i].Send("GET", path, nil, nil)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(reply.Status, " ", string(reply.Body))
}

// load asks all nodes until it is stopped, and fails the test if an answer is from neither registry.
func (c *trio) load(t *testing.T) (stop func() (ones, twos int64)) {
	t.Helper()
	var asking sync.WaitGroup
	var answered [2]atomic.Int64
	ended := make(chan struct{})
	for i := range 2 * len(c.Nodes) {
		asking.Go(func() {
			for {
				select {
				case <-ended:
					return
				default:
				}
				switch got := c.get(i%3, "/gateway/which"); got {
				case "200 one":
					answered[0].Add(1)
				case "200 two":
					answered[1].Add(1)
				default:
					t.Errorf("node %d: %s", i%3, got)
					return
				}
			}
		})
	}
	return func() (int64, int64) {
		close(ended)
		asking.Wait()
		return answered[0].Load(), answered[1].Load()
	}
}

// A registry is replaced under load: no request fails, each is answered by one registry or the other, and a node that was away
// catches up.
func TestRegistryIsReplacedUnderLoad(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}, 8), make(chan struct{})
	one, two := whichServices(t, entered, leave)
	c := newTrio(t)
	c.apply(t, 0, one, nil, nil)
	held := make(chan string, len(c.Nodes))
	for i := range c.Nodes {
		go func() { held <- c.get(i, "/gateway/held") }()
		<-entered
	}
	stop := c.load(t)
	everywhere := func(want, when string) {
		t.Helper()
		for i := range c.Nodes {
			if got := c.get(i, "/gateway/which"); got != want {
				t.Errorf("%s, node %d: %s, want %s", when, i, got, want)
			}
		}
	}
	for round := range 5 {
		text, want := two, "200 two"
		if round%2 == 1 {
			text, want = one, "200 one"
		}
		c.apply(t, round%3, text, nil, nil)
		everywhere(want, fmt.Sprint("round ", round))
	}
	c.refusesRegistries(t, one)
	everywhere("200 two", "after bad registries")
	ones, twos := stop()
	close(leave)
	for range c.Nodes {
		if got := <-held; got != "200 one" {
			t.Errorf("a request from before the first change got %s, want what it began with", got)
		}
	}
	if ones == 0 || twos == 0 {
		t.Errorf("%d and %d answers of the two registries", ones, twos)
	}
	t.Logf("%d requests", ones+twos)

	// A node that is away learns of it when it is back.
	c.Kill(t, 2)
	c.apply(t, 0, one, nil, nil)
	c.Start(t, 2)
	hubtest.Eventually(t, "the node that was away serves the new registry", func() error {
		if got := c.get(2, "/gateway/which"); got != "200 one" {
			return fmt.Errorf("got %s", got)
		}
		return nil
	})
}

// TestRegistryThatLeadsBack: a service is the load balancer in front of the hub. A request goes round a few times, and not
// without end.
func TestRegistryThatLeadsBack(t *testing.T) {
	t.Parallel()
	c := newTrio(t)
	var passed atomic.Int64
	balancer := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		node, err := url.Parse(c.Nodes[passed.Add(1)%3].URL)
		if err != nil {
			t.Error(err)
		}
		r.SetURL(node)
	}})
	defer balancer.Close()
	c.apply(t, 1, fmt.Sprintf(`
version: 1
upstreams:
  balancer: {urls: [%q], retry: 2}
services:
  - {name: round, uri: round, versions: [{version: "1", target: "balancer:/gateway/round", methods: [GET], auth: none}]}
`, balancer.URL), nil, nil)
	reply := c.Nodes[1].Do(t, "GET", "/gateway/round", nil, nil)
	if n := passed.Load(); reply.Status != http.StatusBadGateway || n == 0 || n > 30 { // three, and what is repeated
		t.Errorf("%v after %d passes", reply, n)
	}
	t.Logf("%d passes", passed.Load())
}

// refusesRegistries applies registries that are wrong in one way each.
func (c *trio) refusesRegistries(t *testing.T, good string) {
	t.Helper()
	for name, text := range map[string]string{
		"no YAML":          good + "  - {",
		"no upstream":      strings.ReplaceAll(good, "which:/", "gone:/"),
		"an unknown key":   strings.Replace(good, "upstreams:", "upstraems:", 1),
		"the hub itself":   strings.Replace(good, "upstreams:\n  which: {urls: [", "upstreams:\n  self: {urls: ["+c.Nodes[1].URL+"]}\n  which: {urls: [", 1),
		"an unknown geo":   strings.ReplaceAll(good, "auth: none", "auth: nobody"),
		"the hub's routes": strings.Replace(good, "version: 1\n", "version: 1\nprefix: /v1\n", 1),
	} {
		body, err := json.Marshal(map[string]any{"text": text})
		if err != nil {
			t.Fatal(err)
		}
		reply := c.Nodes[1].Do(t, "PUT", "/v1/gateway", http.Header{"X-Api-Key": {c.key}, "Content-Type": {"application/json"}}, body)
		if reply.Status != http.StatusBadRequest || !strings.Contains(string(reply.Body), `"errors":[{"`) {
			t.Errorf("%s: %v, want a refusal that says where", name, reply)
		}
	}
}
