package web

import (
	"cmp"
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
	"quorumhub/web/view"
)

// Options configures a Server. Service, State, Messages, Letters, Times, Node and PublicURL are required.
type Options struct {
	Service  *hub.Service
	State    hub.StateReader
	Messages hub.MessageReader
	Parts    hub.PartReader // nil: no message is larger than hub.MaxInlineBytes
	Times    hub.TimeIndex
	Letters  hub.DeadLetterReader
	Node     view.Cluster
	// Notices are sent with answers about deprecated topics; nil: there are none.
	Notices *hub.TopicNotices
	// Feed wakes event streams; register it as a hub.Observer. nil: the Server makes one, which still must be registered.
	Feed *sse.Feed
	// Deliveries shows attempts; nil: there are none.
	Deliveries view.Deliveries
	Reads      Reads // nil: no other node can be ahead of this one

	// Figures are those of all nodes; nil: there are none.
	Figures view.Figures
	// Membership changes the cluster's members; nil: the node runs alone.
	Membership view.Membership

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
	// Sequences explains what becomes of logins; nil: there are none.
	Sequences Explainer
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
	Backups     view.Backups
	BackupStall time.Duration
	// Keys manages the sealing keys; nil: there are none.
	Keys Keys
	// Gateway is what the gateway of this node serves; nil: there is none.
	Gateway view.Gateway
	// Services are served by the gateway; nil: there is none.
	Services *ServiceOptions
	// Profiling serves /debug/pprof.
	Profiling bool
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
