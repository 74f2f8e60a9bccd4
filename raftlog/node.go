package raftlog

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/store"
)

// maxAppendEntries is how many entries raft sends, stores or applies at once. All of them must cross the link within the
// transport's timeout.
const maxAppendEntries = 64

const (
	closeTimeout = 10 * time.Second       // for Close, if its context has no deadline
	stopTimeout  = 5 * time.Second        // for raft and the last flush
	slotTimeout  = 100 * time.Millisecond // for the batcher's slots after raft has stopped
)

// Node is one member of the cluster. It is safe for concurrent use.
type Node struct {
	opts      Options
	store     *store.Store
	engine    engine // the store, as raft sees it
	log       *logStore
	fsm       *fsm
	raft      *raft.Raft
	snapshots raft.SnapshotStore
	link      raft.Transport // connects raft with the other nodes
	level     uint32         // feature level of this program
	batcher   *batcher
	own       *leader
	port      *port    // nil: no other nodes
	caller    *caller  // nil without port
	identity  Identity // guarded by idMu once raft runs
	idMu      sync.Mutex
	boot      string // identifies this run of the node

	ctx    context.Context // ends when the node stops or fails
	cancel context.CancelFunc

	failure    atomic.Pointer[error]
	failOnce   sync.Once
	verbose    atomic.Bool // raft's warnings are worth logging: the node is neither starting nor stopping
	diskFull   atomic.Bool
	freeDisk   atomic.Int64
	leading    atomic.Bool
	leadTerm   atomic.Uint64             // the term in which leading was set
	leadBegin  atomic.Pointer[termStart] // start of that term; set before leading
	written    highest                   // see Written
	running    atomic.Bool               // raft is set
	progress   progress
	installing activity // of a snapshot from the leader; begins anew with each step
	clock      *clusterClock
	view       clusterView
	members    membership

	forwarded     atomic.Int64          // bytes of other nodes' batches in flight
	contact       latest                // see Contact
	reign         atomic.Pointer[reign] // nil: this node does not lead
	confirmed     *confirmations
	leaderChanged leaderChange
	formation     formation
	repeats       *repeats
	vouched       vouched
	twin          lasting       // refusals because another process has this node's ID and data
	unproven      lasting       // refusals for lack of a common secret
	raftRuns      chan struct{} // closed when running is set
	reading       *readGate     // for consistent reads on this node
	verifying     *readGate     // for those that ask this node as leader
	founded       bool          // the node belongs to a cluster or founds one; set before raft runs
	foundingLevel uint32        // feature level that all founders know, if this node founds the cluster; 0: not known
	ready         chan struct{} // see Ready
	reload        sync.Mutex    // guards reloading raft's configuration; also held until raft is set

	notify    chan bool // from raft: leadership gained or lost
	owned     sync.WaitGroup
	closeOnce sync.Once
	closeErr  error
}

var (
	_ hub.Proposer = (*Node)(nil)
	_ hub.Cluster  = (*Node)(nil)
)

// Open starts a node. A fresh node founds a cluster unless Options.Join is set; a node that was a member of a cluster
// never does. With Options.Peers a fresh node waits in Open until it is clear whether it founds a cluster with them. If
// the node is the only voter, Open returns once it leads, everything in its log is applied and the cluster has an ID.
// Otherwise it returns at once; see Ready. ctx bounds Open only. Files that are missing, damaged or inconsistent are a
// *FileError.
func Open(ctx context.Context, opts Options) (*Node, error) {
	n, err := newNode(opts)
	if err != nil {
		return nil, err
	}
	// A damaged file can be shorter than its pages claim: reading its map then faults instead of failing.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	if err = n.openFiles(ctx); err == nil {
		err = n.start(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, n.abort())
	}
	return n, nil
}

