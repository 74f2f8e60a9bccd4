package raftlog

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Two processes may run with the ID and the data of one node: somebody copied the directory of a running node, or started a copy
// while the node was cut off. Every other node listens to one of the two, the one that it hears; the other is refused, and
// ends when that goes on. The one that was there first learns in the same way that it has been displaced.
const (
	// runWait is how long a node that comes back waits for the connections of its last run to end.
	runWait = 300 * time.Millisecond
	// twinPatience is how long a node is refused because of its twin before it ends: a node that takes part waits longer
	// than one that has just started, so that both do not end together.
	twinPatience, newTwinPatience = 8 * time.Second, 3 * time.Second
)

// runs are the processes that are connected to this node, by node. Safe for concurrent use.
type runs struct {
	mu sync.Mutex
	by map[string]*run
}

type run struct {
	boot  string
	from  string // address of its newest connection
	heard atomic.Int64
	conns map[net.Conn]bool
}

func newRuns() *runs { return &runs{by: map[string]*run{}} }

// enter notes a connection of a node's run. It refuses the run while another one of the same node is heard of.
func (r *runs) enter(v visitor, conn net.Conn) (*run, *refusedError) {
	for end := time.Now().Add(runWait); ; time.Sleep(runWait / 15) {
		in, other := r.tryEnter(v, conn)
		if in != nil {
			return in, nil
		}
		if time.Now().After(end) {
			return nil, refuse(refusedTwin, "%s", twinText(v.id, "was heard of a moment ago from "+other))
		}
	}
}

func twinText(id, where string) string {
	return fmt.Sprintf("another process with the ID and the data of %s is running and %s; only one may: end one of them, and never start a copy of a node's data", id, where)
}

func (r *runs) tryEnter(v visitor, conn net.Conn) (in *run, other string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	in = r.by[v.id]
	if in != nil && in.boot != v.boot {
		if now.Sub(time.Unix(0, in.heard.Load())) < silence {
			return nil, in.from
		}
		for old := range in.conns {
			old.Close() // whoever reads there forgets it
		}
		in = nil
	}
	if in == nil {
		in = &run{boot: v.boot, conns: map[net.Conn]bool{}}
		r.by[v.id] = in
	}
	in.from = homeOf(conn.RemoteAddr())
	in.heard.Store(now.UnixNano())
	in.conns[conn] = true
	return in, ""
}

// leave forgets a connection, and the run with its last one.
func (r *runs) leave(conn net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, in := range r.by {
		if in.conns[conn] {
			delete(in.conns, conn)
			if len(in.conns) == 0 {
				delete(r.by, id)
			}
			return
		}
	}
}

// displaced reports whether another run of the node has taken its place. Earlier programs do not say which run they are.
func (r *runs) displaced(v visitor) bool {
	if v.boot == "" {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	in := r.by[v.id]
	return in != nil && in.boot != v.boot
}

// runConn notes when its node was last heard of.
type runConn struct {
	net.Conn
	run *run
}

// Read implements net.Conn.
func (c runConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.run.heard.Store(time.Now().UnixNano())
	}
	return n, err
}

// handleTwin ends this node when others have been refusing it for a while because of its twin.
func (n *Node) handleTwin(r *refusedError) {
	patience := newTwinPatience
	select {
	case <-n.ready:
		patience = twinPatience
	default:
	}
	if n.twin.note() >= patience {
		n.fail(r)
	}
}
