package raftlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"quorumhub/hub"
	"quorumhub/store"
)

// MaxInFlightLimit is the most entries a node may have in flight. A batch proposed again is recognised only
// while its origin has not gone 64 batches further (see package hub), so this stays far below that.
const MaxInFlightLimit = 32

// Options configures a Node. ID, Dir and Store are needed.
type Options struct {
	// ID names the node in the cluster, for ever: a node whose files were lost must come back under a new
	// ID, because its votes are lost with them.
	ID string
	// Dir is the directory of node.json and raft.db. It is made when it does not exist.
	Dir string
	// Address is where other nodes reach this one, host:port. It is the default transport's address.
	Address string
	// Store is opened by the caller, and closed by it after Close of the Node.
	Store *store.Store

	// Transport connects the nodes; the Node closes it. nil: an in-memory transport, right for one voter.
	Transport raft.Transport
	// Bootstrap is the first configuration of a new cluster, used by a fresh node only. Empty: this node alone.
	Bootstrap []raft.Server
	// Join keeps a fresh node from founding a cluster: it waits until a leader adds it.
	Join bool

	// Listener is the cluster port: with it the node talks to others, over raft's own streams and calls between
	// nodes. The Node closes it. Plain TCP is for loopback addresses only. It excludes Transport.
	Listener net.Listener
	// Dial connects with another node's cluster port; nil: the TCP of this machine. It is to Listener what a
	// client's dialer is to a server: whoever brings one usually brings both.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Peers are the nodes that found the cluster together, this one included, the same on every node. A fresh node
	// founds it when all of them are reachable, fresh and of the same opinion. Address is this node's among them.
	Peers []Peer
	// Token, when not empty, is a secret that all nodes share; who does not know it is not talked to.
	Token string
	// TLS makes connections between nodes mutual TLS. nil: plain TCP.
	TLS *TLSFiles
	// Shared describes, without giving it away, what else must be the same on all nodes to found a cluster.
	Shared string
	// Keys are the ids of all keys for secrets at rest that this node holds, for a leader to compare with those that the
	// state needs when the node joins. nil: Shared is compared instead.
	Keys func() []string
	// Describe is what the others are told about this node, beside what raftlog knows itself. It must be quick.
	Describe func() Description
	// HandleCall answers Node.Call of other nodes. It must be quick and safe for concurrent use. nil: nothing is answered.
	HandleCall func(request []byte) ([]byte, error)

	// Nonvoter makes a node that joins a cluster one that never votes: it holds everything and delivers its share. It
	// cannot found a cluster. What the node is to be later is the operators' choice, see Node.Change.
	Nonvoter bool
	// ListedOnly makes a leader let only those nodes join that were announced with Node.Change.
	ListedOnly bool
	// Autopilot is how a leader cares for the cluster's members.
	Autopilot Autopilot

	// Timing of elections and replication.
	Timing Timing

	// MaxInFlight is how many batches of this node are under way at once, default 4, at most MaxInFlightLimit.
	MaxInFlight int
	// MaxEntryBytes closes a batch, default 256 KiB. A single proposal may be larger and goes alone.
	MaxEntryBytes int
	// MaxQueuedBytes bounds the encoded proposals waiting and in flight, default 64 MiB. Past it new work
	// gets hub.ErrOverloaded; what follows from work accepted earlier may use as much again.
	MaxQueuedBytes int64
	// MinFreeBytes is the free disk space below which new work gets hub.ErrDiskFull; 0: no check.
	MinFreeBytes int64
	// RetryFor is how long a batch whose outcome is unknown is proposed again before its callers get
	// hub.ErrAmbiguous, default 1.7 seconds, so that a client has
	// its answer within two.
	RetryFor time.Duration
	// LeaderWait is how long a batch waits for a leader before its callers get hub.ErrNoLeader, default 0; with a
	// Listener 800 ms.
	LeaderWait time.Duration

	// SnapshotInterval is how often raft looks whether its log should be cut (it waits one to two intervals),
	// default 15 seconds; it cuts when SnapshotThreshold entries, default 1024, came since the last time.
	SnapshotInterval  time.Duration
	SnapshotThreshold uint64
	// SnapshotBytes cuts the log early, when that many bytes came since the last time; default 64 MiB.
	SnapshotBytes int64
	// TrailingBytes of entries, at least MinTrailing of them, stay in the log after it was cut, so that a node
	// that was away for a moment needs no snapshot. Defaults 64 MiB and 64 entries; negative: none.
	TrailingBytes int64
	MinTrailing   int
	// LogCache is how many of the newest entries raft keeps in memory, default 256.
	LogCache int

	// StallTimeout is how long one write to raft.db may take before the disk counts as failed; default 30 seconds.
	StallTimeout time.Duration
	// LockTimeout is how long Open waits for raft.db when another process holds it, default 2 seconds.
	LockTimeout time.Duration

	// Logger gets what an operator may want to know, and raft's own words at debug level; nil: nothing.
	Logger *slog.Logger
	// Clock stamps the entries, default hub.SystemClock.
	Clock hub.Clock
	// Fatal is called once, on a goroutine of its own, when the node can go on no longer: a write failed or
	// stalled, or an entry could not be applied. Nothing is acknowledged after it. The process should end.
	Fatal func(error)
}

