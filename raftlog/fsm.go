package raftlog

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"quorumhub/hub"
	"quorumhub/store"
)

// engine is the part of the store that raft uses.
type engine interface {
	positions
	Apply(entries []store.Entry) ([][]hub.BatchResult, error)
	Witness(index, term uint64, configuration []byte, configurationIndex uint64)
	Flush(ctx context.Context) error
	Snapshot(ctx context.Context) (*store.Snapshot, error)
	Receive(r io.Reader) (*store.Incoming, error)
	Install(in *store.Incoming) error
}

// fsm applies committed entries to the store and returns their results. Raft calls it from one goroutine.
type fsm struct {
	store    engine
	log      *logStore
	cached   raft.LogStore // log with the entries that raft keeps in memory
	fail     func(error)
	snapshot func() (raft.FSMSnapshot, error)
	applied  func(index uint64) // called once the entry is visible in the store

	entries  []store.Entry // of one ApplyBatch, reused
	failed   atomic.Bool
	applying activity
}

var _ raft.BatchingFSM = (*fsm)(nil)

// applied is the fsm's response to an entry.
type applied struct {
	term    uint64 // of the entry
	batches []hub.BatchResult
}

// Apply implements raft.FSM.
func (f *fsm) Apply(l *raft.Log) any { return f.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch implements raft.BatchingFSM. Each response is an applied, or the error that stops the node: from then on
// nothing is applied, so nothing is acknowledged that the state does not hold.
func (f *fsm) ApplyBatch(logs []*raft.Log) []any {
	out := make([]any, len(logs))
	if f.failed.Load() {
		for i := range out {
			out[i] = ErrApplyFailed
		}
		return out
	}
	f.applying.begin()
	defer f.applying.end()
	f.entries = f.entries[:0]
	for _, l := range logs {
		// l.Data is shared with raft's log cache: the store only reads it.
		f.entries = append(f.entries, store.Entry{Index: l.Index, Term: l.Term, Data: l.Data, Configuration: l.Type == raft.LogConfiguration})
	}
	answers, err := f.store.Apply(f.entries)
	clear(f.entries)
	if err == nil && len(answers) != len(logs) {
		err = fmt.Errorf("%d results for %d entries", len(answers), len(logs))
	}
	if err != nil {
		err = fmt.Errorf("entries %d to %d: %w: %w", logs[0].Index, logs[len(logs)-1].Index, ErrApplyFailed, err)
		f.failed.Store(true)
		f.fail(err)
		for i := range out {
			out[i] = err
		}
		return out
	}
	for i, l := range logs {
		out[i] = applied{l.Term, answers[i]}
	}
	f.applied(logs[len(logs)-1].Index)
	return out
}

// Snapshot implements raft.FSM. It costs nothing: Persist does the work, concurrently with Apply.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) {
	// Raft counts the entries that failed here as applied. A snapshot would claim that the store holds them.
	if f.failed.Load() {
		return nil, ErrApplyFailed
	}
	return f.snapshot()
}

// Restore implements raft.FSM. It accepts only what a sink of this node's snapshotStore received.
func (f *fsm) Restore(r io.ReadCloser) error {
	for {
		w, ok := r.(raft.ReadCloserWrapper)
		if !ok {
			break
		}
		r = w.WrappedReadCloser()
	}
	in, ok := r.(*incoming)
	if !ok {
		return fmt.Errorf("restore from a %T: only a snapshot received from the leader can be restored", r)
	}
	if f.failed.Load() {
		return ErrApplyFailed
	}
	// The log may be compacted up to the store's position. Going back would need entries that nobody has.
	if applied := f.store.Applied().Index; in.snapshot.Position.Index < applied {
		return fmt.Errorf("snapshot at entry %d is older than the store, which is at entry %d", in.snapshot.Position.Index, applied)
	}
	if err := f.log.installing(in.snapshot.Position.Index); err != nil {
		return err
	}
	if err := f.store.Install(in.snapshot); err != nil {
		return err
	}
	if err := supersede(f.cached, in.snapshot.Position.Index); err != nil {
		return err
	}
	f.applied(in.snapshot.Position.Index)
	return nil
}
