package cli_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// letter is a dead letter as the API lists it.
type letter struct {
	ID, Topic, Callback, Reason string
	Subscription                string
	Attempts, Status            int
}

// chosen returns the dead letters that node i lists for a filter.
func (c *devCluster) chosen(i int, filter string) (out []letter) {
	var page struct{ Items []letter }
	if c.get(i, "/v1/dead-letters?"+filter, &page) {
		out = page.Items
	}
	return out
}

// A message is attempted as often as the hub or the subscription says. Dead letters can be filtered by what went wrong, on any node.
func TestRetriesOfACluster(t *testing.T) {
	c := startDevCluster(t, 3, "delivery.retry.initial=10ms", "delivery.retry.max_attempts=5", "delivery.retry.refused_attempts=2", "delivery.timeout=500ms")
	var well atomic.Bool
	r := newCallbacks(t, func(w http.ResponseWriter, a arrival) {
		switch {
		case well.Load():
		case strings.HasPrefix(a.path, "/down"):
			w.WriteHeader(http.StatusServiceUnavailable)
		case strings.HasPrefix(a.path, "/refuse"):
			w.WriteHeader(http.StatusUnprocessableEntity)
		case strings.HasPrefix(a.path, "/late"):
			time.Sleep(time.Second) // longer than the hub waits
		case strings.HasPrefix(a.path, "/busy") && a.nth == 1:
			w.Header().Set("Retry-After", "2")
			w.WriteHeader(http.StatusTooManyRequests)
		}
	})
	told := newEvents(t)
	c.subscribeWith(0, "hub.topic", c.urls[0]+"/topics/hub.events", "hub.callback", told.URL+"/events")
	c.active("/events")
	for i, params := range [][]string{
		{"/down"}, {"/refuse"}, {"/down/own", "hub.retry.max_attempts", "2"}, {"/refuse/own", "hub.retry.refused_attempts", "4"},
		{"/down/parallel", "hub.delivery_mode", "parallel"}, {"/refuse/keyed", "hub.delivery_key", "header:X-Hub-Key", "hub.retry.refused_attempts", "3"},
		{"/late", "hub.retry.max_attempts", "1"}, {"/busy"}, {"/well"},
	} {
		c.subscribeWith(i%3, append([]string{"hub.callback", r.URL + params[0]}, params[1:]...)...)
	}
	ids := c.active("/down", "/refuse", "/down/own", "/refuse/own", "/down/parallel", "/refuse/keyed", "/late", "/busy", "/well")
	c.say("one")
	want := map[string]int{"/down": 5, "/refuse": 2, "/down/own": 2, "/refuse/own": 4, "/down/parallel": 5, "/refuse/keyed": 3, "/late": 1}
	checkLetters(t, c, r, ids, want)
	// hub.events reports when attempts are exhausted.
	for path, tries := range want {
		eventually(t, "the events report the trouble of "+path, func() bool {
			kinds := told.of(ids[path])
			return strings.HasPrefix(kinds, "verified ") && strings.Contains(kinds, " exhausted") && strings.Contains(kinds, " failing") == (tries >= 3)
		})
	}
	eventually(t, "what Retry-After postponed is delivered", func() bool { return len(r.at("/busy")) == 2 })
	if busy := r.at("/busy"); busy[1].at.Sub(busy[0].at) < 1900*time.Millisecond {
		t.Errorf("attempted again %v after Retry-After: 2", busy[1].at.Sub(busy[0].at))
	}
	if got := r.bodies("/well"); got != "one" {
		t.Errorf("the working callback received %s", got)
	}
	// They report pause and resume, too.
	for _, action := range []string{"pause", "resume"} {
		if got := run(t, "", "subscriptions", action, ids["/well"], "--hub", c.urls[c.other("/well")]); got.code != 0 {
			t.Errorf("%+v", got)
		}
	}
	eventually(t, "the events report pause and resume", func() bool { return told.of(ids["/well"]) == "verified paused resumed" })
	dropOne(t, c, ids)
	replayAll(t, c, r, &well, want)
}

