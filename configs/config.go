package configs

import (
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"time"
)

// Config is the whole configuration of one node. It is a plain value: read it from anywhere, change it only
// before the node starts.
type Config struct {
	HTTP      HTTP
	Cluster   Cluster
	DataDir   string
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
	Log       Log
	Debug     Debug
}

// HTTP says where the node listens and under which URLs the world knows the hub.
type HTTP struct {
	// Addr is host:port; an empty host means all addresses, port 0 a free one.
	Addr string
	// PublicURL is the URL that subscribers see in rel=hub and in hosted topics. It must be the same on every
	// node. Without a trailing slash. Empty: see Config.PublicURL.
	PublicURL string
	// AliasURLs are other base URLs under which the same hub is reached; a topic URL below any of them
	// means the same topic.
	AliasURLs []string
	TLS       HTTPTLS
	// TrustedProxies are the networks whose X-Forwarded-For is believed.
	TrustedProxies []netip.Prefix
}

// HTTPTLS names the PEM files of HTTPS; Cert and Key together or neither.
type HTTPTLS struct {
	Cert, Key string
	// ClientCA signs client certificates; empty: none are asked for.
	ClientCA string
}

// Cluster says how the node takes part in replication.
type Cluster struct {
	// Addr is where the node listens for the others; it does so only when there are Peers.
	Addr string
	// NodeID may be empty: see Config.Self.
	NodeID string
	// Peers are the nodes that found a cluster together, or those of the cluster to join; this one included. Empty: a
	// cluster of this node alone, which no other can join.
	Peers []Peer
	// Voter is whether this node, when it joins, is to get a vote.
	Voter bool
	// Weight is this node's share of the subscriptions in proportion to the others'.
	Weight int
	// Admission is open or listed: whether a node joins that was not announced.
	Admission string
	Autopilot Autopilot
	// Token, when not empty, must be the same on every node.
	Token string
	TLS   ClusterTLS
}

// Autopilot says when the set of nodes changes by itself.
type Autopilot struct {
	// Stabilization is how long a new node must have kept up before it gets its vote.
	Stabilization time.Duration
	// CleanupDead is how long a node is dead before it is removed; 0: it stays.
	CleanupDead time.Duration
	// MinVoters is how many voters CleanupDead leaves at least.
	MinVoters int
}

// Peer is a node of the cluster and the host:port at which the others reach it.
type Peer struct {
	ID, Addr string
}

// String is the peer as it is written in a configuration: id=host:port.
func (p Peer) String() string { return p.ID + "=" + p.Addr }

// ClusterTLS names the PEM files of mutual TLS between nodes; all of them or none.
type ClusterTLS struct {
	CA, Cert, Key string
}

// Hub holds the rules of the WebSub endpoint.
type Hub struct {
	// Profile is native, ballerina or mosip.
	Profile      string
	Lease        Lease
	Verification Verification
	// SecretGrace is how long a replaced secret goes on signing in Standard Webhooks.
	SecretGrace time.Duration
	// Signature is the default method of X-Hub-Signature: sha1, sha256, sha384 or sha512.
	Signature string
	// CompactJSON rewrites JSON content without spaces between its tokens.
	CompactJSON bool
}

// Lease bounds the time a subscription is granted; a wish outside Min..Max is moved to the nearer end.
type Lease struct {
	Min, Default, Max time.Duration
}

// Verification is how the hub asks a callback whether a request was meant.
type Verification struct {
	// Timeout is for one attempt.
	Timeout time.Duration
	// Attempts counts all of them, the first included.
	Attempts int
}

// Topics holds the rules about topics.
type Topics struct {
	AutoRegister bool
}

// Delivery is how content reaches the callbacks.
type Delivery struct {
	// Timeout is for one attempt.
	Timeout time.Duration
	// Concurrency is how many deliveries to endpoints that answer quickly a node has under way at most.
	Concurrency int
	Retry       Retry
	// HostConcurrency is how many deliveries to one host are under way at most; 0: no limit of its own.
	HostConcurrency int
	// CursorFlush is the longest time an acknowledged delivery stays unreplicated.
	CursorFlush time.Duration
	// TLSFile names the rules of certificates by host; empty: none.
	TLSFile string
	Egress  Egress
}

// Retry bounds what is done after a failed delivery. A count of 0 means no bound.
type Retry struct {
	Initial     time.Duration
	MaxInterval time.Duration
	// Schedule is the waits one after the other, in place of Initial and MaxInterval; empty: exponential.
	Schedule []time.Duration
	// OverloadWait is the least wait after the second overload in a row; 0: none.
	OverloadWait    time.Duration
	MaxAge          time.Duration
	MaxAttempts     int
	RefusedAttempts int
}

// Egress says which addresses the node may call.
type Egress struct {
	// Mode is public, edge or dev-loopback.
	Mode       string
	AllowCIDRs []netip.Prefix
	// AllowHosts are lower-case host names; "*.example.org" stands for every name below example.org.
	AllowHosts []string
}

