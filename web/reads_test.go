package web_test

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"quorumhub/hub"
	"quorumhub/web"
)

// reads is a node that has applied 10 entries.
type reads struct {
	consistent atomic.Int64
	noLeader   bool
}

func (r *reads) Written() uint64 { return 7 }

func (r *reads) AwaitIndex(_ context.Context, index uint64) error {
	if index > 10 {
		return hub.Errorf(hub.CodeUnavailable, "this node has applied entry 10 but not yet %d; try again shortly, or try another node", index)
	}
	return nil
}

func (r *reads) Consistent(context.Context) error {
	if r.noLeader {
		return hub.ErrNoLeader
	}
	r.consistent.Add(1)
	return nil
}

func TestReadsWait(t *testing.T) {
	node := new(reads)
	f := newFixture(t, func(_ *hub.Policy, o *web.Options) { o.Reads = node })
	w := f.send("POST", "/topics/news", "hello")
	want(t, w, http.StatusOK)
	if got := w.Header().Get("X-Hub-Index"); got != "7" {
		t.Errorf("the response to a write has index %q, want 7", got)
	}
	for _, path := range []string{"/topics/news", "/topics/news?offset=1", "/v1/topics", "/v1/topics?limit=5", "/v1/subscriptions", "/v1/cluster", "/v1/dead-letters"} {
		sep := "?"
		if strings.Contains(path, "?") {
			sep = "&"
		}
		w := f.send("GET", path+sep+"min_index=10&consistent=true", "")
		want(t, w, http.StatusOK)
		if w.Header().Get("X-Hub-Index") != "" {
			t.Errorf("%s: the response to a read has X-Hub-Index", path)
		}
		if n := node.consistent.Swap(0); n != 1 {
			t.Errorf("%s: %d consistent reads, want 1", path, n)
		}
		late := f.send("GET", path+sep+"min_index=11", "")
		if body := want(t, late, http.StatusServiceUnavailable); late.Header().Get("Retry-After") == "" || !strings.Contains(body, "entry 10 but not yet 11") {
			t.Errorf("%s: %v %s", path, late.Header(), body)
		}
		if f.send("GET", path+sep+"consistent=false", ""); node.consistent.Load() != 0 {
			t.Errorf("%s: consistent=false asked the leader", path)
		}
		for _, c := range []struct{ query, names string }{
			{"min_index=", "min_index: "}, {"min_index=-1", "min_index: "}, {"min_index=x", "min_index: "}, {"min_index=1&min_index=2", "min_index: "},
			{"consistent=", "consistent: "}, {"consistent=yes", "consistent: "}, {"consistent=true&consistent=true", "consistent: "},
		} {
			if body := want(t, f.send("GET", path+sep+c.query, ""), http.StatusBadRequest); !strings.Contains(body, c.names) {
				t.Errorf("%s with %s: %s", path, c.query, body)
			}
		}
	}
	node.noLeader = true
	if w := f.send("GET", "/v1/topics?consistent=true", ""); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
		t.Errorf("without a leader: %d %v", w.Code, w.Header())
	}
	want(t, f.send("GET", "/v1/topics", ""), http.StatusOK)
}
