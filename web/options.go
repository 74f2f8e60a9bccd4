package web

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"quorumhub/auth"
	"quorumhub/hub"
	"quorumhub/web/login"
	"quorumhub/web/sse"
)

// Options configures a Server. Service, State, Messages, Letters, Times, Node and PublicURL are required.
type Options struct {
	Service  *hub.Service
	State    hub.StateReader
	Messages hub.MessageReader
	Parts    hub.PartReader // nil: no message is larger than hub.MaxInlineBytes
	Times    hub.TimeIndex
	Letters  hub.DeadLetterReader
	Node     Node
	// Notices are sent with answers about deprecated topics; nil: there are none.
	Notices *hub.TopicNotices
	// Feed wakes event streams; register it as a hub.Observer. nil: the Server makes one, which still must be registered.
	Feed *sse.Feed
	// Deliveries shows attempts; nil: there are none.
	Deliveries Deliveries
	Reads      Reads // nil: no other node can be ahead of this one

	// Membership changes the cluster's members; nil: the node runs alone.
	Membership Membership

	// PublicURL is the hub's public base URL, the same on every node. rel=hub is PublicURL+"/hub" and never depends on the Host
	// header.
	PublicURL string
	Version   string

	// Profile is the dialect of the hub endpoint. Empty: ProfileNative.
	Profile Profile
	// CompactJSON removes the whitespace between the tokens of JSON content, and the parameters of its content type.
	CompactJSON bool

	// CORSOrigins are the origins, such as https://app.example.org, whose pages browsers let use the hub.
	CORSOrigins []string
	// Tickets seals stream tickets, with a key that all nodes have; nil: there are none.
	Tickets hub.SecretBox

	// References authenticates tickets for content by reference; nil: there is none.
	References hub.ReferenceKeys
	// Policies are the rules on what subscribers may have of messages; nil: all.
	Policies hub.DeliveryPolicies

	// Guard authenticates and authorizes callers. nil: everything is allowed.
	Guard *auth.Guard
	// Login lets people log in; nil: nobody can. It needs a Guard.
	Login *login.Handler
	// KeepNotAllowed lets subscriptions go on whose owners no rule allows to subscribe any more; otherwise they are paused when a
	// rule is changed or removed.
	KeepNotAllowed bool
	// TLS enables HTTPS. nil: plain HTTP.
	TLS *tls.Config

	Clock hub.Clock // nil: the system clock
	// Warnings lists what an operator should attend to although the node works. nil: nothing.
	Warnings func() []string
	Log      *slog.Logger // nil: nothing is logged
	// Registry collects the server's metrics and is served at /metrics. nil: a new registry.
	Registry *prometheus.Registry

	// BudgetBytes bounds the bodies in memory, of requests and responses together. 0: the larger of 64 MiB and 16 times the
	// largest message.
	BudgetBytes int64
	// CallerBodies bounds the bodies of one caller that are under way at a time, if there is a Guard. 0: 32.
	CallerBodies int
	// MaxConnections bounds open connections; more wait to be accepted. 0: 8192 + StreamMax.
	MaxConnections int
	// ClientConnections bounds the connections of one client address, trusted proxies excepted, and ClientStreams its event
	// streams. 0: no limit per client.
	ClientConnections, ClientStreams int
	// BodyTimeout bounds the time to receive a request's body. 0: 30 s.
	BodyTimeout time.Duration
	// StopGrace bounds the time for requests in flight to end once Serve's context is done. 0: 10 s.
	StopGrace time.Duration
	// StreamMax bounds open event streams; more are refused with 503. 0: 4096.
	StreamMax int
	// StreamHeartbeat is the interval of comments on an idle stream. 0: 15 s.
	StreamHeartbeat time.Duration
	// StreamWriteTimeout bounds the time for a reader to take what it is sent; then its stream ends. 0: 10 s.
	StreamWriteTimeout time.Duration
	// StreamCatchUp bounds how long a stream that resumes beyond this node's newest message waits for the node, which may lag
	// behind the one the reader came from. 0: 3 s.
	StreamCatchUp time.Duration
	// LiveGrace is how long the node must be stuck without interruption before /health/live fails. 0: 30 s.
	LiveGrace time.Duration
	// TrustedProxies are the networks whose X-Forwarded-For is trusted. Empty: the client is the peer.
	TrustedProxies []netip.Prefix
	// Limits bound the requests of one caller to this node. The zero value is no limits.
	Limits Limits
	// Backups, if set, serves GET /v1/backup. A client that takes nothing for BackupStall (0: 30 s) is cut off.
	Backups     Backups
	BackupStall time.Duration
	// Keys manages the sealing keys; nil: there are none.
	Keys Keys
	// Gateway is what the gateway of this node serves; nil: there is none.
	Gateway Gateway
	// Services are served by the gateway; nil: there is none.
	Services *ServiceOptions
	// Profiling serves /debug/pprof.
	Profiling bool
}

// Role is a node's role in its cluster, as GET /v1/cluster names it.
type Role string

// Roles.
const (
	RoleLeader   Role = "leader"
	RoleFollower Role = "follower"
	RoleNonvoter Role = "nonvoter"
	RoleDown     Role = "down"
)

