package raftlog

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/store"
)

// LevelPause is how often a leader checks its members' levels.
const LevelPause = levelPause

// Faults are the faults that OpenFaulty injects into a node, and the guards it removes. The zero value changes nothing.
type Faults struct {
	Transport   raft.Transport                    // in place of the in-memory one of a single node
	WrapLog     func(raft.LogStore) raft.LogStore // put between raft.db and its guard
	AfterApply  func(error) error                 // may turn an applied batch into a failed one
	BeforeFlush func() error                      // may fail a flush for a snapshot
	Level       *uint32                           // the feature level this program claims to know

	PersistWithoutFlush bool // a snapshot does not make the store durable
	CompactUnchecked    bool // the log is compacted beyond what is durable
	MetaFromMemory      bool // a snapshot's index is the applied one, not the durable one
	InstallUnchecked    bool // a received snapshot need not be at the announced index
	ReadUnverified      bool // a leader answers reads without asking a quorum
}

// OpenFaulty is Open with faults.
func OpenFaulty(ctx context.Context, opts Options, f Faults) (*Node, error) {
	n, err := newNode(opts)
	if err != nil {
		return nil, err
	}
	n.engine = &faultyEngine{Store: n.store, faults: f}
	n.snapshots = newSnapshotStore(n.engine, &n.installing)
	if f.InstallUnchecked {
		n.snapshots = uncheckedSnapshots{n.snapshots}
	}
	if f.Transport != nil {
		n.link = f.Transport
	}
	if f.Level != nil {
		n.level = *f.Level
	}
	if f.ReadUnverified {
		n.verifying = newReadGate(func() (uint64, error) {
			_, index, err := n.commitIndex()
			return index, err
		})
	}
	if err = n.openFiles(ctx); err == nil {
		if f.WrapLog != nil {
			n.log.logs = f.WrapLog(n.log.logs)
		}
		if f.CompactUnchecked {
			n.log.state = boastful{n.store}
		}
		err = n.start(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, n.abort())
	}
	return n, nil
}

// faultyEngine is a store with faults, as raft sees it.
type faultyEngine struct {
	*store.Store
	faults  Faults
	claimed atomic.Uint64 // index of a snapshot that was not flushed
}

func (e *faultyEngine) Apply(entries []store.Entry) ([][]hub.BatchResult, error) {
	answers, err := e.Store.Apply(entries)
	if e.faults.AfterApply != nil {
		err = e.faults.AfterApply(err)
	}
	return answers, err
}

func (e *faultyEngine) Witness(index, term uint64, configuration []byte, configurationIndex uint64) {
	if e.faults.PersistWithoutFlush {
		e.claimed.Store(index)
		return
	}
	e.Store.Witness(index, term, configuration, configurationIndex)
}

func (e *faultyEngine) Flush(ctx context.Context) error {
	if e.faults.PersistWithoutFlush {
		return nil
	}
	if e.faults.BeforeFlush != nil {
		if err := e.faults.BeforeFlush(); err != nil {
			return err
		}
	}
	return e.Store.Flush(ctx)
}

func (e *faultyEngine) Durable() store.Position {
	p := e.Store.Durable()
	p.Index = max(p.Index, e.claimed.Load())
	return p
}

func (e *faultyEngine) Snapshot(ctx context.Context) (*store.Snapshot, error) {
	s, err := e.Store.Snapshot(ctx)
	if err == nil && e.faults.MetaFromMemory {
		s.Position = e.Applied()
	}
	return s, err
}

// boastful claims that everything applied is durable.
type boastful struct{ positions }

func (b boastful) Durable() store.Position { return b.Applied() }

// uncheckedSnapshots accepts a received snapshot at any index.
type uncheckedSnapshots struct{ raft.SnapshotStore }

func (u uncheckedSnapshots) Create(version raft.SnapshotVersion, index, term uint64, configuration raft.Configuration, configurationIndex uint64, t raft.Transport) (raft.SnapshotSink, error) {
	sink, err := u.SnapshotStore.Create(version, index, term, configuration, configurationIndex, t)
	if err != nil {
		return nil, err
	}
	return uncheckedSink{sink.(*snapshotSink)}, nil
}

type uncheckedSink struct{ *snapshotSink }

func (s uncheckedSink) Close() error {
	if s.pipe != nil {
		s.pipe.Close()
		<-s.done
		if s.in != nil {
			s.meta.Index, s.meta.Term = s.in.Position.Index, s.in.Position.Term
		}
	}
	return s.snapshotSink.Close()
}

// CheckEventLevel refuses an event that needs a higher feature level than the cluster has.
func CheckEventLevel(e *hubpb.Event, need, has uint32) error { return checkEventLevel(e, need, has) }

// AliveWithin is Alive with another patience for applying entries.
func (n *Node) AliveWithin(ctx context.Context, patience time.Duration) error {
	return n.alive(ctx, patience)
}

// CompactLog makes raft take a snapshot and compact its log now.
func (n *Node) CompactLog() error { return n.raft.Snapshot().Error() }

// Send writes a batch to the log without the batcher, like a forwarded or repeated one.
func (n *Node) Send(origin string, seq uint64, proposals ...[]byte) (hub.BatchResult, error) {
	return n.batcher.sink.send(&batch{origin: origin, seq: seq, proposals: proposals})
}

func (n *Node) AddVoter(id, address string) error {
	return n.raft.AddVoter(raft.ServerID(id), raft.ServerAddress(address), 0, 5*time.Second).Error()
}

func (n *Node) TransferLeadership() error { return n.raft.LeadershipTransfer().Error() }

