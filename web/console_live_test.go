package web_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"quorumhub/figures"
	"quorumhub/hub"
	"quorumhub/web"
	"quorumhub/web/view"
)

// gauges are figures that the test sets. They count how often somebody looks.
type gauges struct {
	looks   atomic.Int64
	picture atomic.Pointer[figures.Picture]
}

func newGauges() *gauges {
	g := new(gauges)
	g.set(figures.Rates{Published: 12})
	return g
}

func (g *gauges) set(now figures.Rates) {
	g.picture.Store(&figures.Picture{At: time.Now(), Now: now, Nodes: []figures.NodeFigures{{Node: "node-1", Rates: now,
		Status: figures.Status{Hears: []figures.Heard{{Node: "node-2", Alive: true}, {Node: "node-3", Silent: 90_000}}}}},
		Missing: []string{}, Failing: []figures.Failing{}, Series: make([]figures.Point, figures.Kept)})
}

func (g *gauges) Picture(context.Context) *figures.Picture {
	g.looks.Add(1)
	return g.picture.Load()
}

// liveSwap is an event of a live page.
type liveSwap struct{ ID, HTML string }

// watchLive opens the live updates of a page and sends what arrives.
func (r *running) watchLive(t *testing.T, ctx context.Context, path string, header ...string) (status int, swaps <-chan liveSwap) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.addr+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	out := make(chan liveSwap, 100)
	go func() {
		defer close(out)
		defer resp.Body.Close()
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			var s liveSwap
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok && json.Unmarshal([]byte(data), &s) == nil {
				out <- s
			}
		}
	}()
	return resp.StatusCode, out
}

// await returns the next swap of a fragment with a text in it.
func await(t *testing.T, swaps <-chan liveSwap, id, text string) liveSwap {
	t.Helper()
	late := time.After(15 * time.Second)
	for {
		select {
		case s, ok := <-swaps:
			if !ok {
				t.Fatalf("the stream ended before %s has %q", id, text)
			}
			if s.ID == id && strings.Contains(s.HTML, text) {
				return s
			}
		case <-late:
			t.Fatalf("%s never has %q", id, text)
		}
	}
}

// What has changed arrives by itself, whoever looks at the same page shares one producer, and nothing is left when they leave.
func TestLivePagesShareAProducer(t *testing.T) {
	g := newGauges()
	r := start(t, func(_ *hub.Policy, o *web.Options) { o.Figures = g })
	before := runtime.NumGoroutine()
	ctx, leave := context.WithCancel(t.Context())
	var all []<-chan liveSwap
	for range 20 {
		status, swaps := r.watchLive(t, ctx, "/console/?live=1")
		if status != http.StatusOK {
			t.Fatalf("got %d", status)
		}
		all = append(all, swaps)
	}
	for _, swaps := range all {
		if s := await(t, swaps, "overview-rates", "12/s"); !strings.HasPrefix(s.HTML, `<dl id="overview-rates"`) {
			t.Errorf("the fragment is %q", s.HTML)
		}
	}
	begin, looks := time.Now(), g.looks.Load()
	if looks > 4 {
		t.Errorf("%d looks for 20 viewers", looks)
	}
	g.set(figures.Rates{Published: 3456})
	for _, swaps := range all {
		await(t, swaps, "overview-rates", "3,456/s")
	}
	if most := int64(time.Since(begin)/(2*time.Second)) + 2; g.looks.Load()-looks > most {
		t.Errorf("%d looks in %v", g.looks.Load()-looks, time.Since(begin))
	}
	for _, swaps := range all {
		select {
		case s := <-swaps:
			if s.ID == "overview-nodes" && s.HTML == "" {
				t.Error("an empty fragment")
			}
		default:
		}
	}
	leave()
	for _, swaps := range all {
		for range swaps { //nolint:revive // wait until it has ended
		}
	}
	r.client.CloseIdleConnections()
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
	}
	looks = g.looks.Load()
	time.Sleep(2500 * time.Millisecond)
	if g.looks.Load() != looks {
		t.Error("the producer works although nobody looks")
	}
}

// A live page ends with the right to see it, and with the server; those who see only what is theirs share nothing with operators.
func TestLivePagesEndWithTheRight(t *testing.T) {
	g := newGauges()
	o := newOwned(t, "", func(_ *hub.Policy, op *web.Options) { op.Figures, op.StreamHeartbeat = g, 100*time.Millisecond })
	r := serve(t, o.fixture)
	if status, _ := r.watchLive(t, t.Context(), "/console/?live=1"); status != http.StatusUnauthorized {
		t.Errorf("without credentials: %d", status)
	}
	// The page of those who are no operators is not live; what it has is theirs.
	if _, body, _ := o.browse("/console/", "X-API-Key", o.alice); strings.Contains(body, "data-live") || strings.Contains(body, "node-1</b>") || !strings.Contains(body, "Your subscriptions") {
		t.Errorf("alice sees %s", body)
	}
	key := o.key(t, "viewer", "view")
	want(t, o.as(o.root, http.MethodPut, "/v1/auth/rules/viewers", `{"may":["admin.view"],"who":[{"scope":"view"}]}`, "Content-Type", "application/json"), http.StatusOK)
	status, swaps := r.watchLive(t, t.Context(), "/console/?live=1", "X-API-Key", key)
	if status != http.StatusOK {
		t.Fatalf("got %d", status)
	}
	await(t, swaps, "overview-rates", "12/s")
	want(t, o.as(o.root, http.MethodDelete, "/v1/auth/rules/viewers", ""), http.StatusNoContent)
	late := time.After(10 * time.Second)
	for open := true; open; {
		select {
		case _, open = <-swaps:
		case <-late:
			t.Fatal("the page stays live although its viewer may not see it any more")
		}
	}
	if _, body, h := o.browse("/console/?live=1", "X-API-Key", key); h.Get("Content-Type") == "text/event-stream" || strings.Contains(body, "node-1</b>") {
		t.Errorf("afterwards it gets %v %s", h, body)
	}
}

func TestTheClusterPage(t *testing.T) {
	g, n := newGauges(), &nodes{}
	f := newFixture(t, func(_ *hub.Policy, o *web.Options) { o.Figures, o.Membership = g, n })
	f.set(func(n *node) {
		for _, id := range []string{"node-2", "node-3"} {
			n.nodes = append(n.nodes, view.Node{ID: id, Role: view.RoleFollower, Voter: true, Healthy: true, AppliedIndex: 5, Subscriptions: 1, ClockOffset: 2 * time.Second})
		}
		n.nodes[2].Role = view.RoleDown
	})
	_, body, _ := f.browse("/console/cluster")
	for _, text := range []string{"3 nodes, 3 votes; node-1 leads. If one more voter fails", "2 behind", "2.0 s ahead", "60&#32;%", ">down<", "node-1 does not hear node-3",
		"node-1 and node-2 hear each other", "no answer for 1 min", `action="/console/cluster/nodes/node-2/demote"`, `href="/console/cluster/backup"`} {
		if !strings.Contains(body, text) && !strings.Contains(body, strings.ReplaceAll(text, "&#32;", " ")) {
			t.Errorf("the page lacks %q", text)
		}
	}
	if t.Failed() {
		t.Log(body)
	}
}
