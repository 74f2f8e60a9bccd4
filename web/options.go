package web

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"quorumhub/auth"
	"quorumhub/hub"
	"quorumhub/web/sse"
)

// Options is what a Server is made of. Service, State, Messages, Letters, Times, Node and PublicURL are required.
type Options struct {
	Service  *hub.Service
	State    hub.StateReader
	Messages hub.MessageReader
	Parts    hub.PartReader // nil: no message is larger than hub.MaxInlineBytes
	Times    hub.TimeIndex
	Letters  hub.DeadLetterReader
	Node     Node
	// Feed is what the log's progress is told to, so that streams go on; nil: one of its own, which somebody has to tell.
	Feed *sse.Feed
	// Deliveries shows attempts; nil: there are none to show.
	Deliveries Deliveries
	Reads      Reads // nil: no other node is ahead of this one

	// Membership changes the cluster's nodes. nil: there is one node and never another.
	Membership Membership

	// PublicURL is the hub's base URL as the world sees it, the same on every node. rel=hub is PublicURL+"/hub"; it
	// never depends on the Host header.
	PublicURL string
	Version   string

	// Profile is the dialect of the hub endpoint. Empty: ProfileNative.
	Profile Profile
	// CompactJSON removes the spaces between the tokens of JSON content, and what its content type says besides.
	CompactJSON bool

	// Guard tells who calls and what they may do. nil: everybody may do everything.
	Guard *auth.Guard
	// TLS makes it HTTPS. nil: plain HTTP.
	TLS *tls.Config

	Clock hub.Clock // nil: the machine's
	// Warnings says in words what an operator should look after although the node works. nil: nothing.
	Warnings func() []string
	Log      *slog.Logger // nil: nothing is logged
	// Registry takes the server's metrics, and is what /metrics shows. nil: a registry of its own.
	Registry *prometheus.Registry

	// BudgetBytes bounds the bodies held in memory at a time, requests and answers together. 0: 64 MiB or
	// 16 times the largest message, whichever is more.
	BudgetBytes int64
	// MaxConnections bounds the connections open at a time; more wait to be accepted. 0: 8192 and StreamMax.
	MaxConnections int
	// ClientConnections bounds those of one client address, and ClientStreams its event streams; trusted proxies have no
	// bound of connections. 0: no limit but that of all.
	ClientConnections, ClientStreams int
	// BodyTimeout bounds the time a request's body may take. 0: 30 s.
	BodyTimeout time.Duration
	// StopGrace is how long requests under way may take to end once Serve's context is done. 0: 10 s.
	StopGrace time.Duration
	// StreamMax bounds the event streams open at a time; more are refused with 503. 0: 4096.
	StreamMax int
	// StreamHeartbeat is how often an idle stream gets a comment. 0: 15 s.
	StreamHeartbeat time.Duration
	// StreamWriteTimeout is how long a reader may take for what it is sent before it is dropped. 0: 10 s.
	StreamWriteTimeout time.Duration
	// StreamCatchUp is how long a stream that resumes behind this node's newest message waits for the node, which may
	// be a little behind the one the reader comes from. 0: 3 s.
	StreamCatchUp time.Duration
	// LiveGrace is how long the node must have been in trouble without a break before /health/live says so.
	// 0: 30 s.
	LiveGrace time.Duration
	// TrustedProxies are the networks whose X-Forwarded-For is believed. Empty: the peer's address is the client.
	TrustedProxies []netip.Prefix
	// Limits bound what one caller may ask of this node. The zero value: no limits.
	Limits Limits
	// Backups, if set, serves GET /v1/backup. A reader that takes nothing for BackupStall (0: 30 s) is cut off.
	Backups     Backups
	BackupStall time.Duration
	// Keys looks after the keys for secrets at rest; nil: there are none to look after.
	Keys Keys
	// Profiling serves /debug/pprof.
	Profiling bool
}

// Role of a node in its cluster, as GET /v1/cluster names it.
type Role string

// Roles.
const (
	RoleLeader   Role = "leader"
	RoleFollower Role = "follower"
	RoleNonvoter Role = "nonvoter"
	RoleDown     Role = "down"
)