// newNode assembles a node that has opened nothing yet.
func newNode(opts Options) (*Node, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	n := &Node{
		opts: o, store: o.Store, engine: o.Store, level: hub.FeatureLevel, clock: newClusterClock(o.Clock),
		ready: make(chan struct{}), raftRuns: make(chan struct{}), notify: make(chan bool, 16), boot: randomID(),
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.repeats = newRepeats(n.answers)
	n.members.start(n.ctx)
	n.view.start()
	n.confirmed, n.leaderChanged = newConfirmations(n.view.since), newLeaderChange()
	n.snapshots = newSnapshotStore(n.engine, &n.installing)
	_, n.link = raft.NewInmemTransport(raft.ServerAddress(o.Address)) // without a port there is no other node
	n.reading, n.verifying = newReadGate(n.readIndex), newReadGate(n.verifiedIndex)
	return n, nil
}

// start opens the port, runs raft, and waits as Open promises.
func (n *Node) start(ctx context.Context) (err error) {
	if n.opts.Listener != nil {
		if err := n.openPort(ctx); err != nil {
			return err
		}
	}
	if err := n.startRaft(); err != nil {
		return err
	}
	if !n.onlyVoter() {
		if n.founds() {
			err = n.electNow()
		}
		n.verbose.Store(true)
		return err
	}
	if err := n.electNow(); err != nil {
		return err
	}
	select {
	case <-n.ready:
		n.verbose.Store(true)
		return nil
	case <-n.ctx.Done():
		return fmt.Errorf("start node: %w", n.Err())
	case <-ctx.Done():
		return fmt.Errorf("start node: not leading yet: %w", ctx.Err())
	}
}

// openFiles opens or creates node.json and raft.db, and checks them against the store.
func (n *Node) openFiles(ctx context.Context) error {
	dir := n.opts.Dir
	id, err := ReadIdentity(dir)
	if err != nil {
		return err
	}
	if id == nil {
		if _, err := os.Stat(filepath.Join(dir, logFile)); err == nil || n.store.Durable().Index > 0 {
			return &FileError{File: filepath.Join(dir, identityFile), Problem: "is missing, but the directory holds other files of a node", Hint: hintRestore}
		}
		id = &Identity{Format: identityFormat, ID: n.opts.ID, CreatedAt: n.opts.Clock.Now().UTC(), Instance: randomID()}
		if err := id.write(dir); err != nil {
			return err
		}
	}
	if err := id.Check(dir, n.opts.ID); err != nil {
		return err
	}
	n.identity = *id
	// Only a node that never finished its first start may lack a log.
	create := id.ClusterID == "" && n.store.Durable().Index == 0
	if n.log, err = openLog(n.opts, create, n.fail); err != nil {
		return err
	}
	// Raft resumes where the files end, so the memory must not be ahead of them.
	if err := n.store.Flush(ctx); err != nil {
		return fmt.Errorf("flush the store: %w", err)
	}
	if err := n.checkLevel(); err != nil {
		return err
	}
	return n.checkFiles()
}

// refuse returns the reason why new work is not accepted, or nil.
func (n *Node) refuse() error {
	switch {
	case n.diskFull.Load():
		return hub.ErrDiskFull
	case n.store.Overloaded():
		return hub.ErrOverloaded
	}
	return nil
}

// Propose implements hub.Proposer. Before Ready it returns hub.ErrNoLeader.
func (n *Node) Propose(ctx context.Context, events ...*hubpb.Event) ([]hub.Result, error) {
	select {
	case <-n.ready:
	default:
		return nil, hub.ErrNoLeader
	}
	if err := n.checkEvents(events); err != nil {
		return nil, err
	}
	return n.batcher.Propose(ctx, events...)
}

// fail stops the node after its first failure: from then on nothing is acknowledged.
func (n *Node) fail(err error) {
	n.failOnce.Do(func() {
		n.failure.Store(&err)
		n.verbose.Store(false)
		n.leading.Store(false)
		n.cancel()
		if n.batcher != nil {
			n.batcher.halt()
		}
		n.opts.Logger.Error("node stops after a failure", "error", err)
		go n.opts.Fatal(err)
	})
}

// Err returns the failure that stopped the node, or nil.
func (n *Node) Err() error {
	if err := n.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// Ready is closed once the node takes part: it leads and has applied everything before its term, or it follows a leader;
// and it knows the cluster's ID.
func (n *Node) Ready() <-chan struct{} { return n.ready }

// Close stops the node: it accepts nothing new, finishes what is in flight, passes leadership to another voter if there is
// one, stops raft, flushes the store and closes raft.db. ctx bounds it (10 seconds if it has no deadline); after that the
// rest is cut short, which loses nothing acknowledged. Close does not close the store. Further calls return the first
// call's error.
func (n *Node) Close(ctx context.Context) error {
	n.closeOnce.Do(func() { n.closeErr = n.shutdown(ctx) })
	return n.closeErr
}

func (n *Node) shutdown(ctx context.Context) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, closeTimeout)
		defer cancel()
	}
	var errs []error
	if err := n.batcher.drain(ctx); err != nil {
		errs = append(errs, fmt.Errorf("finish proposals in flight: %w", err))
	}
	if n.IsLeader() && !n.onlyVoter() {
		_ = await(ctx, n.raft.LeadershipTransfer()) // if it fails, the others elect a leader
	}
	n.verbose.Store(false)
	n.leading.Store(false)
	n.cancel()
	n.batcher.halt()
	if n.port != nil {
		_ = n.port.Close() // raft may be receiving a snapshot from another node
	}
	// Raft stops within milliseconds unless the disk hangs; it gets its own timeout, however long the rest took.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if err := n.stopRaft(ctx); err != nil {
		return errors.Join(append(errs, err)...)
	}
	if n.Err() == nil {
		if err := n.store.Flush(ctx); err != nil {
			errs = append(errs, fmt.Errorf("flush the store: %w", err))
		}
	}
	if err := n.log.close(); err != nil {
		errs = append(errs, fmt.Errorf("close %s: %w", n.log.path, err))
	}
	return errors.Join(errs...)
}