// NodeView describes one node of the cluster.
type NodeView struct {
	ID            string
	HTTPAddr      string
	ClusterAddr   string
	Role          Role
	AppliedIndex  uint64
	StateHash     uint64 // rolling hash at AppliedIndex (invariant I6)
	Subscriptions int    // owned by the node

	Voter   bool
	Healthy bool // it answers and has caught up with the leader
	// LastContact is how long ago it heard from the leader; negative: never or unknown.
	LastContact  time.Duration
	Stopping     bool          // it is stopping, or stopped in an orderly way
	Leaving      bool          // it is being removed
	Weight       int           // relative share of the subscriptions
	FeatureLevel uint32        // known to its program
	ClockOffset  time.Duration // of its clock from the cluster's time; positive: ahead
	Gateway      string        // hash of the registry that its gateway serves; empty: none
}

// Node is one node's view of the cluster. Safe for concurrent use; no method waits for other nodes.
type Node interface {
	// ID returns this node's ID.
	ID() string
	// LeaderID returns the leader's ID, empty while there is none.
	LeaderID() string
	// Nodes returns all nodes including this one, sorted by ID.
	Nodes() []NodeView
	// FeatureLevel returns the feature level all nodes support, 0 before they have agreed on one.
	FeatureLevel() uint32
	// Owner returns the ID of the node that delivers a subscription, empty if none does.
	Owner(hub.SubscriptionID) string
	// InTouch reports whether this node hears from a leader and has caught up with it.
	InTouch() bool
	// NotReady lists why this node cannot take requests now: no known leader, state not loaded, disk full. Empty: it can.
	NotReady() []string
	// Alive returns nil unless the node is stuck and only a restart helps.
	Alive() error
}

// Deliveries reports the progress of deliveries. Safe for concurrent use.
type Deliveries interface {
	// Delivery asks the owner of a subscription, which may be another node. Errors are for operators: there is no owner, or it
	// does not answer.
	Delivery(ctx context.Context, id hub.SubscriptionID) (*DeliveryView, error)
}

// DeliveryView is what the owner of a subscription knows about it, ahead of the replicated state. Of an endpoint's responses it
// contains the status only.
type DeliveryView struct {
	Node        string        `json:"node"`
	State       string        `json:"state"`    // idle, ready, sending, waiting, settling, …
	Progress    *Progress     `json:"progress"` // null from an older program
	NextAttempt *time.Time    `json:"next_attempt_at"`
	Window      int           `json:"window_now"` // messages that may be in flight; overload narrows it
	Total       uint64        `json:"total"`      // attempts since this node became the owner
	Failed      uint64        `json:"failed"`
	SuccessRate *float64      `json:"success_rate"` // of Attempts; null if there are none
	Attempts    []DeliveryTry `json:"attempts"`     // at most the last 32, newest first
}

// Progress is how far the deliveries of a subscription have come. Its owner knows at once; the replicated cursor follows within
// delivery.cursor_flush, and is where another node would go on.
type Progress struct {
	Acknowledged uint64 `json:"acknowledged"` // offset of the last message that needs no further attempt, with all before it
	Ahead        uint64 `json:"ahead"`        // messages after it that need none either
	Lag          uint64 `json:"lag"`          // messages that still need one
	Head         uint64 `json:"head_offset"`
	Delivered    uint64 `json:"delivered"` // messages the callback has acknowledged in total
}

// DeliveryTry is one attempt to deliver a message.
type DeliveryTry struct {
	At        time.Time `json:"at"`
	Offset    uint64    `json:"offset"`
	Outcome   string    `json:"outcome"` // delivered, refused, down, gone or cancelled
	Status    int       `json:"status"`  // HTTP status; 0: no response
	LatencyMS float64   `json:"latency_ms"`
	Reason    string    `json:"reason"` // class of the failure
}

func (o *Options) setDefaults() error {
	switch {
	case o.Service == nil, o.State == nil, o.Messages == nil, o.Letters == nil, o.Times == nil, o.Node == nil:
		return errors.New("web: Service, State, Messages, Letters, Times and Node are required")
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
	o.Profile = cmp.Or(o.Profile, ProfileNative)
	if o.Clock == nil {
		o.Clock = hub.SystemClock{}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
	}
	o.BudgetBytes = cmp.Or(o.BudgetBytes, max(64<<20, 16*o.Service.Policy().MaxMessageBytes))
	o.CallerBodies = cmp.Or(o.CallerBodies, 32)
	o.BodyTimeout = cmp.Or(o.BodyTimeout, 30*time.Second)
	o.StopGrace = cmp.Or(o.StopGrace, 10*time.Second)
	o.StreamMax = cmp.Or(o.StreamMax, 4096)
	o.MaxConnections = cmp.Or(o.MaxConnections, 8192+o.StreamMax)
	o.StreamHeartbeat = cmp.Or(o.StreamHeartbeat, 15*time.Second)
	o.StreamCatchUp = cmp.Or(o.StreamCatchUp, 3*time.Second)
	o.StreamWriteTimeout = cmp.Or(o.StreamWriteTimeout, 10*time.Second)
	o.LiveGrace = cmp.Or(o.LiveGrace, 30*time.Second)
	o.BackupStall = cmp.Or(o.BackupStall, 30*time.Second)
	return nil
}