// NodeView is what is known about one node of the cluster.
type NodeView struct {
	ID            string
	HTTPAddr      string
	ClusterAddr   string
	Role          Role
	AppliedIndex  uint64
	StateHash     uint64 // rolling hash at AppliedIndex (invariant I6)
	Subscriptions int    // that this node delivers

	Voter   bool
	Healthy bool // it answers, and is as far as the leader but for what is under way
	// LastContact is how long ago it heard of the leader; negative: never, or not known.
	LastContact  time.Duration
	Stopping     bool          // it is about to stop, or has stopped in good order
	Leaving      bool          // it is being removed
	Weight       int           // its share of the subscriptions in proportion to the others'
	FeatureLevel uint32        // that its program knows
	ClockOffset  time.Duration // how far its clock is ahead of the cluster's time
}

// Node is the cluster as one of its nodes sees it. Safe for concurrent use; no method waits for other nodes.
type Node interface {
	// ID is this node's id.
	ID() string
	// LeaderID is the id of the leader, empty while there is none.
	LeaderID() string
	// Nodes lists all nodes, this one included, in order of id.
	Nodes() []NodeView
	// FeatureLevel is the level of events that all nodes know, 0 before they have agreed on one.
	FeatureLevel() uint32
	// Owner is the id of the node that delivers a subscription, empty when none does.
	Owner(hub.SubscriptionID) string
	// InTouch tells whether this node follows the log: it hears of a leader and has caught up with it.
	InTouch() bool
	// NotReady says in words why this node cannot take requests now: no leader known, state not loaded, disk
	// full. Empty: it can.
	NotReady() []string
	// Alive is nil unless the node has come to a stop that only a restart can end.
	Alive() error
}

// Deliveries tells how the deliveries to a subscription go. Safe for concurrent use.
type Deliveries interface {
	// Delivery asks the node that delivers the subscription, which may be another one. An error is for those who operate
	// the hub: nobody delivers it, or that node cannot be asked.
	Delivery(ctx context.Context, id hub.SubscriptionID) (*DeliveryView, error)
}

// DeliveryView is what the node that delivers a subscription knows of it, ahead of what is in the log. Nothing of what
// endpoints answer is in it but the status.
type DeliveryView struct {
	Node        string        `json:"node"`
	State       string        `json:"state"` // idle, ready, sending, waiting, settling, …
	NextAttempt *time.Time    `json:"next_attempt_at"`
	Window      int           `json:"window_now"` // messages that may be under way at a time; overloads narrow it
	Total       uint64        `json:"total"`      // attempts since this node delivers it
	Failed      uint64        `json:"failed"`
	SuccessRate *float64      `json:"success_rate"` // of Attempts; null without any
	Attempts    []DeliveryTry `json:"attempts"`     // the last 32 at most, newest first
}

// DeliveryTry is one attempt to deliver a message.
type DeliveryTry struct {
	At        time.Time `json:"at"`
	Offset    uint64    `json:"offset"`
	Outcome   string    `json:"outcome"` // delivered, refused, down, gone or cancelled
	Status    int       `json:"status"`  // HTTP status, 0: none came
	LatencyMS float64   `json:"latency_ms"`
	Reason    string    `json:"reason"` // class of the failure
}

func (o *Options) setDefaults() error {
	switch {
	case o.Service == nil, o.State == nil, o.Messages == nil, o.Letters == nil, o.Times == nil, o.Node == nil:
		return errors.New("web: Service, State, Messages, Times and Node are required")
	}
	if o.Feed == nil {
		o.Feed = sse.NewFeed()
	}
	if _, err := hub.ParseURL("PublicURL", o.PublicURL); err != nil {
		return err
	}
	if o.Reads == nil {
		o.Reads = alone{}
	}
	if o.Warnings == nil {
		o.Warnings = func() []string { return nil }
	}
	if o.Profile == "" {
		o.Profile = ProfileNative
	}
	if o.Clock == nil {
		o.Clock = hub.SystemClock{}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
	}
	if o.BudgetBytes == 0 {
		o.BudgetBytes = max(64<<20, 16*o.Service.Policy().MaxMessageBytes)
	}
	orDefault(&o.BodyTimeout, 30*time.Second)
	orDefault(&o.StopGrace, 10*time.Second)
	orDefault(&o.StreamMax, 4096)
	orDefault(&o.MaxConnections, 8192+o.StreamMax)
	orDefault(&o.StreamHeartbeat, 15*time.Second)
	orDefault(&o.StreamCatchUp, 3*time.Second)
	orDefault(&o.StreamWriteTimeout, 10*time.Second)
	orDefault(&o.LiveGrace, 30*time.Second)
	orDefault(&o.BackupStall, 30*time.Second)
	return nil
}

func orDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}
