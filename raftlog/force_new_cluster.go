package raftlog

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/store"
)

// A node that is to go on alone, or to begin a new cluster with the state of an old one, gets two more entries in its log, in a
// term of their own: a configuration with itself as the only voter, and a hubpb.NewClusterForced event, which gives the cluster
// a new id. Everything else is raft's usual way: the node elects itself, commits what its log holds, and applies it.
//
// The new id is the fence. Nodes of the former cluster know the old one, and the handshake keeps them apart from the new
// one whatever they still hold; so they come back with empty directories only. That only one node is changed this way is why
// it is sound: two logs of one cluster may have different ends, and none of raft's rules would tell these apart
// after the same entry had been added to both.

// newCluster configures forceNewCluster.
type newCluster struct {
	self   raft.Server
	former string // cluster id at the end of the log
	id     string // the new one
	reason hubpb.NewClusterReason
	clock  hub.Clock
}

// forceNewCluster appends the two entries behind entry last of a term below term. They are one write.
func (l *logStore) forceNewCluster(r newCluster, last, term uint64) error {
	proposal, err := hub.EncodeProposal([]*hubpb.Event{{Kind: &hubpb.Event_NewClusterForced{NewClusterForced: &hubpb.NewClusterForced{
		ClusterId: r.id, FormerClusterId: r.former, Node: string(r.self.ID), Reason: r.reason, Index: last,
	}}}})
	if err != nil {
		return fmt.Errorf("encode an event: %w", err)
	}
	var entry hub.EntryBuilder
	entry.AddBatch(string(r.self.ID)+"/"+randomID(), 1, [][]byte{proposal})
	now := r.clock.Now()
	logs := []*raft.Log{
		{Index: last + 1, Term: term, Type: raft.LogConfiguration, AppendedAt: now,
			Data: raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{r.self}})},
		{Index: last + 2, Term: term, Type: raft.LogCommand, AppendedAt: now, Data: entry.Encode(now.UnixNano())},
	}
	// A term without entries is what a lost election leaves, so the end of the process in between does no harm.
	if err := l.SetUint64(keyCurrentTerm, term); err != nil {
		return err
	}
	return l.StoreLogs(logs)
}

// tail is what the log holds behind the store.
type tail struct {
	first, last   uint64   // entries; none: last < first
	term          uint64   // the highest known
	cluster       string   // its id when all of it is applied
	former        []string // and those before
	messages      int      // published in it
	configuration raft.Configuration
}

// readTail reads the log behind the store. Every entry must be readable.
func (n *Node) readTail() (t tail, err error) {
	pos := n.store.Durable()
	n.store.View(func(s *hub.State) { t.cluster, t.former = s.ClusterID(), slices.Clone(s.FormerClusterIDs()) })
	if len(pos.Configuration) > 0 {
		if t.configuration, err = decodeConfiguration(pos.Configuration); err != nil {
			return t, err
		}
	}
	last, err := n.log.LastIndex()
	if err != nil {
		return t, err
	}
	if t.term, err = n.log.mark64(keyCurrentTerm); err != nil {
		return t, err
	}
	t.first, t.last = pos.Index+1, max(last, pos.Index)
	t.term = max(t.term, pos.Term)
	for i := t.first; i <= t.last; i++ {
		var l raft.Log
		if err := n.log.GetLog(i, &l); err != nil {
			return t, damaged(n.log.path, fmt.Errorf("entry %d: %w", i, err))
		}
		t.term = max(t.term, l.Term)
		if err := t.add(&l); err != nil {
			return t, damaged(n.log.path, fmt.Errorf("entry %d: %w", i, err))
		}
	}
	return t, nil
}

func (t *tail) add(l *raft.Log) (err error) {
	switch l.Type {
	case raft.LogConfiguration:
		t.configuration, err = decodeConfiguration(l.Data)
		return err
	case raft.LogCommand:
		e, err := hub.DecodeEntry(l.Data)
		if err != nil {
			return err
		}
		for _, b := range e.Batches {
			for _, p := range b.Proposals {
				for _, ev := range p.Events {
					t.count(ev)
				}
			}
		}
	case raft.LogNoop, raft.LogBarrier, raft.LogAddPeerDeprecated, raft.LogRemovePeerDeprecated:
	}
	return nil
}

func (t *tail) count(ev *hubpb.Event) {
	switch k := ev.Kind.(type) {
	case *hubpb.Event_MessagePublished:
		t.messages++
	case *hubpb.Event_ClusterInitialized:
		if t.cluster == "" {
			t.cluster = k.ClusterInitialized.ClusterId
		}
	case *hubpb.Event_NewClusterForced:
		if t.cluster == k.NewClusterForced.FormerClusterId {
			t.cluster, t.former = k.NewClusterForced.ClusterId, append(t.former, t.cluster)
		}
	}
}

// moveTo makes id that of a node that goes on under a new cluster id.
func (id *Identity) moveTo(cluster string, former []string) {
	if id.Instance == "" {
		id.Instance = randomID()
	}
	id.Former = slices.Clone(former)
	id.ClusterID, id.Members = cluster, map[string]string{id.ID: id.Instance}
}

// Plan is what Recover would do, or has done.
type Plan struct {
	Node, Address string
	Cluster       string   // before
	LastIndex     uint64   // last entry of the log; with LastTerm it says which of several survivors knows most
	LastTerm      uint64   // term of that entry
	Durable       uint64   // entry up to which the state on disk is known to be committed
	Messages      int      // published in the entries behind Durable
	LeftOut       []string // nodes of the former cluster that have no part in the new one
	NewCluster    string   // empty: nothing was changed
}

