package raftlog_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/raftlog"
)

// Nodes whose settings differ work together, and each says what differs and where, until it does no longer.
func TestSettingsThatDifferBetweenNodesAreReported(t *testing.T) {
	w := newNetwork(t, 3)
	headers := strings.Repeat("X-Header, ", 100)
	odd, differs := w.members[2], true
	w.change = func(m *member, o *raftlog.Options) {
		o.Settings = []raftlog.Setting{{Key: "message.max_bytes", Value: "1MiB"}, {Key: "message.key_headers", Value: headers}, {Key: "hub.profile", Value: "native"}}
		if m == odd && differs {
			o.Settings = []raftlog.Setting{{Key: "message.max_bytes", Value: "2MiB"}, {Key: "message.key_headers", Value: headers + "X-More"},
				{Key: "only.here", Value: "x"}, {Key: "hub.profile", Value: "native"}}
		}
	}
	w.start()
	for _, m := range w.members[:2] {
		eventually(t, m.id+" reports the differences", func() bool { return len(m.node.Warnings()) == 2 })
		text := strings.Join(m.node.Warnings(), "\n")
		if !strings.Contains(text, "node-3 has message.max_bytes 2MiB, this node has 1MiB; it should be the same on every node") || !strings.Contains(text, "node-3 has message.key_headers X-Header") {
			t.Errorf("%s warns: %s", m.id, text)
		}
		if n := strings.Count(w.logs[m].String(), "message.max_bytes 2MiB"); n != 1 {
			t.Errorf("%s logged it %d times: %s", m.id, n, w.logs[m].String())
		}
	}
	eventually(t, "the odd one reports both", func() bool { return len(odd.node.Warnings()) == 4 })

	w.crash(odd)
	differs = false
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := w.open(ctx, odd); err != nil {
		t.Fatal(err)
	}
	for _, m := range w.members {
		eventually(t, m.id+" finds nothing", func() bool { return len(m.node.Warnings()) == 0 })
	}
}

// Every node gets to know the URLs of all, also of one that is down, and of one that has changed them.
func TestURLsOfNodesAreKnownToAll(t *testing.T) {
	w := newNetwork(t, 3)
	urls := map[*member][]string{}
	for i, m := range w.members {
		urls[m] = []string{fmt.Sprintf("http://public-%d", i+1), fmt.Sprintf("http://alias-%d", i+1)}
	}
	w.change = func(m *member, o *raftlog.Options) { o.URLs = urls[m] }
	w.start()
	known := func(on *member, id string, urls ...string) func() bool {
		return func() (ok bool) {
			on.store.View(func(s *hub.State) {
				n, _ := s.Node(id)
				ok = slices.Equal(n.URLs, urls)
			})
			return ok && !on.node.URLsPending()
		}
	}
	for _, m := range w.members {
		for i, other := range w.members {
			eventually(t, m.id+" knows "+other.id, known(m, other.id, fmt.Sprintf("http://public-%d", i+1), fmt.Sprintf("http://alias-%d", i+1)))
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	w.crash(w.members[2])
	w.crash(w.members[1])
	urls[w.members[1]] = []string{"http://moved-2"}
	if err := w.open(ctx, w.members[1]); err != nil {
		t.Fatal(err)
	}
	for _, m := range w.members[:2] {
		eventually(t, m.id+" knows the new URL", known(m, "node-2", "http://moved-2"))
		eventually(t, m.id+" knows the node that is down", known(m, "node-3", "http://public-3", "http://alias-3"))
	}
}