// checkLetters checks the dead letters on every node: attempts and filters.
func checkLetters(t *testing.T, c *devCluster, r *callbacks, ids map[string]string, want map[string]int) {
	t.Helper()
	for i := range c.urls {
		eventually(t, "all dead letters are on the node", func() bool { return len(c.chosen(i, "")) == len(want) })
		for _, d := range c.chosen(i, "") {
			path := strings.TrimPrefix(d.Callback, r.URL)
			if d.Attempts != want[path] || len(slices.DeleteFunc(r.at(path), func(a arrival) bool { return a.path != path })) != want[path] {
				t.Errorf("node-%d: %s was given up after %d attempts, want %d", i+1, path, d.Attempts, want[path])
			}
		}
		for filter, paths := range map[string]string{
			"status=503": "/down /down/own /down/parallel", "status=4xx": "/refuse /refuse/keyed /refuse/own", "status=none": "/late", "reason=timeout": "/late",
			"callback=" + r.URL + "/refuse": "/refuse", "subscription=" + ids["/down/own"]: "/down/own", "topic=t&status=422": "/refuse /refuse/keyed /refuse/own", "topic=other": "",
		} {
			var got []string
			for _, d := range c.chosen(i, filter) {
				got = append(got, strings.TrimPrefix(d.Callback, r.URL))
			}
			slices.Sort(got)
			if strings.Join(got, " ") != paths {
				t.Errorf("node-%d: %s chooses %v, want %s", i+1, filter, got, paths)
			}
		}
	}
}

// dropOne drops a dead letter through one node; it disappears from all.
func dropOne(t *testing.T, c *devCluster, ids map[string]string) {
	t.Helper()
	through := c.urls[c.other("/down")]
	first := c.chosen(0, "subscription="+ids["/down"])[0].ID
	if got := run(t, "", "dead-letters", "drop", first, "--hub", through); got.code != 0 {
		t.Errorf("%+v", got)
	}
	for i, url := range c.urls {
		eventually(t, "it is gone on all nodes", func() bool { return len(c.chosen(i, "subscription="+ids["/down"])) == 0 })
		if got := run(t, "", "dead-letters", "show", first, "--hub", url); got.code != 4 || !strings.Contains(got.err, first) {
			t.Errorf("%+v", got)
		}
	}
}

// replayAll replays the dead letters of one kind and then all, each to its own subscription.
func replayAll(t *testing.T, c *devCluster, r *callbacks, well *atomic.Bool, want map[string]int) {
	t.Helper()
	through := c.urls[c.other("/down")]
	well.Store(true)
	if got := run(t, "", "dead-letters", "replay", "--status", "4xx", "--hub", c.urls[c.other("/refuse")]); got.code != 0 || !strings.Contains(got.out, "3 selected, 3 queued for replay") {
		t.Errorf("%+v", got)
	}
	for i := range c.urls {
		eventually(t, "they are gone", func() bool { return len(c.chosen(i, "status=4xx")) == 0 })
	}
	if left := len(c.chosen(0, "")); left != 3 {
		t.Errorf("%d letters are left, want 3", left)
	}
	if got := run(t, "", "dead-letters", "replay", "--all", "--hub", through); got.code != 0 || !strings.Contains(got.out, "3 selected, 3 queued for replay") {
		t.Errorf("%+v", got)
	}
	for i := range c.urls {
		eventually(t, "no letter is left", func() bool { return len(c.chosen(i, "")) == 0 })
	}
	for path, tries := range want {
		n := 0
		for _, a := range r.at(path) {
			if a.path == path {
				n++
			}
		}
		if path != "/down" {
			tries++
		}
		if n != tries {
			t.Errorf("%s had %d attempts with its replay, want %d", path, n, tries)
		}
	}
}

