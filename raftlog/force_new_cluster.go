package raftlog

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"quorumhub/durable"
	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/store"
)

// A node that forms a new cluster from the state of an old one gets two more entries in its log, in a term of their own: a
// configuration with itself as the only voter, and a hubpb.NewClusterForced event, which gives the cluster a new ID. The rest
// is normal raft: the node elects itself, commits what its log holds, and applies it.
//
// The new ID is the fence. Nodes of the former cluster have the old ID, and the handshake keeps them out whatever data they
// still hold; they can come back only with empty directories. This is sound only because a single node is changed: two logs
// of one cluster may end differently, and no rule of raft could tell them apart once the same entry was appended to both.

// newCluster configures forceNewCluster.
type newCluster struct {
	self   raft.Server
	former string // cluster ID at the end of the log
	id     string // new cluster ID
	reason hubpb.NewClusterReason
	clock  hub.Clock
}

// forceNewCluster appends the two entries after entry last, whose term is below term, in one write.
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
	// A term without entries is what a lost election leaves behind, so a crash in between does no harm.
	if err := l.SetUint64(keyCurrentTerm, term); err != nil {
		return err
	}
	return l.StoreLogs(logs)
}

// tail describes the entries of the log beyond the store's position.
type tail struct {
	first, last   uint64   // its entries; none: last < first
	term          uint64   // the highest known
	cluster       string   // cluster ID once all entries are applied
	former        []string // former cluster IDs, likewise
	messages      int      // published in the entries
	configuration raft.Configuration
}

// readTail reads the log beyond the store's position. Every entry must be readable.
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

// moveTo changes the identity to that of the only node of a new cluster.
func (id *Identity) moveTo(cluster string, former []string) {
	if id.Instance == "" {
		id.Instance = randomID()
	}
	id.Former = slices.Clone(former)
	id.ClusterID, id.Members = cluster, map[string]string{id.ID: id.Instance}
}

// Plan describes what Recover would do, or has done.
type Plan struct {
	Node, Address string
	Cluster       string   // before
	LastIndex     uint64   // last entry of the log; of several survivors the one with the highest LastTerm, then LastIndex has most
	LastTerm      uint64   // term of that entry
	Durable       uint64   // entry up to which the state on disk is known to be committed
	Messages      int      // published in the entries after Durable
	LeftOut       []string // nodes of the former cluster that are not in the new one
	NewCluster    string   // empty: nothing was changed
}

// Recover makes a stopped node the only voter of a new cluster that continues with everything in its log, after the former
// cluster has permanently lost its quorum. Entries of unknown outcome thereby become committed. Options are as for Open: ID
// must be the node's present ID, Address is its address from now on. If write is false, nothing is changed. After a crash
// at any moment the node is either recovered or unchanged.
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

// openStopped opens and checks a node's files without starting anything.
func openStopped(o Options) (*Node, error) {
	id, err := ReadIdentity(o.Dir)
	switch {
	case err != nil:
		return nil, err
	case id == nil:
		return nil, fmt.Errorf("%s is not a node's data directory: there is no %s", o.Dir, identityFile)
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

// lastTerm returns the term of entry last, which may be only in the store.
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

// ForceNewCluster creates the data directory of a node from the state of a former cluster, such as a backup. The node is the
// only voter of a new cluster that continues with that state; cluster is its ID. open creates and returns the store, which
// replaces Options.Store and which the caller closes. Options.Dir must not contain a node yet. A node cannot start in a
// directory that ForceNewCluster did not finish.
func ForceNewCluster(o Options, open func() (*store.Store, error)) (cluster string, err error) {
	cluster = randomID()
	id := &Identity{Format: identityFormat, ID: o.ID, ClusterID: cluster, CreatedAt: time.Now().UTC(), Instance: randomID()}
	// A node with an identity but without a log does not start. That is the state after a crash before the rest is written.
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
		return "", errors.New("the state belongs to no cluster")
	}
	l, err := openLog(o, true, func(error) {})
	if err != nil {
		return "", err
	}
	err = l.forceNewCluster(newCluster{
		self:   raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(o.ID), Address: raft.ServerAddress(o.Address)},
		former: former, id: cluster, reason: hubpb.NewClusterReason_NEW_CLUSTER_RESTORED, clock: o.Clock,
	}, pos.Index, pos.Term+1)
	if err = errors.Join(err, l.close(), durable.SyncDir(o.Dir)); err != nil {
		return "", err
	}
	id.moveTo(cluster, all)
	return cluster, id.write(o.Dir)
}

// sameLineage reports whether a node's files belong to the same history although their cluster IDs differ: a forced new
// cluster was written to only one of them before a crash, or is not applied yet.
func (n *Node) sameLineage(cluster string, former []string) bool {
	return slices.Contains(n.identity.Former, cluster) || slices.Contains(former, n.identity.ClusterID)
}
