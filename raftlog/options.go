package raftlog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"quorumhub/hub"
	"quorumhub/store"
)

// MaxInFlightLimit is the upper limit of Options.MaxInFlight. A repeated batch is recognised only until its origin is 64
// batches further (see package hub), so this stays far below that.
const MaxInFlightLimit = 32

// Options configures a Node. ID, Dir and Store are required.
type Options struct {
	// ID permanently names the node in the cluster. A node whose files were lost must come back under a new ID, because its
	// votes are lost too.
	ID string
	// Dir is the directory of node.json and raft.db. It is created if missing.
	Dir string
	// Address is where other nodes reach this one (host:port).
	Address string
	// Store is opened by the caller, who closes it after closing the Node.
	Store *store.Store

	// Bootstrap is the first configuration of a new cluster. Only a fresh node uses it. Empty: this node alone.
	Bootstrap []raft.Server
	// Join keeps a fresh node from founding a cluster; it waits until a leader adds it.
	Join bool

	// Listener is the cluster port. It carries raft's own streams and calls between nodes. The Node closes it. Plain TCP is
	// for loopback addresses only. nil: the node is on its own.
	Listener net.Listener
	// Dial connects to another node's cluster port. nil: this machine's TCP. It is the counterpart of Listener; whoever
	// provides one usually provides both.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Peers are the nodes that found the cluster together, this one included. They must be the same on every node. A fresh
	// node founds the cluster when all of them are reachable, fresh and configured alike. Address is taken from this node's
	// entry.
	Peers []Peer
	// Token, if not empty, is a secret shared by all nodes. Connections without it are refused.
	Token string
	// Secrets returns other secrets that only the nodes of this cluster know, the preferred one first. With plain TCP and without
	// Token, two nodes talk as members only if they have one in common. They are not sent.
	Secrets func() [][]byte
	// TLS enables mutual TLS between nodes. nil: plain TCP.
	TLS *TLSFiles
	// Shared identifies, without revealing it, what else must be the same on all nodes that found a cluster.
	Shared string
	// Keys returns the IDs of all sealing keys this node holds. When the node joins, the leader compares them with those the
	// state needs. nil: Shared is compared instead.
	Keys func() []string
	// URLs are those under which clients reach this node. Every node learns them through the log.
	URLs []string
	// Settings should be the same on every node; nodes compare them in each handshake and warn of differences.
	Settings []Setting
	// Describe returns what other nodes are told about this one, besides what raftlog knows itself. It must be quick.
	Describe func() Description
	// HandleCall answers other nodes' Node.Call. It must be quick and safe for concurrent use. nil: calls are refused.
	HandleCall func(request []byte) ([]byte, error)

	// Nonvoter makes a joining node a non-voter: it holds all data and delivers its share. It cannot found a cluster. An
	// operator may change it later with Node.Change.
	Nonvoter bool
	// ListedOnly makes a leader admit only nodes that were announced with Node.Change.
	ListedOnly bool
	// Autopilot configures how a leader promotes and removes members on its own.
	Autopilot Autopilot

	// Timing configures elections and replication.
	Timing Timing

	// MaxInFlight is how many batches of this node are in flight at once, default 4, at most MaxInFlightLimit.
	MaxInFlight int
	// MaxEntryBytes is the size at which a batch is closed, default 256 KiB. A larger proposal forms a batch of its own.
	MaxEntryBytes int
	// MaxQueuedBytes bounds the encoded proposals waiting and in flight, default 64 MiB. Beyond it new work gets
	// hub.ErrOverloaded; the consequences of work accepted earlier may use as much again.
	MaxQueuedBytes int64
	// MinFreeBytes is the free disk space below which new work gets hub.ErrDiskFull. 0: no check.
	MinFreeBytes int64
	// RetryFor is how long a batch whose outcome is unknown is proposed again before its callers get hub.ErrAmbiguous,
	// default 1.7 seconds, so that a client has its answer within two.
	RetryFor time.Duration
	// LeaderWait is how long a batch waits for a leader before its callers get hub.ErrNoLeader. Default 0, with a Listener
	// 800 ms.
	LeaderWait time.Duration

	// SnapshotInterval is how often raft checks whether to compact its log (it waits one to two intervals), default 15
	// seconds. It compacts after SnapshotThreshold new entries, default 1024.
	SnapshotInterval  time.Duration
	SnapshotThreshold uint64
	// SnapshotBytes is how many new bytes compact the log early, default 64 MiB.
	SnapshotBytes int64
	// TrailingBytes of entries, and at least MinTrailing of them, stay in the log when it is compacted, so that a node that
	// was briefly away needs no snapshot. Defaults: 64 MiB and 64 entries. Negative TrailingBytes: none.
	TrailingBytes int64
	MinTrailing   int
	// LogCache is the number of newest entries that raft keeps in memory, default 256.
	LogCache int

	// StallTimeout is how long one write to raft.db may take before the disk counts as failed, default 30 seconds.
	StallTimeout time.Duration
	// LockTimeout is how long Open waits for raft.db while another process holds it, default 2 seconds.
	LockTimeout time.Duration

	// Logger receives what an operator should know, and raft's own messages at debug level. nil: nothing is logged.
	Logger *slog.Logger
	// Clock is this machine's clock, default hub.SystemClock.
	Clock hub.Clock
	// Fatal is called once, on its own goroutine, when the node cannot continue: a write failed or stalled, or an entry could
	// not be applied. Nothing is acknowledged afterwards. The process should exit.
	Fatal func(error)
}

