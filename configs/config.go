package configs

import (
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"time"
)

// Config is the whole configuration of one node. It is a plain value: safe for concurrent reads, to be changed only
// before the node starts.
type Config struct {
	HTTP      HTTP
	Cluster   Cluster
	DataDir   string
	PIDFile   string // empty: none
	Hub       Hub
	Topics    Topics
	Delivery  Delivery
	Fetch     Fetch
	Retention Retention
	Letters   DeadLetters
	Message   Message
	Streams   Streams
	Limits    Limits
	Storage   Storage
	Secrets   Secrets
	Auth      Auth
	Gateway   Gateway
	Log       Log
	Debug     Debug
}

// HTTP configures the listener and the URLs of the hub.
type HTTP struct {
	// Addr is host:port; an empty host means all addresses, port 0 a free one.
	Addr string
	// SocketMode holds the permissions of the socket if Addr names one.
	SocketMode Mode
	// PublicURL is the URL that subscribers see in rel=hub and in hosted topics, without a trailing slash. It must be
	// the same on every node. Empty: see Config.PublicURL.
	PublicURL string
	// AliasURLs are other base URLs of the same hub; a topic URL below any of them means the same topic.
	AliasURLs []string
	TLS       HTTPTLS
	// CORSOrigins are the origins whose pages browsers let use the hub.
	CORSOrigins []string
	// TrustedProxies are the networks whose X-Forwarded-For is trusted.
	TrustedProxies []netip.Prefix
}

// HTTPTLS names the PEM files of HTTPS: Cert and Key together, or neither.
type HTTPTLS struct {
	Cert, Key string
	// ClientCA signs client certificates; empty: none are requested.
	ClientCA string
}

// Cluster configures the node's part in replication.
type Cluster struct {
	// Addr is where the node listens for other nodes; it does so only if there are Peers.
	Addr string
	// NodeID may be empty: see Config.Self.
	NodeID string
	// Peers are the nodes that found a cluster together, or nodes of the cluster to join, including this one. Empty:
	// a cluster of this node alone, which no other can join.
	Peers []Peer
	// Voter is whether this node gets a vote when it joins.
	Voter bool
	// Weight is this node's share of the subscriptions relative to other nodes.
	Weight int
	// Admission is open or listed: whether nodes may join that were not announced.
	Admission string
	Autopilot Autopilot
	// Token must be the same on every node unless it is empty.
	Token string
	TLS   ClusterTLS
}

// Autopilot configures automatic changes of membership.
type Autopilot struct {
	// Stabilization is how long a new node must keep up before it gets its vote.
	Stabilization time.Duration
	// CleanupDead is how long a node must be dead before it is removed; 0: never.
	CleanupDead time.Duration
	// MinVoters is the minimum number of voters that CleanupDead leaves.
	MinVoters int
}

// Peer is a node of the cluster and the host:port at which other nodes reach it.
type Peer struct {
	ID, Addr string
}

// String returns the peer as written in a configuration: id=host:port.
func (p Peer) String() string { return p.ID + "=" + p.Addr }

// ClusterTLS names the PEM files of mutual TLS between nodes: all of them, or none.
type ClusterTLS struct {
	CA, Cert, Key string
}

// Hub configures the WebSub endpoint.
type Hub struct {
	// Profile is native, ballerina or mosip.
	Profile      string
	Lease        Lease
	Verification Verification
	// SecretGrace is how long a replaced secret keeps signing in Standard Webhooks.
	SecretGrace time.Duration
	// Signature is the default method of X-Hub-Signature: sha1, sha256, sha384 or sha512.
	Signature string
	// SubscriberHeaders lets subscribers choose headers for requests to their callbacks.
	SubscriberHeaders bool
	// SignatureHosts are the methods for callbacks at particular hosts.
	SignatureHosts []SignatureHost
	// CompactJSON removes the whitespace between the tokens of JSON content.
	CompactJSON bool
}

// SignatureHost is the method of X-Hub-Signature for callbacks at a host: a name or an address, or *. and a domain.
type SignatureHost struct{ Host, Method string }

// String returns it as written in a configuration: host=method.
func (h SignatureHost) String() string { return h.Host + "=" + h.Method }

// SignatureFor returns the method of X-Hub-Signature for callbacks at a host, in lower case, that ask for none.
func (h *Hub) SignatureFor(host string) string {
	for _, s := range h.SignatureHosts {
		domain, below := strings.CutPrefix(s.Host, "*")
		if s.Host == host || below && strings.HasSuffix(host, domain) {
			return s.Method
		}
	}
	return h.Signature
}

// Lease bounds the lease of a subscription; a request outside Min..Max is clamped.
type Lease struct {
	Min, Default, Max time.Duration
}

// Verification configures the verification of intent.
type Verification struct {
	// Timeout is for one attempt.
	Timeout time.Duration
	// Attempts is the maximum number of attempts, including the first.
	Attempts int
}

// Topics configures topics.
type Topics struct {
	AutoRegister bool
}

// Delivery configures deliveries to callbacks.
type Delivery struct {
	// Timeout is for one attempt.
	Timeout time.Duration
	// Concurrency is the maximum number of deliveries in flight to endpoints that answer quickly.
	Concurrency int
	Retry       Retry
	// HostConcurrency is the maximum number of deliveries in flight to one host; 0: only the other limits apply.
	HostConcurrency int
	// CursorFlush is the longest time an acknowledged delivery remains unreplicated.
	CursorFlush time.Duration
	// TLSFile names the file of TLS rules by host; empty: none.
	TLSFile string
	Egress  Egress
}

