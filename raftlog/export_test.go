package raftlog

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/raft"

	"quorumhub/hub"
)

// Hooks are hooks for tests of other packages' view.
type Hooks struct {
	WrapLog             func(raft.LogStore) raft.LogStore
	AfterApply          func(error) error
	PersistWithoutFlush bool
	TruncateUnchecked   bool
	MetaFromMemory      bool
	InstallUnchecked    bool
}

func (o Options) With(h Hooks) Options {
	o.hooks = hooks{
		wrapLog: h.WrapLog, afterApply: h.AfterApply, persistWithoutFlush: h.PersistWithoutFlush,
		truncateUnchecked: h.TruncateUnchecked, metaFromMemory: h.MetaFromMemory, installUnchecked: h.InstallUnchecked,
	}
	return o
}

// Kill ends the node as SIGKILL would: nothing is finished, handed over or flushed.
func (n *Node) Kill() error {
	n.leading.Store(false)
	n.cancel()
	n.batcher.halt()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return errors.Join(n.stopRaft(ctx), n.log.close())
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

// Raft is the node's raft.
func (n *Node) Raft() *raft.Raft { return n.raft }
