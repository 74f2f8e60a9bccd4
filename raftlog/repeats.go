package raftlog

import (
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// repeatPause is the time between two lines about the same trouble.
	repeatPause = time.Minute
	// repeatEnd is how long there must be no trouble for the next one to be a new one.
	repeatEnd = 10 * time.Second
	// repeatGrace is how long a node may be in trouble before raft's messages about it are worth logging: what is known about
	// the node itself by then says more.
	repeatGrace = 3 * time.Second
	maxRepeats  = 256
)

// repeats reduces what is said again and again to one line, then one a minute with a count. Safe for concurrent use.
type repeats struct {
	answers func(node string) bool // whether a node answers, by ID or address; those that do not are reported elsewhere

	mu   sync.Mutex
	seen map[string]*repeated
}

type repeated struct {
	since, last, shown time.Time
	hidden             int
}

func newRepeats(answers func(node string) bool) *repeats {
	return &repeats{answers: answers, seen: map[string]*repeated{}}
}

// note records one more message and reports whether to show it, and how many were hidden since the last that was shown. node is the
// one it is about, if it is about one.
func (r *repeats) note(message, node string) (show bool, hidden int) {
	if node != "" {
		message = node // raft has many words for a node that does not answer
	}
	now := time.Now()
	r.mu.Lock()
	m := r.seen[message]
	if m == nil || now.Sub(m.last) > repeatEnd {
		if len(r.seen) >= maxRepeats {
			clear(r.seen)
		}
		m = &repeated{since: now}
		r.seen[message] = m
	}
	m.last = now
	show = m.shown.IsZero() || now.Sub(m.shown) >= repeatPause
	if node != "" && now.Sub(m.since) < repeatGrace {
		show = false
	}
	r.mu.Unlock()
	show = show && (node == "" || r.answers(node)) // not under the lock, because it takes others
	r.mu.Lock()
	defer r.mu.Unlock()
	if !show {
		m.hidden++
		return false, 0
	}
	hidden, m.hidden, m.shown = m.hidden, 0, now
	return true, hidden
}

// nodeIn returns the node that the arguments of one of raft's messages name, its ID or its address.
func nodeIn(args []any) string {
	for i := 0; i+1 < len(args); i += 2 {
		switch args[i] {
		case "peer", "target", "server-id":
		default:
			continue
		}
		switch v := args[i+1].(type) {
		case raft.Server:
			return string(v.ID)
		case raft.ServerID, raft.ServerAddress, string:
			return fmt.Sprint(v)
		}
	}
	return ""
}

// answers reports whether a node, named by its ID or address, answers this one.
func (n *Node) answers(node string) bool {
	for _, s := range n.configuration() {
		if string(s.ID) == node || string(s.Address) == node {
			n.view.mu.Lock()
			defer n.view.mu.Unlock()
			seen := n.view.nodes[string(s.ID)]
			return seen != nil && !seen.asked.IsZero() && time.Since(seen.asked) < silence
		}
	}
	return false
}
