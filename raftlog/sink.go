package raftlog

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/hashicorp/raft"

	"quorumhub/hub"
)

// batch holds the encoded proposals of one origin under one sequence number.
type batch struct {
	origin    string
	seq       uint64
	proposals [][]byte
	size      int  // bytes of proposals
	newWork   bool // some of it adds to what the hub must store or do
}

// sink writes a closed batch to the leader's log. It knows where the leader is; the batcher does not.
//
// send returns the results of the batch. errNotLeader or a *hub.Error mean that the batch is in no log. After any other
// error it may be in one: sending the same origin and seq again is safe, and returns the first attempt's results. send is
// called from several goroutines at once, and retains nothing of the batch after it returns except an encoded copy. It may
// hang when raft shuts down with its future in a channel that nobody reads any more.
type sink interface {
	send(b *batch) (hub.BatchResult, error)
}

// leader is the sink of a node that leads: it writes entries to raft's own log, for its own batches and those of other
// nodes. While limit entries are in flight, or one is and there is little to write, arriving batches are grouped, so that
// followers' batches make entries larger rather than more numerous.
type leader struct {
	raft     func(data []byte) raft.ApplyFuture
	clock    hub.Clock
	limit    int
	maxBytes int
	stop     <-chan struct{}
	nudger   *nudger   // tells followers what is committed
	written  *highest  // index of what was acknowledged
	pool     sync.Pool // of *hub.EntryBuilder

	mu       sync.Mutex
	inFlight int
	open     []*group // waiting, oldest first; only the last one still grows
}

// group holds the batches of one entry.
type group struct {
	batches []*batch
	size    int
	turn    chan struct{} // closed when its entry may be written
	done    chan struct{} // closed when the rest is set
	index   uint64
	answers []hub.BatchResult
	err     error
}

func newLeader(apply func(data []byte) raft.ApplyFuture, o Options, followers *nudger, clock hub.Clock, written *highest, stop <-chan struct{}) *leader {
	return &leader{raft: apply, clock: clock, limit: o.MaxInFlight, maxBytes: o.MaxEntryBytes, nudger: followers, written: written, stop: stop,
		pool: sync.Pool{New: func() any { return new(hub.EntryBuilder) }}}
}

func (l *leader) send(b *batch) (hub.BatchResult, error) {
	_, answer, err := l.write(b)
	return answer, err
}

// write is send that also returns the index of the entry.
func (l *leader) write(b *batch) (uint64, hub.BatchResult, error) {
	g, position := l.join(b)
	if position == 0 {
		select {
		case <-g.turn:
			l.commit(g)
		case <-l.stop:
			return 0, hub.BatchResult{}, errUnknown
		}
	}
	select {
	case <-g.done:
	case <-l.stop:
		return 0, hub.BatchResult{}, errUnknown
	}
	if g.err != nil {
		return 0, hub.BatchResult{}, g.err
	}
	answer := g.answers[position]
	if answer.Seq != b.seq || len(answer.Proposals) != len(b.proposals) {
		return 0, hub.BatchResult{}, fmt.Errorf("%w: the results are not those of batch %d", errUnknown, b.seq)
	}
	return g.index, answer, nil
}

// join puts b into a group. The caller at position 0 must write the entry.
func (l *leader) join(b *batch) (g *group, position int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.open); n > 0 && l.open[n-1].size+b.size <= l.maxBytes {
		g = l.open[n-1]
	} else {
		g = &group{turn: make(chan struct{}), done: make(chan struct{})}
		l.open = append(l.open, g)
	}
	// A waiting caller may give up when the node stops, and reuse b while another still writes the entry.
	own := *b
	own.proposals = slices.Clone(b.proposals)
	g.batches = append(g.batches, &own)
	g.size += b.size
	position = len(g.batches) - 1
	l.startLocked()
	return g, position
}

// startLocked lets waiting groups use free places. The caller holds mu.
func (l *leader) startLocked() {
	for len(l.open) > 0 && l.inFlight < l.limit && (l.inFlight == 0 || len(l.open) > 1 || l.open[0].size >= fillBytes) {
		l.inFlight++
		close(l.open[0].turn)
		l.open[0] = nil
		l.open = l.open[1:]
	}
}

// release passes the place of an entry to the next group. When no group waits and nothing else is in flight, no entry
// is about to tell the followers what is committed, so they are nudged.
func (l *leader) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.inFlight--
	l.startLocked()
	if l.inFlight == 0 {
		l.nudger.nudge()
	}
}

func (l *leader) commit(g *group) {
	defer close(g.done)
	defer l.release()
	entry := l.pool.Get().(*hub.EntryBuilder)
	for _, b := range g.batches {
		entry.AddBatch(b.origin, b.seq, b.proposals)
	}
	data := entry.Encode(l.clock.Now().UnixNano())
	l.pool.Put(entry)

	future := l.raft(data)
	switch err := future.Error(); {
	case err == nil:
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		g.err = errNotLeader
		return
	default:
		g.err = fmt.Errorf("%w: %w", errUnknown, err)
		return
	}
	g.index = future.Index()
	switch answer := future.Response().(type) {
	case applied:
		l.nudger.reached(g.index, answer.term)
		l.written.raise(g.index)
		if g.answers = answer.batches; len(g.answers) != len(g.batches) {
			g.err = fmt.Errorf("%w: %d results for %d batches", errUnknown, len(g.answers), len(g.batches))
		}
	case error:
		g.err = fmt.Errorf("%w: %w", errUnknown, answer)
	default:
		g.err = fmt.Errorf("%w: the fsm returned a %T", errUnknown, answer)
	}
}