// Timing is raft's timing. The zero value takes the defaults.
type Timing struct {
	Heartbeat time.Duration // without contact to the leader for this long a follower stands for election; default 1 s, with a Listener 500 ms
	Election  time.Duration // a candidate tries again after this long; default: Heartbeat
	Lease     time.Duration // a leader without contact to a quorum for this long steps down; default 500 ms
	Commit    time.Duration // how late followers of an idle leader learn of a commit that no nudge told them of; default 250 ms
}

// Autopilot says when the set of voters changes by itself.
type Autopilot struct {
	// Stabilization is how long a node that is to vote must have been caught up without a break before it gets its
	// vote; default 10 s.
	Stabilization time.Duration
	// CleanupDead removes a node that was dead for this long; 0: never.
	CleanupDead time.Duration
	// MinVoters is how many voters CleanupDead leaves at least, default 3.
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
		return o, fmt.Errorf("raftlog: Options.MaxInFlight is %d, the most is %d", o.MaxInFlight, MaxInFlightLimit)
	case o.Listener != nil && o.Transport != nil:
		return o, errors.New("raftlog: Options.Listener and Options.Transport exclude each other")
	case o.Listener != nil && !slices.ContainsFunc(o.Peers, func(p Peer) bool { return p.ID == o.ID }):
		return o, fmt.Errorf("raftlog: Options.Peers does not name this node, %s", o.ID)
	case len(o.Bootstrap) > 0 && o.Join:
		return o, errors.New("raftlog: Options.Join and Options.Bootstrap exclude each other")
	}
	orDefault(&o.MaxInFlight, 4)
	orDefault(&o.MaxEntryBytes, 256<<10)
	orDefault(&o.MaxQueuedBytes, 64<<20)
	orDefault(&o.RetryFor, 1700*time.Millisecond)
	orDefault(&o.SnapshotInterval, 15*time.Second)
	orDefault(&o.SnapshotThreshold, 1024)
	orDefault(&o.SnapshotBytes, 64<<20)
	orDefault(&o.LogCache, 256)
	orDefault(&o.StallTimeout, 30*time.Second)
	orDefault(&o.LockTimeout, 2*time.Second)
	if o.TrailingBytes < 0 {
		o.TrailingBytes, o.MinTrailing = 0, 0
	} else {
		if o.TrailingBytes == 0 {
			o.TrailingBytes = 64 << 20
		}
		orDefault(&o.MinTrailing, 64)
	}
	if o.Listener != nil {
		o.Peers = slices.SortedFunc(slices.Values(o.Peers), func(a, b Peer) int { return strings.Compare(a.ID, b.ID) })
		for _, p := range o.Peers {
			if p.ID == o.ID {
				o.Address = p.Address
			}
		}
		orDefault(&o.LeaderWait, 800*time.Millisecond)
		// Followers stand for election one to two of these after the leader's last sign of life.
		orDefault(&o.Timing.Heartbeat, 500*time.Millisecond)
	}
	orDefault(&o.Autopilot.Stabilization, 10*time.Second)
	orDefault(&o.Autopilot.MinVoters, 3)
	orDefault(&o.Timing.Heartbeat, time.Second)
	orDefault(&o.Timing.Election, o.Timing.Heartbeat)
	orDefault(&o.Timing.Lease, min(o.Timing.Heartbeat, 500*time.Millisecond))
	orDefault(&o.Timing.Commit, 250*time.Millisecond)
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

func orDefault[T ~int | ~int64 | ~uint64](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}