// VerifyTerm asks a quorum to confirm that it knows no later term.
func (n *Node) VerifyTerm(ctx context.Context, term uint64) error { return n.verifyTerm(ctx, term) }

// Raft returns the node's raft.
func (n *Node) Raft() *raft.Raft { return n.raft }

// PersistAt persists as for a snapshot at this position.
func (n *Node) PersistAt(index, term uint64, c raft.Configuration, configurationIndex uint64) error {
	sink, err := newSnapshotStore(n.store, new(activity)).Create(1, index, term, c, configurationIndex, nil)
	if err != nil {
		return err
	}
	return errors.Join(persister{n}.Persist(sink), sink.Close())
}

// Sink returns a sink as raft uses it for a snapshot.
func (n *Node) Sink(index, term uint64, c raft.Configuration, configurationIndex uint64) (raft.SnapshotSink, error) {
	return newSnapshotStore(n.store, new(activity)).Create(1, index, term, c, configurationIndex, nil)
}

// Restore calls the fsm as raft does.
func (n *Node) Restore(r io.ReadCloser) error { return n.fsm.Restore(r) }

// ReceiveAndRestore receives a snapshot as if from the leader.
func (n *Node) ReceiveAndRestore(index, term uint64, from io.Reader) error {
	s := newSnapshotStore(n.store, new(activity))
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

// wrapped hides a reader, like raft's counting reader.
type wrapped struct{ io.ReadCloser }

func (w wrapped) WrappedReadCloser() io.ReadCloser { return w.ReadCloser }

func (n *Node) AddNonvoter(id, address string) error {
	return n.raft.AddNonvoter(raft.ServerID(id), raft.ServerAddress(address), 0, 5*time.Second).Error()
}

// Dial connects to the node at address for calls.
func (n *Node) Dial(ctx context.Context, address string) error {
	conn, err := n.port.dial(ctx, purpose{kind: streamCalls}, Peer{Address: address})
	if err != nil {
		return err
	}
	return conn.Close()
}

// Visitor is a program that connects to a cluster port as some node.
type Visitor struct {
	ID, Instance, Cluster, Token string
	Boot                         string
	Secrets                      [][]byte
	TLS                          *TLSFiles
	Open                         bool // it claims to ask only what anybody may ask
	Old                          bool // it knows no proofs
}

func (v Visitor) connect(ctx context.Context, kind byte, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if end, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(end)
	}
	shared := newSecrets(v.Token, func() [][]byte { return v.Secrets })
	me := &self{id: v.ID, instance: v.Instance, cluster: v.Cluster, boot: v.Boot, level: hub.FeatureLevel}
	if v.TLS != nil {
		c, err := v.TLS.client("127.0.0.1")
		if err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		conn, shared = tls.Client(conn, c), nil
	}
	if v.Old {
		shared = nil
	}
	if _, err := dialHandshake(conn, purpose{kind, v.Open}, me, "", v.Token, shared); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// Raft opens one of raft's streams.
func (v Visitor) Raft(ctx context.Context, address string) (net.Conn, error) {
	return v.connect(ctx, streamRaft, address)
}

// Calls opens a connection for calls.
func (v Visitor) Calls(ctx context.Context, address string) (*Visit, error) {
	conn, err := v.connect(ctx, streamCalls, address)
	return &Visit{conn: conn}, err
}

// Visit is a connection of a Visitor for calls.
type Visit struct {
	conn net.Conn
	sent uint64
}

// Call makes a call; a byte names the method.
func (v *Visit) Call(ctx context.Context, method byte, body []byte) (status byte, answer []byte, err error) {
	v.sent++
	if err := writeFrame(ctx, v.conn, frame{v.sent, method, body}); err != nil {
		return 0, nil, err
	}
	f, err := readFrame(v.conn, func() uint32 { return maxFrame })
	return f.kind, f.body, err
}

func (v *Visit) Close() error { return v.conn.Close() }

// Methods that are open to all, and what those who are not members get from the others.
const (
	MethodState, MethodStatus, MethodForward, MethodJoin = methodState, methodStatus, methodForward, methodJoin

	StatusOK, StatusRemoved, StatusStranger = statusOK, statusRemoved, statusStranger
)

// ForwardBody is a batch as a follower sends it to the leader.
func ForwardBody(origin string, seq uint64, proposals ...[]byte) []byte {
	return encodeForward(&batch{origin: origin, seq: seq, proposals: proposals, newWork: true})
}

// Instance identifies the node's files.
func (n *Node) Instance() string { return n.port.self.Load().instance }

// SealValue returns the stored form of a value.
func SealValue(key string, val []byte) []byte { return sealValue([]byte(key), val) }

// VerifiedIndex returns the index for which a consistent read waits on the leader.
func (n *Node) VerifiedIndex() (uint64, error) { return n.verifiedIndex() }

// LogBounds are the first and the last entry of raft's log.
func (n *Node) LogBounds() (first, last uint64) { return n.log.bounds() }

// PutEntries writes entries to raft's log in a directory whose node does not run.
func PutEntries(dir string, indexes ...uint64) error {
	db, err := raftboltdb.NewBoltStore(filepath.Join(dir, logFile))
	if err != nil {
		return err
	}
	var logs []*raft.Log
	for _, i := range indexes {
		logs = append(logs, &raft.Log{Index: i, Term: 1, Type: raft.LogNoop})
	}
	err = sealEntries(logs)
	if err == nil {
		err = chunks{db}.StoreLogs(logs)
	}
	return errors.Join(err, db.Close())
}

// CloseLogFile closes the file behind what Faults.WrapLog is given, so that writing to it fails.
func CloseLogFile(l raft.LogStore) error { return l.(chunks).LogStore.(*raftboltdb.BoltStore).Close() }
