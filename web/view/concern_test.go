package view_test

import (
	"strings"
	"testing"
	"time"

	"quorumhub/figures"
	"quorumhub/hub"
	"quorumhub/web/view"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// healthy is a cluster of three of which nothing is to be said.
func healthy() *view.Health {
	h := &view.Health{Now: now, Leader: "a", Picture: &figures.Picture{At: now}}
	for _, id := range []string{"a", "b", "c"} {
		n := view.Node{ID: id, Role: view.RoleFollower, Voter: true, Healthy: true, AppliedIndex: 7, StateHash: 9}
		if id == "a" {
			n.Role = view.RoleLeader
		}
		h.Nodes = append(h.Nodes, n)
		h.Picture.Nodes = append(h.Picture.Nodes, figures.NodeFigures{Node: id, Status: figures.Status{FreeDiskBytes: 50 << 30, MinFreeBytes: 64 << 20,
			Endings: []figures.Ending{{What: "the certificate for HTTPS", Begins: now.AddDate(0, -6, 0), Ends: now.AddDate(0, 6, 0)}}}})
	}
	return h
}

// Whatever is wrong is said in a sentence that names it, and what does not work comes before what may not.
func TestConcerns(t *testing.T) {
	if c := healthy().Concerns(); len(c) != 0 {
		t.Fatalf("of a healthy cluster: %+v", c)
	}
	for name, c := range map[string]struct {
		spoil func(h *view.Health)
		kind  view.ConcernKind
		bad   bool
		want  string
	}{
		"no leader":      {func(h *view.Health) { h.Leader = "" }, view.ConcernCluster, true, "No node leads"},
		"a node is down": {func(h *view.Health) { h.Nodes[2].Role = view.RoleDown }, view.ConcernCluster, true, "c is down: if one more voter fails"},
		"no quorum": {func(h *view.Health) { h.Nodes[1].Role, h.Nodes[2].Role = view.RoleDown, view.RoleDown }, view.ConcernCluster, true,
			"b, c are down: nothing can be published"},
		"behind":     {func(h *view.Health) { h.Nodes[1].Healthy = false }, view.ConcernCluster, false, "b has not caught up"},
		"hashes":     {func(h *view.Health) { h.Nodes[1].StateHash = 8 }, view.ConcernCluster, true, "a and b have different states after the same entries (7)"},
		"disk full":  {func(h *view.Health) { h.Picture.Nodes[1].Status.DiskFull = true }, view.ConcernDisk, true, "The disk of b is full"},
		"disk short": {func(h *view.Health) { h.Picture.Nodes[1].Status.FreeDiskBytes = 100 << 20 }, view.ConcernDisk, false, "The disk of b has 100 MiB left"},
		"failing": {func(h *view.Health) {
			h.Picture.Now.FailingNow = 3
			h.Picture.Failing = []figures.Failing{{Subscription: "s-17", Status: 503, Since: now.Add(-2 * time.Hour)}}
		}, view.ConcernFailing, true, "3 subscriptions are failing; s-17 for longest, for 2 h (HTTP 503)."},
		"failing without an answer": {func(h *view.Health) {
			h.Picture.Now.FailingNow = 1
			h.Picture.Failing = []figures.Failing{{Subscription: "s-17", Reason: "timeout", Since: now.Add(-2 * time.Minute)}}
		}, view.ConcernFailing, true, "1 subscription is failing; s-17 for longest, for 2 min (timeout)."},
		"lag":         {func(h *view.Health) { h.Picture.Now.Oldest, h.Picture.Now.Lag = 300, 40 }, view.ConcernLag, false, "40 messages wait to be delivered, the oldest for 5 min."},
		"letters":     {func(h *view.Health) { h.Counts = hub.Counts{DeadLetters: 1} }, view.ConcernLetters, false, "1 message was given up"},
		"keys ended":  {func(h *view.Health) { h.KeysEnded = 2 }, view.ConcernKeys, true, "2 subscriptions have encryption keys that have ended"},
		"keys ending": {func(h *view.Health) { h.KeysEnding = 1 }, view.ConcernKeys, false, "1 encryption key of a subscription ends within a month."},
		"gateway":     {func(h *view.Health) { h.Gateway = []string{"service address: no target."} }, view.ConcernGateway, true, "service address: no target."},
		"an issuer": {func(h *view.Health) {
			h.Picture.Nodes[2].Status.NotReady = []string{"the keys of issuer idp are not there"}
		}, view.ConcernCluster, true,
			"c takes no requests: the keys of issuer idp are not there."},
		"a warning": {func(h *view.Health) {
			for i := range h.Picture.Nodes {
				h.Picture.Nodes[i].Status.Warnings = []string{"the clock of b is 3 s ahead"}
			}
		}, view.ConcernSettings, false, "the clock of b is 3 s ahead."},
		"a certificate ends": {func(h *view.Health) { h.Picture.Nodes[0].Status.Endings[0].Ends = now.AddDate(0, 0, 20) }, view.ConcernKeys, false,
			"Of a, the certificate for HTTPS ends in 20 days."},
		"a certificate has ended": {func(h *view.Health) { h.Picture.Nodes[0].Status.Endings[0].Ends = now.AddDate(0, 0, -3) }, view.ConcernKeys, true,
			"Of a, the certificate for HTTPS has ended 3 days ago."},
	} {
		h := healthy()
		c.spoil(h)
		got := h.Concerns()
		if len(got) != 1 || got[0].Kind != c.kind || got[0].Bad != c.bad || !strings.Contains(got[0].Text, c.want) || !strings.HasSuffix(got[0].Text, ".") {
			t.Errorf("%s: %+v, want one with %q", name, got, c.want)
		}
	}
	h := healthy()
	h.Counts.DeadLetters, h.KeysEnded = 5, 1
	h.Nodes[1].Healthy = false
	if got := h.Concerns(); len(got) != 3 || !got[0].Bad || got[1].Bad || got[2].Bad {
		t.Errorf("what does not work comes first: %+v", got)
	}
	// A certificate that lives for a week is fine while it is renewed in time.
	h = healthy()
	h.Picture.Nodes[0].Status.Endings[0] = figures.Ending{What: "x", Begins: now.AddDate(0, 0, -3), Ends: now.AddDate(0, 0, 4)}
	if got := h.Concerns(); len(got) != 0 {
		t.Errorf("%+v", got)
	}
}