// Fetch is how a topic is read after a thin ping.
type Fetch struct {
	Timeout time.Duration
	Egress  Egress
}

// Retention bounds what is kept of the message log. Zero means no bound.
type Retention struct {
	MaxAge   time.Duration
	MaxBytes Bytes
}

// DeadLetters bounds what is kept of messages that were given up. Zero means no bound.
type DeadLetters struct {
	MaxAge   time.Duration
	MaxCount int
	// MaxBytes counts their bodies.
	MaxBytes Bytes
}

// Message bounds one message.
type Message struct {
	MaxBytes Bytes
	// KeyHeaders are the publishers' headers that are kept with a message, for delivery keys.
	KeyHeaders []string
}

// Streams bounds the readers that follow topics as event streams.
type Streams struct {
	Max       int
	Heartbeat time.Duration
}

// Limits bound what one caller, and requests about one callback host, may cost a node. Zero means no limit. A caller is
// a principal or, where nobody is authenticated, a client address.
type Limits struct {
	Publish, Subscribe, Read, Admin Rate
	// Refused counts requests whose credentials do not hold.
	Refused Rate
	// CallbackHost counts subscribe and unsubscribe requests for callbacks at one host.
	CallbackHost Rate
	// Pending is how many requests may wait for their verification, of one caller and for one callback host.
	Pending int
	// Connections and Streams are those open at a time, of one client address.
	Connections, Streams int
}

// Storage tunes what is written to disk and when.
type Storage struct {
	FlushInterval time.Duration
	// MinFreeBytes is the free disk space below which publishers are turned away.
	MinFreeBytes Bytes
	SegmentBytes Bytes
	// TailBytes is the memory for messages that are not yet on disk or were just written.
	TailBytes Bytes
	// LogBytes is how much of raft's log stays behind a snapshot, and how much of it makes the next one due.
	LogBytes Bytes
}

// Secrets says where the key is that encrypts secrets at rest.
type Secrets struct {
	// Key holds the keys themselves, in base64; empty: they are in a file.
	Key string
	// KeyFile may be empty: see Config.KeyFile.
	KeyFile string
}

// Auth says who may call.
type Auth struct {
	// Mode is "" (loopback listeners only), open or required.
	Mode string
	// File holds issuers, keys and rules (see package auth); with Mode required only.
	File string
	// Audit is control or all.
	Audit string
	// Egress says where the issuers may be.
	Egress Egress
}

// Log tunes the node's own log.
type Log struct {
	Level  string
	Format string
}

// Debug is for those who look into a running node.
type Debug struct {
	// Pprof serves profiles under /debug/pprof to whoever reaches http.addr.
	Pprof bool
}

// PublicURL is the hub's base URL without a trailing slash: http.public_url, or http:// (https:// with http.tls.cert)
// and http.addr when that is empty. A listener on all addresses is then named by the loopback address, which is right for one machine
// only (see Warnings).
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

// KeyFile is the path of the key for secrets at rest: secrets.key_file, or secrets.key in the data directory.
func (c *Config) KeyFile() string {
	if c.Secrets.KeyFile != "" {
		return c.Secrets.KeyFile
	}
	return filepath.Join(c.DataDir, "secrets.key")
}

// Self is this node among cluster.peers: the one with cluster.node_id or, when that is empty, with cluster.addr.
func (c *Config) Self() (Peer, bool) {
	for _, p := range c.Cluster.Peers {
		if p.ID == c.Cluster.NodeID || c.Cluster.NodeID == "" && p.Addr == c.Cluster.Addr {
			return p, true
		}
	}
	return Peer{}, false
}

// LogLevel is log.level as slog knows it.
func (c *Config) LogLevel() slog.Level {
	var level slog.Level
	if err := level.UnmarshalText([]byte(strings.ToUpper(c.Log.Level))); err != nil {
		return slog.LevelInfo
	}
	return level
}

// Warnings names what is allowed and yet likely not meant, one line each.
func (c *Config) Warnings() []string {
	var out []string
	host, _, err := net.SplitHostPort(c.HTTP.Addr)
	if err == nil && c.HTTP.PublicURL == "" {
		if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
			out = append(out, "http.public_url is empty while http.addr listens on all addresses: subscribers are told "+
				c.PublicURL()+", which only this machine reaches")
		}
	}
	if c.Auth.Mode == "open" && !isLoopback(c.HTTP.Addr) {
		out = append(out, "auth.mode is open: everyone who reaches "+c.HTTP.Addr+" may publish and subscribe")
	}
	for _, e := range []struct {
		name string
		Egress
	}{{"delivery.egress", c.Delivery.Egress}, {"fetch.egress", c.Fetch.Egress}} {
		if e.Mode == "dev-loopback" && !isLoopback(c.HTTP.Addr) {
			out = append(out, e.name+".mode is dev-loopback on a hub that others reach: they can make it call services on this machine")
		}
	}
	return out
}

// isLoopback reports whether a listen address is reached from this machine only.
func isLoopback(addr string) bool {
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
