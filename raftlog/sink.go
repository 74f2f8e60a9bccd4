package raftlog

import (
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/raft"

	"quorumhub/hub"
)

// batch is what the batcher closed: the encoded proposals of one origin, under one sequence number.
type batch struct {
	origin    string
	seq       uint64
	proposals [][]byte
	size      int // bytes of proposals
}

// sink brings a closed batch into the leader's log. It knows where the leader is; the batcher does not.
//
// send returns the answer to the batch. errNotLeader says that the batch is in no log; any other error, that it
// may be in one: sending the same origin and seq again is then safe, and gets the first one's answer. send is
// called from several goroutines at once, and keeps nothing of the batch after it has returned, except an
// encoded copy. It may hang when raft shuts down (a future in a channel that nobody reads any more).
type sink interface {
	send(b *batch) (hub.BatchResult, error)
}

// leader is the sink of a node that leads: it writes entries to raft's log itself.
type leader struct {
	raft  func(data []byte) raft.ApplyFuture
	clock hub.Clock
	pool  sync.Pool // of *hub.EntryBuilder
}

func newLeader(apply func(data []byte) raft.ApplyFuture, clock hub.Clock) *leader {
	return &leader{raft: apply, clock: clock, pool: sync.Pool{New: func() any { return new(hub.EntryBuilder) }}}
}

func (l *leader) send(b *batch) (hub.BatchResult, error) {
	entry := l.pool.Get().(*hub.EntryBuilder)
	entry.AddBatch(b.origin, b.seq, b.proposals)
	data := entry.Encode(l.clock.Now().UnixNano())
	l.pool.Put(entry)

	future := l.raft(data)
	switch err := future.Error(); {
	case err == nil:
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return hub.BatchResult{}, errNotLeader
	default:
		return hub.BatchResult{}, fmt.Errorf("%w: %w", errUnknown, err)
	}
	switch answer := future.Response().(type) {
	case []hub.BatchResult:
		if len(answer) == 1 && answer[0].Seq == b.seq && len(answer[0].Proposals) == len(b.proposals) {
			return answer[0], nil
		}
		return hub.BatchResult{}, fmt.Errorf("%w: the answer is not that of batch %d", errUnknown, b.seq)
	case error:
		return hub.BatchResult{}, fmt.Errorf("%w: %w", errUnknown, answer)
	default:
		return hub.BatchResult{}, fmt.Errorf("%w: answer is a %T", errUnknown, answer)
	}
}