// Timing configures raft's timeouts. The zero value means the defaults.
type Timing struct {
	Heartbeat time.Duration // a follower without contact to the leader for this long stands for election; default 1 s, with a Listener 500 ms
	Election  time.Duration // a candidate tries again after this long; default: Heartbeat
	Lease     time.Duration // a leader without contact to a quorum for this long steps down; default 500 ms
	Commit    time.Duration // how late an idle leader's followers learn of a commit if no nudge reached them; default 250 ms
}

// Autopilot configures when the set of members changes on its own.
type Autopilot struct {
	// Stabilization is how long a future voter must have been caught up without interruption before it gets its vote,
	// default 10 s.
	Stabilization time.Duration
	// CleanupDead is how long a node must be dead before it is removed. 0: never.
	CleanupDead time.Duration
	// MinVoters is the number of voters that CleanupDead always leaves, default 3.
	MinVoters int
}

func (o Options) withDefaults() (Options, error) {
	switch {
	case o.ID == "":
		return o, errors.New("raftlog: Options.ID is empty")
	case o.Dir == "":
		return o, errors.New("raftlog: Options.Dir is empty")
	case o.Store == nil:
		return o, errors.New("raftlog: Options.Store is nil")
	case o.MaxInFlight > MaxInFlightLimit:
		return o, fmt.Errorf("raftlog: Options.MaxInFlight is %d; expected at most %d", o.MaxInFlight, MaxInFlightLimit)
	case o.Listener != nil && !slices.ContainsFunc(o.Peers, func(p Peer) bool { return p.ID == o.ID }):
		return o, fmt.Errorf("raftlog: Options.Peers does not list this node, %s", o.ID)
	case len(o.Bootstrap) > 0 && o.Join:
		return o, errors.New("raftlog: Options.Join and Options.Bootstrap exclude each other")
	}
	o.MaxInFlight = cmp.Or(o.MaxInFlight, 4)
	o.MaxEntryBytes = cmp.Or(o.MaxEntryBytes, 256<<10)
	o.MaxQueuedBytes = cmp.Or(o.MaxQueuedBytes, 64<<20)
	o.RetryFor = cmp.Or(o.RetryFor, 1700*time.Millisecond)
	o.SnapshotInterval = cmp.Or(o.SnapshotInterval, 15*time.Second)
	o.SnapshotThreshold = cmp.Or(o.SnapshotThreshold, 1024)
	o.SnapshotBytes = cmp.Or(o.SnapshotBytes, 64<<20)
	o.LogCache = cmp.Or(o.LogCache, 256)
	o.StallTimeout = cmp.Or(o.StallTimeout, 30*time.Second)
	o.LockTimeout = cmp.Or(o.LockTimeout, 2*time.Second)
	if o.TrailingBytes < 0 {
		o.TrailingBytes, o.MinTrailing = 0, 0
	} else {
		o.TrailingBytes = cmp.Or(o.TrailingBytes, 64<<20)
		o.MinTrailing = cmp.Or(o.MinTrailing, 64)
	}
	if o.Listener != nil {
		o.Peers = slices.SortedFunc(slices.Values(o.Peers), func(a, b Peer) int { return cmp.Compare(a.ID, b.ID) })
		for _, p := range o.Peers {
			if p.ID == o.ID {
				o.Address = p.Address
			}
		}
		o.LeaderWait = cmp.Or(o.LeaderWait, 800*time.Millisecond)
		// Followers stand for election one to two of these after they last heard from the leader.
		o.Timing.Heartbeat = cmp.Or(o.Timing.Heartbeat, 500*time.Millisecond)
	}
	o.Autopilot.Stabilization = cmp.Or(o.Autopilot.Stabilization, 10*time.Second)
	o.Autopilot.MinVoters = cmp.Or(o.Autopilot.MinVoters, 3)
	o.Timing.Heartbeat = cmp.Or(o.Timing.Heartbeat, time.Second)
	o.Timing.Election = cmp.Or(o.Timing.Election, o.Timing.Heartbeat)
	o.Timing.Lease = cmp.Or(o.Timing.Lease, min(o.Timing.Heartbeat, 500*time.Millisecond))
	o.Timing.Commit = cmp.Or(o.Timing.Commit, 250*time.Millisecond)
	if o.Address == "" {
		o.Address = o.ID
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.Describe == nil {
		o.Describe = func() Description { return Description{} }
	}
	if o.Clock == nil {
		o.Clock = hub.SystemClock{}
	}
	if o.Fatal == nil {
		o.Fatal = func(error) {}
	}
	return o, nil
}
