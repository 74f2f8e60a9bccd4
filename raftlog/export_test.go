package raftlog

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/hashicorp/raft"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// LevelPause is how often a leader looks at its members' levels.
const LevelPause = levelPause

// Hooks are hooks for tests of other packages' view.
type Hooks struct {
	WrapLog             func(raft.LogStore) raft.LogStore
	AfterApply          func(error) error
	PersistWithoutFlush bool
	TruncateUnchecked   bool
	MetaFromMemory      bool
	InstallUnchecked    bool
	ReadUnverified      bool
	Level               *uint32
	LevelOf             func(*hubpb.Event) uint32
}

func (o Options) With(h Hooks) Options {
	o.hooks = hooks{
		wrapLog: h.WrapLog, afterApply: h.AfterApply, persistWithoutFlush: h.PersistWithoutFlush,
		level: h.Level, levelOf: h.LevelOf, readUnverified: h.ReadUnverified, truncateUnchecked: h.TruncateUnchecked, metaFromMemory: h.MetaFromMemory, installUnchecked: h.InstallUnchecked,
	}
	return o
}

// CutLog has raft take a snapshot and cut its log now.
func (n *Node) CutLog() error { return n.raft.Snapshot().Error() }

// Send brings a batch into the log past the batcher, as a forwarded or repeated one comes.
func (n *Node) Send(origin string, seq uint64, proposals ...[]byte) (hub.BatchResult, error) {
	return n.batcher.sink.send(&batch{origin: origin, seq: seq, proposals: proposals})
}

func (n *Node) AddVoter(id, address string) error {
	return n.raft.AddVoter(raft.ServerID(id), raft.ServerAddress(address), 0, 5*time.Second).Error()
}

func (n *Node) TransferLeadership() error { return n.raft.LeadershipTransfer().Error() }

// VerifyTerm asks a quorum whether it knows of no later term.
func (n *Node) VerifyTerm(ctx context.Context, term uint64) error { return n.verifyTerm(ctx, term) }

// Raft is the node's raft.
func (n *Node) Raft() *raft.Raft { return n.raft }

// PersistAt persists as for a snapshot with these figures.
func (n *Node) PersistAt(index, term uint64, c raft.Configuration, configurationIndex uint64) error {
	sink, err := newSnapshotStore(n.store, n.opts.hooks).Create(1, index, term, c, configurationIndex, nil)
	if err != nil {
		return err
	}
	return errors.Join(persister{n}.Persist(sink), sink.Close())
}

// Sink is where raft puts a snapshot.
func (n *Node) Sink(index, term uint64, c raft.Configuration, configurationIndex uint64) (raft.SnapshotSink, error) {
	return newSnapshotStore(n.store, n.opts.hooks).Create(1, index, term, c, configurationIndex, nil)
}

// Restore is raft's call of the fsm.
func (n *Node) Restore(r io.ReadCloser) error { return n.fsm.Restore(r) }

// ReceiveAndRestore takes a snapshot as one from the leader.
func (n *Node) ReceiveAndRestore(index, term uint64, from io.Reader) error {
	s := newSnapshotStore(n.store, n.opts.hooks)
	sink, err := s.Create(1, index, term, raft.Configuration{}, 1, nil)
	if err != nil {
		return err
	}
	if _, err := io.Copy(sink, from); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	if err := sink.Close(); err != nil {
		return err
	}
	_, r, err := s.Open(sink.ID())
	if err != nil {
		return err
	}
	return errors.Join(n.fsm.Restore(wrapped{r}), r.Close())
}

// wrapped hides a reader as raft's counting reader does.
type wrapped struct{ io.ReadCloser }

func (w wrapped) WrappedReadCloser() io.ReadCloser { return w.ReadCloser }

func (n *Node) AddNonvoter(id, address string) error {
	return n.raft.AddNonvoter(raft.ServerID(id), raft.ServerAddress(address), 0, 5*time.Second).Error()
}

// Dial connects with the node at address, for calls.
func (n *Node) Dial(ctx context.Context, address string) error {
	conn, err := n.port.dial(ctx, streamCalls, address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// SealValue is the stored form of a value beside the log.
func SealValue(key string, val []byte) []byte { return sealValue([]byte(key), val) }

// VerifiedIndex is the index for which a consistent read waits, as the leader tells it.
func (n *Node) VerifiedIndex() (uint64, error) { return n.verifiedIndex() }
