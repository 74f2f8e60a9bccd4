package raftlog

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"quorumhub/hub"
)

// IsLeader implements hub.Leadership. It reports whether this node leads and has applied everything committed before its term.
// The node may just have lost leadership without knowing; proposals it makes then fail.
func (n *Node) IsLeader() bool { return n.leading.Load() && n.raft.State() == raft.Leader }

// Leader returns the leader's ID and address, empty if none is known.
func (n *Node) Leader() (id, address string) {
	a, i := n.raft.LeaderWithID()
	return string(i), string(a)
}

// LeaderID returns the leader's ID, empty if none is known.
func (n *Node) LeaderID() string {
	id, _ := n.Leader()
	return id
}

// ID returns the node's ID.
func (n *Node) ID() string { return n.opts.ID }

// State returns "leader", "candidate", "follower" or "shutdown".
func (n *Node) State() string {
	switch n.raft.State() {
	case raft.Leader:
		return "leader"
	case raft.Candidate:
		return "candidate"
	case raft.Follower:
		return "follower"
	case raft.Shutdown:
	}
	return "shutdown"
}

// onlyVoter reports whether this node is the only voter of its cluster.
func (n *Node) onlyVoter() bool {
	f := n.raft.GetConfiguration()
	if f.Error() != nil {
		return false
	}
	voters, self := 0, false
	for _, s := range f.Configuration().Servers {
		if s.Suffrage == raft.Voter {
			voters++
			self = self || s.ID == raft.ServerID(n.opts.ID)
		}
	}
	return self && voters == 1
}

// electNow makes a voter that knows no leader stand for election at once: raft checks its timer when the timeout gets shorter.
func (n *Node) electNow() error {
	n.reload.Lock()
	defer n.reload.Unlock()
	c := n.raft.ReloadableConfig()
	c.HeartbeatTimeout, c.ElectionTimeout = n.opts.Timing.Heartbeat, n.opts.Timing.Election
	return n.raft.ReloadConfig(c)
}

// watchLeadership tracks raft's leadership. A new leader first applies everything before its term and gives a new cluster its
// ID. It tries until it has, or leads no more: raft tells it once that it leads, and may then refuse it for a while.
func (n *Node) watchLeadership() {
	poll := time.NewTicker(50 * time.Millisecond) // until the node is ready
	defer poll.Stop()
	again := time.NewTicker(establishPause)
	again.Stop()
	defer again.Stop()
	var elected time.Time
	for {
		select {
		case <-n.ctx.Done():
			return
		case lead := <-n.notify:
			n.leading.Store(false)
			if !lead {
				again.Stop()
				continue
			}
			elected = time.Now()
			again.Reset(establishPause)
		case <-again.C:
		case <-poll.C:
			if id, _ := n.Leader(); id != "" && id != n.opts.ID && n.learnCluster() {
				n.becomeReady(poll)
			}
			continue
		}
		switch err := n.establish(); {
		case err == nil:
			again.Stop()
			n.becomeReady(poll)
		case errors.Is(err, errNotLeader), n.ctx.Err() != nil, n.raft.State() != raft.Leader:
		case errors.Is(err, raft.ErrLeadershipTransferInProgress) && time.Since(elected) > transferEnd:
			n.fail(fmt.Errorf("this node is elected but cannot lead: %w, and has been for %v; restart it", err, transferEnd))
		default:
			if show, hidden := n.repeats.note("establish", ""); show {
				n.opts.Logger.Warn("this node is elected but cannot lead yet; retrying", "error", err, "attempts", hidden+1)
			}
		}
	}
}

func (n *Node) becomeReady(poll *time.Ticker) {
	poll.Stop()
	select {
	case <-n.ready:
	default:
		close(n.ready)
	}
}

const (
	// establishPause is the pause between two attempts of a newly elected leader to lead.
	establishPause = 50 * time.Millisecond
	// transferEnd is when raft has certainly finished all that it began for a transfer of leadership in an earlier term. If it
	// is still waiting then, it waits for a goroutine that has ended (v1.7.3: the second transfer to a node that does not take
	// entries, in a term that ends meanwhile): it writes nothing any more, but the others follow it.
	transferEnd = linkTimeout + 2*time.Second
)

// establish prepares a newly elected leader. With nil the node acts as leader.
func (n *Node) establish() error {
	term := n.raft.CurrentTerm()
	barrier := n.raft.Barrier(0)
	if err := await(n.ctx, barrier); err != nil {
		return fmt.Errorf("apply what was written before: %w", err)
	}
	begin := &termStart{applied: n.store.Applied().Index}
	if f, ok := barrier.(interface{ Index() uint64 }); ok {
		begin.barrier = f.Index()
	}
	if !n.compareClocks() {
		return errNotLeader
	}
	if n.clusterID() == "" {
		if _, err := n.batcher.Propose(n.ctx, n.firstEvents()...); err != nil {
			return fmt.Errorf("give the new cluster its ID: %w", err)
		}
	}
	if n.port == nil {
		n.raiseLevel() // there is nobody to ask
	}
	if !n.learnCluster() {
		return errors.New("the cluster's ID is not known here yet")
	}
	if n.raft.CurrentTerm() != term {
		return errNotLeader // another term has begun
	}
	n.leadTerm.Store(term)
	n.leadBegin.Store(begin)
	n.leading.Store(true)
	return nil
}

// termStart is where a leader's term began. Between the entry applied and the barrier the log holds nothing for the store, unless
// applied is beyond the barrier.
type termStart struct{ barrier, applied uint64 }

func (n *Node) clusterID() (id string) {
	n.store.View(func(s *hub.State) { id = s.ClusterID() })
	return id
}

// learnCluster writes the cluster's ID to node.json once it is known, and reports whether that is done. Until then this node
// acknowledges nothing, which checkFiles relies on.
func (n *Node) learnCluster() bool {
	var former []string
	n.store.View(func(s *hub.State) { former = s.FormerClusterIDs() })
	id := n.clusterID()
	n.idMu.Lock()
	defer n.idMu.Unlock()
	switch {
	case id == "":
		return false
	case n.identity.ClusterID == id:
		return true
	case slices.Contains(n.identity.Former, id):
		return false // the new cluster's entry is in the log but not applied yet
	case n.identity.ClusterID == "" && n.port != nil && !slices.Contains([]string{"", id}, n.port.clusterOf(n.LeaderID())):
		return false // the same on a joining node: its leader already belongs to the new cluster
	case n.identity.ClusterID != "" && !n.sameLineage(id, former):
		n.fail(&FileError{File: filepath.Join(n.opts.Dir, identityFile), Hint: hintRestore,
			Problem: "names cluster " + n.identity.ClusterID + ", but the log belongs to cluster " + id})
		return false
	}
	known := n.identity
	if known.ClusterID != "" { // recovered, but the process ended before node.json was written
		known.moveTo(id, former)
	}
	known.ClusterID, known.Former = id, slices.Clone(former)
	if err := known.write(n.opts.Dir); err != nil {
		n.fail(err)
		return false
	}
	n.identity = known
	if n.port != nil {
		n.port.self.Store(n.selfLocked())
	}
	return true
}
