package gateway_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
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

// A registry is replaced under load: no request fails, each is answered by one registry or the other, and a node that was away
// catches up.
func TestRegistryIsReplacedUnderLoad(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}, 8), make(chan struct{})
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
	one, two := service("one"), service("two")
	c := newTrio(t)
	c.apply(t, 0, one, nil, nil)

	held := make(chan string, len(c.Nodes))
	for _, n := range c.Nodes {
		go func() {
			reply, err := n.Send("GET", "/gateway/held", nil, nil)
			if err != nil {
				held <- err.Error()
				return
			}
			held <- fmt.Sprint(reply.Status, " ", string(reply.Body))
		}()
		<-entered
	}
	ask := func(i int) string {
		reply, err := c.Nodes[i].Send("GET", "/gateway/which", nil, nil)
		if err != nil {
			return err.Error()
		}
		return fmt.Sprint(reply.Status, " ", string(reply.Body))
	}
	stop := make(chan struct{})
	var load sync.WaitGroup
	var answered [2]atomic.Int64
	for i := range c.Nodes {
		for range 2 {
			load.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					switch got := ask(i); got {
					case "200 one":
						answered[0].Add(1)
					case "200 two":
						answered[1].Add(1)
					default:
						t.Errorf("node %d: %s", i, got)
						return
					}
				}
			})
		}
	}
	for round := range 4 {
		text, want := two, "200 two"
		if round%2 == 1 {
			text, want = one, "200 one"
		}
		c.apply(t, round%3, text, nil, nil)
		for i := range c.Nodes {
			if got := ask(i); got != want {
				t.Errorf("round %d, node %d: %s, want %s", round, i, got, want)
			}
		}
	}
	c.apply(t, 1, two, nil, nil)
	c.refusesRegistries(t, two)
	for i := range c.Nodes {
		if got := ask(i); got != "200 two" {
			t.Errorf("after bad registries, node %d: %s", i, got)
		}
	}
	close(stop)
	load.Wait()
	close(leave)
	for range c.Nodes {
		if got := <-held; got != "200 one" {
			t.Errorf("a request from before the first change got %s, want what it began with", got)
		}
	}
	if answered[0].Load() == 0 || answered[1].Load() == 0 {
		t.Errorf("%d and %d answers of the two registries", answered[0].Load(), answered[1].Load())
	}
	t.Logf("%d requests", answered[0].Load()+answered[1].Load())

	// A node that is away learns of it when it is back.
	c.Kill(t, 2)
	c.apply(t, 0, one, nil, nil)
	c.Start(t, 2)
	hubtest.Eventually(t, "the node that was away serves the new registry", func() error {
		if got := ask(2); got != "200 one" {
			return fmt.Errorf("got %s", got)
		}
		return nil
	})
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
		if reply.Status != http.StatusBadRequest || !strings.Contains(string(reply.Body), `"path":"`) && name != "no YAML" {
			t.Errorf("%s: %v, want a refusal that says where", name, reply)
		}
	}
}
