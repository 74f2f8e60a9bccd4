package raftlog

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// A follower that did not take a nudge gets it again after nudgePause, and after twice as long each time up to
// maxNudgePause: most often the entry itself is still on its way to it.
const (
	nudgePause    = 2 * time.Millisecond
	maxNudgePause = time.Second
)

// nudger tells the followers what is committed when no further entry is about to do so. Raft itself tells them with
// the next entry, or after Timing.Commit, and its heartbeats carry no commit index. A nudge is what raft would send
// then: an AppendEntries message without entries, of the term in which this node wrote the entry as leader. It is true
// whenever it arrives, and one that comes late, twice or from a leader deposed meanwhile changes nothing.
type nudger struct {
	self    raft.Server
	send    raft.Transport
	servers func() []raft.Server
	wake    chan struct{}

	mu        sync.Mutex
	committed mark
	lines     map[raft.ServerAddress]*nudgeLine
}

// mark is an entry that this node wrote as leader and that is committed.
type mark struct{ index, term uint64 }

// nudgeLine is the way to one follower, with one message under way at a time.
type nudgeLine struct {
	busy  bool
	taken mark
}

func newNudger(self raft.Server, send raft.Transport, servers func() []raft.Server) *nudger {
	return &nudger{self: self, send: send, servers: servers, wake: make(chan struct{}, 1), lines: map[raft.ServerAddress]*nudgeLine{}}
}

// reached notes that the entry at index, which this node wrote as leader of term, is committed.
func (d *nudger) reached(index, term uint64) {
	d.mu.Lock()
	if index > d.committed.index {
		d.committed = mark{index, term}
	}
	d.mu.Unlock()
}

// nudge has the newest mark sent. It does not wait.
func (d *nudger) nudge() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// run sends until ctx ends, and until the transport has given back what is under way.
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
			clear(d.lines) // of addresses that nodes have left
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

// tell sends the newest mark to a follower until it has it.
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
		// The entry before the ones it does not carry is the committed one itself: a follower that lacks it, or has
		// another one there, refuses.
		request := raft.AppendEntriesRequest{
			RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(d.self.ID), Addr: address},
			Term:      m.term, Leader: address, PrevLogEntry: m.index, PrevLogTerm: m.term, LeaderCommitIndex: m.index,
		}
		var answer raft.AppendEntriesResponse
		err := d.send.AppendEntries(to.ID, to.Address, &request, &answer)
		if err == nil && (answer.Success || answer.Term > m.term) {
			d.mu.Lock()
			l.taken = m // or it is of no use any more
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