// An endpoint that is down is probed with one message. After the first success it gets everything, without waiting for a backoff.
func TestASickEndpointOfACluster(t *testing.T) {
	c := startDevCluster(t, 3, "delivery.retry.initial=20ms", "delivery.retry.max_interval=1m")
	var well atomic.Bool
	r := newCallbacks(t, func(w http.ResponseWriter, _ arrival) {
		if !well.Load() {
			w.WriteHeader(http.StatusBadGateway)
		}
		time.Sleep(10 * time.Millisecond) // so that concurrent requests overlap
	})
	c.subscribeWith(1, "hub.callback", r.URL+"/parallel", "hub.delivery_window", "8")
	c.subscribeWith(2, "hub.callback", r.URL+"/ordered")
	c.active("/parallel", "/ordered")
	const messages, failures = 40, 7
	tried := func(n int) {
		t.Helper()
		for _, path := range []string{"/parallel", "/ordered"} {
			eventually(t, fmt.Sprintf("%s has had %d attempts", path, n), func() bool { return len(r.at(path)) >= n })
		}
	}
	c.say("0")
	tried(2)
	for n := 1; n < messages; n++ {
		c.say(fmt.Sprint(n))
	}
	tried(failures)
	if most := r.mostUnder("/parallel"); most > 1 {
		t.Errorf("%d requests at a time to an endpoint that is down", most)
	}
	probes := map[string]int{"/parallel": len(r.at("/parallel")), "/ordered": len(r.at("/ordered"))}
	well.Store(true)
	for _, path := range []string{"/parallel", "/ordered"} {
		eventually(t, path+" gets everything", func() bool { return r.different(path) == messages && len(r.at(path)) >= probes[path]+messages })
		got := r.at(path)
		first := slices.IndexFunc(got, func(a arrival) bool { return a.at.After(got[probes[path]-1].at) })
		took := got[len(got)-1].at.Sub(got[first].at)
		t.Logf("%s: %d probes, then %d messages in %v, up to %d at a time", path, probes[path], len(got)-first, took, r.mostUnder(path))
		if took > 10*time.Second {
			t.Errorf("%s: it took %v after the first success", path, took)
		}
	}
	if r.mostUnder("/parallel") < 2 {
		t.Errorf("the window did not open again")
	}
	if r.mostUnder("/parallel") > 8 || r.mostUnder("/ordered") > 1 {
		t.Errorf("up to %d at a time in parallel, %d in order", r.mostUnder("/parallel"), r.mostUnder("/ordered"))
	}
}

// The limits on a subscription's rate and on requests in flight to one host hold wherever the subscriptions are delivered.
func TestLimitsOfACluster(t *testing.T) {
	c := startDevCluster(t, 3, "delivery.host_concurrency=2")
	r := newCallbacks(t, func(_ http.ResponseWriter, a arrival) {
		if a.path != "/rate" {
			time.Sleep(20 * time.Millisecond)
		}
	})
	paths := []string{"/rate"}
	c.subscribeWith(1, "hub.callback", r.URL+"/rate", "hub.rate", "20")
	for i := range 6 {
		paths = append(paths, fmt.Sprintf("/wide/%d", i))
		c.subscribeWith(i%3, "hub.callback", r.URL+paths[i+1], "hub.delivery_mode", "parallel", "hub.delivery_window", "16")
	}
	c.active(paths...)
	const messages = 30
	for n := range messages {
		c.say(fmt.Sprint(n))
	}
	eventually(t, "everything is delivered", func() bool {
		return len(r.at("/rate")) == messages && len(r.at("/wide/")) == 6*messages
	})
	// 20 per second, after a burst of a tenth of a second.
	got := r.at("/rate")
	if took := got[messages-1].at.Sub(got[0].at); took < 1300*time.Millisecond {
		t.Errorf("%d messages in %v at 20 a second", messages, took)
	}
	// Each node keeps to its limit.
	if most := r.mostUnder(""); most > 3*2 || most < 2 {
		t.Errorf("%d requests were in flight to the host at once; three nodes may have two each", most)
	}
	for _, path := range paths {
		if most := r.mostUnder(path); most > 2 {
			t.Errorf("%d requests were in flight to %s at once, want at most 2", most, path)
		}
	}
}
