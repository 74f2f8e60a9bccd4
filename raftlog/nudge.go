package raftlog

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// A follower that did not accept a nudge gets it again after nudgePause, doubled each time up to maxNudgePause: usually the
// entry itself is still on its way to it.
const (
	nudgePause    = 2 * time.Millisecond
	maxNudgePause = time.Second
)

// nudger tells the followers the commit index when no further entry is about to do so. Raft itself sends it with the next
// entry or after Timing.Commit; its heartbeats carry none. A nudge is the message raft would send then: AppendEntries
// without entries, in the term in which this node wrote the entry as leader. It stays true whenever it arrives; one that
// is late, duplicate or from a deposed leader has no effect.
type nudger struct {
	self    raft.Server
	send    raft.Transport
	servers func() []raft.Server
	wake    chan struct{}

	mu        sync.Mutex
	committed mark
	lines     map[raft.ServerAddress]*nudgeLine
}

// mark is a committed entry that this node wrote as leader.
type mark struct{ index, term uint64 }

// nudgeLine is the state of one follower, with one message in flight at a time.
type nudgeLine struct {
	busy  bool
	taken mark
}

func newNudger(self raft.Server, send raft.Transport, servers func() []raft.Server) *nudger {
	return &nudger{self: self, send: send, servers: servers, wake: make(chan struct{}, 1), lines: map[raft.ServerAddress]*nudgeLine{}}
}

// reached records that the entry at index, which this node wrote as leader of term, is committed.
func (d *nudger) reached(index, term uint64) {
	d.mu.Lock()
	if index > d.committed.index {
		d.committed = mark{index, term}
	}
	d.mu.Unlock()
}

// nudge starts sending the newest mark. It does not wait.
func (d *nudger) nudge() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// run sends until ctx ends and messages in flight have returned.
func (d *nudger) run(ctx context.Context) {
	var sending sync.WaitGroup
	defer sending.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.wake:
		}
		servers := d.servers()
		d.mu.Lock()
		if len(d.lines) > 2*len(servers) {
			clear(d.lines) // drops addresses no longer in use
		}
		for _, s := range servers {
			if s.ID == d.self.ID {
				continue
			}
			l := d.lines[s.Address]
			if l == nil {
				l = new(nudgeLine)
				d.lines[s.Address] = l
			}
			if !l.busy && l.taken != d.committed {
				l.busy = true
				sending.Go(func() { d.tell(ctx, s, l) })
			}
		}
		d.mu.Unlock()
	}
}

// tell sends the newest mark to a follower until the follower accepts it.
func (d *nudger) tell(ctx context.Context, to raft.Server, l *nudgeLine) {
	address := d.send.EncodePeer(d.self.ID, d.self.Address)
	pause := nudgePause
	for {
		d.mu.Lock()
		m := d.committed
		if l.taken == m || ctx.Err() != nil {
			l.busy = false
			d.mu.Unlock()
			return
		}
		d.mu.Unlock()
		// The "previous" entry is the committed one itself: a follower that lacks it, or has another one there, refuses.
		request := raft.AppendEntriesRequest{
			RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(d.self.ID), Addr: address},
			Leader:    address, //nolint:staticcheck // deprecated, but raft itself still sends it
			Term:      m.term, PrevLogEntry: m.index, PrevLogTerm: m.term, LeaderCommitIndex: m.index,
		}
		var answer raft.AppendEntriesResponse
		err := d.send.AppendEntries(to.ID, to.Address, &request, &answer)
		if err == nil && (answer.Success || answer.Term > m.term) {
			d.mu.Lock()
			l.taken = m // or a later term has made it useless
			d.mu.Unlock()
			pause = nudgePause
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
			pause = min(2*pause, maxNudgePause)
		}
	}
}