// Recover makes a stopped node the only voter of a new cluster that goes on with all that its log holds, after the former
// cluster has lost its quorum for good. What the log holds and nobody knows to be committed is committed by that. Options are
// as for Open; ID and Address say how the node is known from now on, and ID must be what it was. Without
// write nothing is changed. A crash at any moment leaves a node that was not recovered, or one that was.
func Recover(o Options, write bool) (_ *Plan, err error) {
	if o, err = o.withDefaults(); err != nil {
		return nil, err
	}
	n, err := openStopped(o)
	if err != nil {
		return nil, fmt.Errorf("recover: %w", err)
	}
	defer func() {
		n.cancel()
		err = errors.Join(err, n.log.close())
	}()
	t, err := n.readTail()
	if err != nil {
		return nil, fmt.Errorf("recover: %w", err)
	}
	if t.cluster == "" {
		return nil, fmt.Errorf("recover: %s was never a member of a cluster; start it with quorumhub serve", o.ID)
	}
	p := &Plan{Node: o.ID, Address: o.Address, Cluster: t.cluster, LastIndex: t.last, Durable: t.first - 1, Messages: t.messages}
	if p.LastTerm, err = n.lastTerm(t.last); err != nil {
		return nil, fmt.Errorf("recover: %w", err)
	}
	for _, s := range t.configuration.Servers {
		if string(s.ID) != o.ID {
			p.LeftOut = append(p.LeftOut, string(s.ID))
		}
	}
	slices.Sort(p.LeftOut)
	if !write {
		return p, nil
	}
	cluster := randomID()
	err = n.log.forceNewCluster(newCluster{
		self:   raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(o.ID), Address: raft.ServerAddress(o.Address)},
		former: t.cluster, id: cluster, reason: hubpb.NewClusterReason_NEW_CLUSTER_RECOVERED, clock: o.Clock,
	}, t.last, t.term+1)
	if err != nil {
		return nil, fmt.Errorf("recover: %w", err)
	}
	n.identity.moveTo(cluster, append(t.former, t.cluster))
	if err := n.identity.write(o.Dir); err != nil {
		return nil, fmt.Errorf("recover: %w", err)
	}
	p.NewCluster = cluster
	return p, nil
}

// openStopped opens a node's files with all checks and starts nothing.
func openStopped(o Options) (*Node, error) {
	id, err := ReadIdentity(o.Dir)
	switch {
	case err != nil:
		return nil, err
	case id == nil:
		return nil, fmt.Errorf("%s holds no node: there is no %s", o.Dir, identityFile)
	}
	n := &Node{opts: o, store: o.Store, engine: o.Store, level: hub.FeatureLevel}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // see Open
	if err := n.openFiles(n.ctx); err != nil {
		n.cancel()
		if n.log != nil {
			err = errors.Join(err, n.log.close())
		}
		return nil, err
	}
	return n, nil
}

// lastTerm is the term of entry last, which may be in the store only.
func (n *Node) lastTerm(last uint64) (uint64, error) {
	if pos := n.store.Durable(); pos.Index == last {
		return pos.Term, nil
	}
	var l raft.Log
	if err := n.log.GetLog(last, &l); err != nil {
		return 0, damaged(n.log.path, fmt.Errorf("entry %d: %w", last, err))
	}
	return l.Term, nil
}

// ForceNewCluster makes the directory of a new node around the state of a former cluster, as it comes from a backup: the node is the
// only voter of a new cluster, in which that state lives on. open makes the store; Options.Store is set by it, and the caller
// closes it. Nothing of a node may be in Options.Dir before. A directory that was not finished does not start.
func ForceNewCluster(o Options, open func() (*store.Store, error)) (cluster string, err error) {
	cluster = randomID()
	id := &Identity{Format: identityFormat, ID: o.ID, ClusterID: cluster, CreatedAt: time.Now().UTC(), Instance: randomID()}
	// With an identity and without a log a node does not start: this is what is left when the process ends before the rest is there.
	if err := id.write(o.Dir); err != nil {
		return "", err
	}
	if o.Store, err = open(); err != nil {
		return "", err
	}
	if o, err = o.withDefaults(); err != nil {
		return "", err
	}
	pos := o.Store.Durable()
	var former string
	var all []string
	o.Store.View(func(s *hub.State) {
		former = s.ClusterID()
		all = append(slices.Clone(s.FormerClusterIDs()), former)
	})
	if former == "" || pos.Index == 0 {
		return "", errors.New("the state is that of no cluster")
	}
	l, err := openLog(o, true, func(error) {})
	if err != nil {
		return "", err
	}
	err = l.forceNewCluster(newCluster{
		self:   raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(o.ID), Address: raft.ServerAddress(o.Address)},
		former: former, id: cluster, reason: hubpb.NewClusterReason_NEW_CLUSTER_RESTORED, clock: o.Clock,
	}, pos.Index, pos.Term+1)
	if err = errors.Join(err, l.close(), syncDir(o.Dir)); err != nil {
		return "", err
	}
	id.moveTo(cluster, all)
	return cluster, id.write(o.Dir)
}

// sameLineage tells whether the files of a node are of two moments of the same history: a refounding was written to one of
// them only before the process ended, or is not applied yet.
func (n *Node) sameLineage(cluster string, former []string) bool {
	return slices.Contains(n.identity.Former, cluster) || slices.Contains(former, n.identity.ClusterID)
}