// Abort stops the node at once, as a crash of its process would: nothing is finished, handed over or flushed, and nothing
// acknowledged is lost. It is for a node that has failed, and does not close the store. Only the first call of Close or
// Abort has an effect; further calls return its error.
func (n *Node) Abort() error {
	n.closeOnce.Do(func() { n.closeErr = n.halt() })
	return n.closeErr
}

func (n *Node) halt() error {
	n.verbose.Store(false)
	n.leading.Store(false)
	n.cancel()
	n.batcher.halt()
	if n.port != nil {
		_ = n.port.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	return errors.Join(n.stopRaft(ctx), n.log.close())
}

// stopRaft stops raft, the node's goroutines and the batcher's slots.
func (n *Node) stopRaft(ctx context.Context) error {
	if err := await(ctx, n.raft.Shutdown()); err != nil {
		return fmt.Errorf("stop raft: %w", err)
	}
	n.owned.Wait()
	n.closePort()
	// A slot whose future was in raft's channels when raft stopped never gets an answer and cannot be waited for. Its
	// callers already have theirs.
	abandoned := time.NewTimer(slotTimeout)
	defer abandoned.Stop()
	select {
	case <-n.batcher.ended:
	case <-abandoned.C:
	case <-ctx.Done():
	}
	return nil
}

// abort tears down what a failed Open has built.
func (n *Node) abort() error {
	n.cancel()
	if n.batcher != nil {
		n.batcher.halt()
	}
	switch {
	case n.raft != nil:
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		if err := n.stopRaft(ctx); err != nil {
			return err
		}
	case n.batcher != nil:
		<-n.batcher.ended
	}
	n.closePort()
	var errs []error
	if c, ok := n.link.(raft.WithClose); ok && n.raft == nil {
		errs = append(errs, c.Close())
	}
	if n.log != nil {
		errs = append(errs, n.log.close())
	}
	return errors.Join(errs...)
}

// await waits for a future, or until ctx ends: a future may never resolve once raft shuts down.
func await(ctx context.Context, f raft.Future) error {
	done := make(chan error, 1)
	go func() { done <- f.Error() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func randomID() string {
	var b [8]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
