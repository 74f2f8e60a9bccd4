package raftlog

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
)

// startRaft starts raft and the node's own goroutines. It turns raft's panics over a damaged log into errors.
func (n *Node) startRaft() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = damaged(filepath.Join(n.opts.Dir, logFile), fmt.Errorf("%v", p))
		}
	}()
	cache, err := raft.NewLogCache(n.opts.LogCache, n.log)
	if err != nil {
		return fmt.Errorf("raft: %w", err)
	}
	n.fsm = &fsm{store: n.engine, log: n.log, cached: cache, fail: n.fail, applied: n.progress.reach,
		snapshot: func() (raft.FSMSnapshot, error) { return persister{n}, nil }}
	n.progress.reach(n.store.Applied().Index)
	if n.port != nil {
		n.link = n.networkTransport()
	}
	c := n.raftConfig()
	if err := n.bootstrap(c); err != nil {
		return err
	}
	followers := n.assemble()
	n.log.started.Store(true)
	n.reload.Lock() // raft's goroutines run before NewRaft returns, and a snapshot needs n.raft
	n.raft, err = raft.NewRaft(c, n.fsm, cache, n.log, n.snapshots, n.link)
	n.reload.Unlock()
	if err != nil {
		return fmt.Errorf("raft: %w", err)
	}
	n.running.Store(true)
	close(n.raftRuns)
	n.runLoops(followers)
	return nil
}

// linkTimeout bounds one message of raft's and its answer.
const linkTimeout = 10 * time.Second

// networkTransport connects raft with the other nodes through the cluster port.
func (n *Node) networkTransport() raft.Transport {
	return &transport{patience: n.opts.Timing.Election, NetworkTransport: raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: n.port, MaxPool: 3, ServerAddressProvider: addresses{n}, Timeout: linkTimeout, MsgpackUseNewTimeFormat: true,
		Logger: newRaftLogger(n.opts.Logger, &n.verbose, n.repeats).Named("transport"),
	})}
}

func (n *Node) raftConfig() *raft.Config {
	o := &n.opts
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(o.ID)
	c.Logger = newRaftLogger(o.Logger, &n.verbose, n.repeats)
	// One millisecond more than asked for: electNow lowers it, which makes raft look at its timers at once.
	c.HeartbeatTimeout, c.ElectionTimeout = o.Timing.Heartbeat+time.Millisecond, o.Timing.Election+time.Millisecond
	c.LeaderLeaseTimeout, c.CommitTimeout = o.Timing.Lease, o.Timing.Commit
	c.MaxAppendEntries = maxAppendEntries
	c.BatchApplyCh = true
	c.ShutdownOnRemove = false
	c.NoSnapshotRestoreOnStart = true
	c.NoLegacyTelemetry = true
	c.SnapshotInterval, c.SnapshotThreshold = o.SnapshotInterval, o.SnapshotThreshold
	c.TrailingLogs = n.trailing()
	c.NotifyCh = n.notify
	return c
}

// assemble builds the path of a proposal: batcher, router, leader.
func (n *Node) assemble() (followers *nudger) {
	followers = newNudger(raft.Server{ID: raft.ServerID(n.opts.ID), Address: n.link.LocalAddr()}, n.link, n.servers)
	n.own = newLeader(func(data []byte) raft.ApplyFuture { return n.raft.Apply(data, 0) }, n.opts, followers, n.clock, &n.written, n.ctx.Done())
	to := sink(n.own)
	if n.port != nil {
		to = &router{node: n, own: n.own}
	}
	n.batcher = newBatcher(n.opts, n.opts.ID+"/"+randomID(), to, n.refuse)
	return followers
}

// runLoops starts the node's own goroutines.
func (n *Node) runLoops(followers *nudger) {
	n.owned.Go(n.watchLeadership)
	n.owned.Go(func() { followers.run(n.ctx) })
	n.owned.Go(n.watchLevel)
	n.owned.Go(func() { n.reading.run(n.ctx) })
	n.owned.Go(func() { n.verifying.run(n.ctx) })
	if n.port != nil {
		n.watchMembers()
		n.owned.Go(n.runReconciler)
		n.owned.Go(n.announceRun)
	}
	n.owned.Go(n.watchLog)
	if n.opts.MinFreeBytes > 0 {
		n.measureDisk()
		n.owned.Go(n.watchDisk)
	}
}

// bootstrap founds a cluster on a fresh node.
func (n *Node) bootstrap(c *raft.Config) error {
	if n.opts.Join {
		return nil
	}
	has, err := raft.HasExistingState(n.log, n.log, n.snapshots)
	if err != nil {
		return fmt.Errorf("raft: %w", err)
	}
	if has {
		// Raft saves the term before the first configuration. If founding was interrupted in between, it is repeated:
		// without a log, a vote or a snapshot, no other node knows of it.
		fresh, err := n.isFresh()
		if err != nil || !fresh {
			return err
		}
		if err := n.log.SetUint64(keyCurrentTerm, 0); err != nil {
			return fmt.Errorf("raft: %w", err)
		}
	}
	servers := n.opts.Bootstrap
	if len(servers) == 0 {
		servers = []raft.Server{{ID: c.LocalID, Address: n.link.LocalAddr()}}
	}
	if err := raft.BootstrapCluster(c, n.log, n.log, n.snapshots, n.link, raft.Configuration{Servers: servers}); err != nil {
		return fmt.Errorf("found the cluster: %w", err)
	}
	return nil
}

// isFresh reports whether the node has never been part of a cluster: it has no log, no vote, no state and no cluster ID.
func (n *Node) isFresh() (bool, error) {
	last, err := n.log.LastIndex()
	vote, err2 := n.log.mark64(keyVoteTerm)
	if err := errors.Join(err, err2); err != nil {
		return false, fmt.Errorf("raft: %w", err)
	}
	return last == 0 && vote == 0 && n.store.Durable().Index == 0 && n.identity.ClusterID == "", nil
}