// Retry configures what happens after a failed delivery. A count of 0 means no bound.
type Retry struct {
	Initial     time.Duration
	MaxInterval time.Duration
	// Schedule lists successive waits, instead of Initial and MaxInterval; empty: exponential backoff.
	Schedule []time.Duration
	// OverloadWait is the minimum wait after the second consecutive overload; 0: none.
	OverloadWait    time.Duration
	MaxAge          time.Duration
	MaxAttempts     int
	RefusedAttempts int
}

// Egress decides which addresses the node may call.
type Egress struct {
	// Mode is public, edge or dev-loopback.
	Mode       string
	AllowCIDRs []netip.Prefix
	// AllowHosts are lower-case host names; "*.example.org" matches every name below example.org.
	AllowHosts []string
	// Proxy is the URL of the proxy that makes all connections; empty: none. ProxyAuth is user:password for it.
	Proxy     string
	ProxyAuth string
}

// Fetch configures how topics are fetched after a thin ping.
type Fetch struct {
	Timeout time.Duration
	Egress  Egress
}

// Retention bounds the message log. Zero means no bound.
type Retention struct {
	MaxAge   time.Duration
	MaxBytes Bytes
}

// DeadLetters bounds the dead letters kept. Zero means no bound.
type DeadLetters struct {
	MaxAge   time.Duration
	MaxCount int
	// MaxBytes is the total size of their bodies.
	MaxBytes Bytes
}

// Message bounds one message.
type Message struct {
	MaxBytes Bytes
	// KeyHeaders are the publishers' headers kept with a message, for delivery keys.
	KeyHeaders []string
	// IdempotencyWindow is how long an Idempotency-Key is remembered.
	IdempotencyWindow time.Duration
}

// Streams bounds the readers that follow topics as event streams.
type Streams struct {
	Max       int
	Heartbeat time.Duration
}

// Limits bounds what one caller, and requests about one callback host, may cost a node. Zero means no limit. A caller
// is a principal or, without authentication, a client address.
type Limits struct {
	Publish, Subscribe, Read, Admin Rate
	// Refused counts requests with invalid credentials.
	Refused Rate
	// CallbackHost counts subscribe and unsubscribe requests for callbacks at one host.
	CallbackHost Rate
	// Pending is the maximum number of requests waiting for verification, per caller and per callback host.
	Pending int
	// Connections and Streams are the maximum numbers open at once from one client address.
	Connections, Streams int
}

// Storage tunes what is written to disk and when.
type Storage struct {
	FlushInterval time.Duration
	// MinFreeBytes is the free disk space below which publish requests are refused.
	MinFreeBytes Bytes
	SegmentBytes Bytes
	// TailBytes is the memory for messages that are not on disk yet or were written recently.
	TailBytes Bytes
	// LogBytes is how much of raft's log is kept after a snapshot, and how much of it triggers the next one.
	LogBytes Bytes
}

// Secrets locates the keys that encrypt secrets at rest.
type Secrets struct {
	// Key holds the keys themselves, in base64; empty: they are in a file.
	Key string
	// KeyFile may be empty: see Config.KeyFile.
	KeyFile string
}

// Gateway configures the gateway in front of REST services.
type Gateway struct {
	// File names the registry that a hub without one begins with.
	File string
}

// Auth configures authentication and authorisation.
type Auth struct {
	// Mode is "" (loopback listeners only), open or required.
	Mode string
	// File names the file of issuers, keys and rules (see package auth); only with Mode required.
	File string
	// Directory names the directory with a file for each identity provider and service provider; empty: none.
	Directory string
	// Audit is control or all.
	Audit string
	// OnRuleRemoved is pause or keep.
	OnRuleRemoved string
	// Egress decides where token issuers may be.
	Egress Egress
}

// Log tunes the node's own log.
type Log struct {
	Level  string
	Format string
}

// Debug configures aids for debugging a running node.
type Debug struct {
	// Pprof serves profiles under /debug/pprof to everyone who can reach http.addr.
	Pprof bool
}

// PublicURL returns the hub's base URL without a trailing slash: http.public_url or, if that is empty, http://
// (https:// with http.tls.cert) followed by http.addr. If the listener is on all addresses, the host is the loopback
// address, which is right only on a single machine (see Warnings).
func (c *Config) PublicURL() string {
	if c.HTTP.PublicURL != "" {
		return c.HTTP.PublicURL
	}
	scheme := "http://"
	if c.HTTP.TLS.Cert != "" {
		scheme = "https://"
	}
	host, port, err := net.SplitHostPort(c.HTTP.Addr)
	if err != nil {
		return scheme + c.HTTP.Addr
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return scheme + net.JoinHostPort(host, port)
}

// KeyFile returns the path of the key file for secrets at rest: secrets.key_file, or secrets.key in the data
// directory.
func (c *Config) KeyFile() string {
	if c.Secrets.KeyFile != "" {
		return c.Secrets.KeyFile
	}
	return filepath.Join(c.DataDir, "secrets.key")
}

// Self returns this node's entry in cluster.peers: the one with cluster.node_id or, if that is empty, with
// cluster.addr.
func (c *Config) Self() (Peer, bool) {
	for _, p := range c.Cluster.Peers {
		if p.ID == c.Cluster.NodeID || c.Cluster.NodeID == "" && p.Addr == c.Cluster.Addr {
			return p, true
		}
	}
	return Peer{}, false
}

// LogLevel returns log.level for slog.
func (c *Config) LogLevel() slog.Level {
	var level slog.Level
	if err := level.UnmarshalText([]byte(strings.ToUpper(c.Log.Level))); err != nil {
		return slog.LevelInfo
	}
	return level
}

// isLoopback reports whether a listen address can be reached from this machine only.
func isLoopback(addr string) bool {
	if strings.HasPrefix(addr, UnixAddr) {
		return true // only programs on this machine can use it
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
