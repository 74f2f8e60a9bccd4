package configs

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// entries declares every key once: name, default, documentation, accepted values and field in Config. Their order is that of
// the sample file.
func entries() []entry {
	return slices.Concat(nodeKeys(), hubKeys(), outboundKeys(), storedKeys(), accessKeys())
}

// nodeKeys declares the node: its addresses, its place in the cluster and its data directory.
func nodeKeys() []entry {
	dur, num := duration(), number()

	return []entry{
		scalar("http.addr", "127.0.0.1:8080", "address on which the node listens for HTTP: host:port, unix:/path for a socket, or systemd for the socket passed by a systemd socket unit",
			text(), httpAddr(), func(c *Config) *string { return &c.HTTP.Addr }),
		scalar("http.socket_mode", "0660", "permissions of the socket if http.addr is unix:/path; who may write to it may call the hub, and is believed like a trusted proxy",
			fileMode(), rule[Mode]{}, func(c *Config) *Mode { return &c.HTTP.SocketMode }),
		scalar("http.public_url", "", "base URL of the hub as subscribers and publishers see it, the same on every node; with a path such as https://example.org/ws, everything is served below that path, too; empty: http:// followed by http.addr",
			baseURL(), rule[string]{}, func(c *Config) *string { return &c.HTTP.PublicURL }),
		list("http.alias_urls", "other base URLs of the same hub; a topic URL below any of them means the same topic",
			baseURL(), func(c *Config) *[]string { return &c.HTTP.AliasURLs }),
		filePath("http.tls.cert", "certificate chain for HTTPS, reloaded when the file changes; empty: plain HTTP",
			func(c *Config) *string { return &c.HTTP.TLS.Cert }),
		filePath("http.tls.key", "private key of http.tls.cert",
			func(c *Config) *string { return &c.HTTP.TLS.Key }),
		filePath("http.tls.client_ca", "certificates of the authorities that sign client certificates; empty: none are requested",
			func(c *Config) *string { return &c.HTTP.TLS.ClientCA }),
		list("http.cors_origins", "origins, such as https://app.example.org, whose web pages may use the hub from the browser; pages of other origins cannot read its answers, nor change anything",
			origin(), func(c *Config) *[]string { return &c.HTTP.CORSOrigins }),
		list("http.trusted_proxies", "reverse proxies in front of the hub whose X-Forwarded-For names the client; for other connections the client is the peer address",
			network(), func(c *Config) *[]netip.Prefix { return &c.HTTP.TrustedProxies }),

		scalar("cluster.addr", "127.0.0.1:8180", "address on which the node listens for the other nodes",
			text(), listenAddr(), func(c *Config) *string { return &c.Cluster.Addr }),
		scalar("cluster.node_id", "", "permanent ID of the node in the cluster; empty: a random one, kept in data_dir",
			text(), nodeID(), func(c *Config) *string { return &c.Cluster.NodeID }),
		list("cluster.peers", "the nodes that found the cluster (the same list on each of them), or nodes of the cluster to join, including this one; empty: this node alone",
			peer(), func(c *Config) *[]Peer { return &c.Cluster.Peers }),
		scalar("cluster.voter", "true", "whether the node gets a vote when it joins a cluster; a non-voter stores everything and delivers; to change it later, use quorumhub cluster promote and demote",
			boolean(), rule[bool]{}, func(c *Config) *bool { return &c.Cluster.Voter }),
		scalar("cluster.weight", "1", "share of the subscriptions relative to other nodes",
			num, between(num, 1, 1000), func(c *Config) *int { return &c.Cluster.Weight }),
		scalar("cluster.admission", "open", "who may join while this node leads; open: any node with the token and a certificate; listed: only such nodes announced with quorumhub cluster add",
			text(), oneOf("open", "listed"), func(c *Config) *string { return &c.Cluster.Admission }),
		scalar("cluster.autopilot.stabilization", "10s", "how long a joining node must keep up without interruption before it gets its vote",
			dur, between(dur, 100*time.Millisecond, time.Hour), func(c *Config) *time.Duration { return &c.Cluster.Autopilot.Stabilization }),
		scalar("cluster.autopilot.cleanup_dead", "0s", "how long a node must be dead before it is permanently removed; 0s: dead nodes stay until an operator removes them",
			dur, rule[time.Duration]{"0s, or at least 1s", func(d time.Duration) bool { return d == 0 || d >= time.Second }},
			func(c *Config) *time.Duration { return &c.Cluster.Autopilot.CleanupDead }),
		scalar("cluster.autopilot.min_voters", "3", "minimum number of voters that cluster.autopilot.cleanup_dead leaves",
			num, between(num, 1, 100), func(c *Config) *int { return &c.Cluster.Autopilot.MinVoters }),
		scalar("cluster.token", "", "secret shared by all nodes; a node without it cannot join",
			secret(), rule[string]{"at most 512 bytes of text", func(s string) bool { return len(s) <= 512 }}, func(c *Config) *string { return &c.Cluster.Token }),
		filePath("cluster.tls.ca", "certificates of the authorities that sign the nodes' certificates; required if cluster.addr is reachable from other machines",
			func(c *Config) *string { return &c.Cluster.TLS.CA }),
		filePath("cluster.tls.cert", "this node's certificate, for incoming and outgoing connections; it must name the host or address in cluster.peers",
			func(c *Config) *string { return &c.Cluster.TLS.Cert }),
		filePath("cluster.tls.key", "private key of cluster.tls.cert",
			func(c *Config) *string { return &c.Cluster.TLS.Key }),

		scalar("data_dir", "./data", "directory that holds everything the node stores",
			text(), rule[string]{"the path of a directory", func(s string) bool { return s != "" && !strings.ContainsRune(s, 0) }},
			func(c *Config) *string { return &c.DataDir }),
		filePath("pid_file", "file in which serve keeps the number of its process while it runs; empty: none",
			func(c *Config) *string { return &c.PIDFile }),
	}
}

// hubKeys declares what the hub promises its clients.
func hubKeys() []entry {
	dur, num := duration(), number()

	return []entry{
		scalar("hub.profile", "native", "dialect of the hub endpoint: native (WebSub), ballerina (the Kafka hub of Ballerina and WSO2) or mosip",
			text(), oneOf("native", "ballerina", "mosip"), func(c *Config) *string { return &c.Hub.Profile }),
		scalar("hub.lease.min", "5m", "shortest lease; shorter requests are raised to it",
			dur, atLeast(dur, time.Second), func(c *Config) *time.Duration { return &c.Hub.Lease.Min }),
		scalar("hub.lease.default", "10d", "lease if the subscriber requests none",
			dur, atLeast(dur, time.Second), func(c *Config) *time.Duration { return &c.Hub.Lease.Default }),
		scalar("hub.lease.max", "30d", "longest lease; longer requests are lowered to it",
			dur, atLeast(dur, time.Second), func(c *Config) *time.Duration { return &c.Hub.Lease.Max }),
		scalar("hub.verification.timeout", "10s", "how long a callback may take to confirm a request, per attempt",
			dur, between(dur, 10*time.Millisecond, 5*time.Minute), func(c *Config) *time.Duration { return &c.Hub.Verification.Timeout }),
		scalar("hub.verification.attempts", "3", "maximum number of attempts to verify a request while the callback does not answer",
			num, between(num, 1, 100), func(c *Config) *int { return &c.Hub.Verification.Attempts }),
		scalar("hub.signature", "sha256", "method of X-Hub-Signature",
			text(), oneOf("sha256", "sha1", "sha384", "sha512"), func(c *Config) *string { return &c.Hub.Signature }),

		list("hub.signature_hosts", "methods of X-Hub-Signature for callbacks at hosts whose software knows only one, such as old.example.org=sha1; goes before hub.signature, not before what a subscriber asks for",
			signatureHost(), func(c *Config) *[]SignatureHost { return &c.Hub.SignatureHosts }),

		scalar("hub.compact_json", "false", "whether to remove the whitespace between the tokens of JSON content, for receivers that sign a body line by line (MOSIP's)",
			boolean(), rule[bool]{}, func(c *Config) *bool { return &c.Hub.CompactJSON }),

		scalar("hub.subscriber_headers", "false", "whether subscribers may choose headers for requests to their callbacks (hub.header.<Name>), or only operators",
			boolean(), rule[bool]{}, func(c *Config) *bool { return &c.Hub.SubscriberHeaders }),
		scalar("hub.secret_grace", "1d", "how long a replaced secret keeps signing beside the new one in webhook-signature (hub.signature_scheme=standard-webhooks); 0: not at all",
			dur, between(dur, 0, 30*day), func(c *Config) *time.Duration { return &c.Hub.SecretGrace }),

		scalar("topics.auto_register", "false", "whether publishing or subscribing to an unknown topic registers it; always true with hub.profile: mosip",
			boolean(), rule[bool]{}, func(c *Config) *bool { return &c.Topics.AutoRegister }),
	}
}

// outboundKeys declares deliveries and topic fetches.
func outboundKeys() []entry {
	dur, num := duration(), number()

	return []entry{
		scalar("delivery.timeout", "10s", "how long a callback may take for one delivery; one second more for each MiB of a message over 256 KiB",
			dur, between(dur, 10*time.Millisecond, 5*time.Minute), func(c *Config) *time.Duration { return &c.Delivery.Timeout }),
		scalar("delivery.concurrency", "256", "maximum number of deliveries in flight to endpoints that answer quickly; slow and failing ones have a pool of their own (up to 16 times as large)",
			num, between(num, 1, 65536), func(c *Config) *int { return &c.Delivery.Concurrency }),
		scalar("delivery.host_concurrency", "1024", "maximum number of deliveries in flight to one host, over all its callbacks; 0: only the other limits apply",
			num, atLeast(num, 0), func(c *Config) *int { return &c.Delivery.HostConcurrency }),
		scalar("delivery.retry.initial", "1s", "upper bound of the first wait after a failed delivery; it doubles with each failure",
			dur, between(dur, time.Millisecond, day), func(c *Config) *time.Duration { return &c.Delivery.Retry.Initial }),
		scalar("delivery.retry.max_interval", "10m", "longest wait between two attempts",
			dur, between(dur, time.Millisecond, 30*day), func(c *Config) *time.Duration { return &c.Delivery.Retry.MaxInterval }),
		list("delivery.retry.schedule", "waits between successive attempts instead of initial and max_interval, such as [5s, 5m, 30m, 2h]: up to 16, each randomly varied by up to a fifth, the last one repeats; empty: exponential backoff",
			retryWait(), func(c *Config) *[]time.Duration { return &c.Delivery.Retry.Schedule }),
		scalar("delivery.retry.overload_wait", "1m", "minimum wait after a callback has answered 429 or timed out twice in a row; never longer than the longest wait of the keys above; a Retry-After takes precedence, even a shorter one; 0s: none",
			dur, between(dur, 0, day), func(c *Config) *time.Duration { return &c.Delivery.Retry.OverloadWait }),
		scalar("delivery.retry.max_age", "1d", "how long a message is retried before it becomes a dead letter",
			dur, atLeast(dur, time.Millisecond), func(c *Config) *time.Duration { return &c.Delivery.Retry.MaxAge }),
		scalar("delivery.retry.max_attempts", "0", "maximum number of attempts before a message becomes a dead letter; 0: limited only by max_age",
			num, atLeast(num, 0), func(c *Config) *int { return &c.Delivery.Retry.MaxAttempts }),
		scalar("delivery.retry.refused_attempts", "10", "maximum number of attempts for a message that the callback refuses (4xx); 0: limited only by max_age",
			num, atLeast(num, 0), func(c *Config) *int { return &c.Delivery.Retry.RefusedAttempts }),
		scalar("delivery.cursor_flush", "250ms", "how long a completed delivery may remain unrecorded; after a failover such deliveries are repeated",
			dur, between(dur, time.Millisecond, time.Minute), func(c *Config) *time.Duration { return &c.Delivery.CursorFlush }),
		filePath("delivery.tls_file", "YAML file of authorities and client certificates by host, for https callbacks and topics; the certificates are reloaded when they change",
			func(c *Config) *string { return &c.Delivery.TLSFile }),
		egressMode("delivery.egress.mode", "which callbacks the hub may call: public addresses only (public), the listed ones too (edge), this machine too (dev-loopback)",
			func(c *Config) *string { return &c.Delivery.Egress.Mode }),
		list("delivery.egress.allow_cidrs", "private networks whose callbacks may be called in mode edge; this machine only if 127.0.0.0/8 or ::1 is listed by itself",
			network(), func(c *Config) *[]netip.Prefix { return &c.Delivery.Egress.AllowCIDRs }),
		list("delivery.egress.allow_hosts", "hosts whose callbacks may be called in mode edge, wherever they are, except on this machine",
			hostPattern(), func(c *Config) *[]string { return &c.Delivery.Egress.AllowHosts }),
		egressProxy("delivery.egress.proxy", "proxy through which callbacks are called (CONNECT), which then decides about addresses; empty: none",
			func(c *Config) *string { return &c.Delivery.Egress.Proxy }),
		scalar("delivery.egress.proxy_auth", "", "user:password for the proxy; never shown",
			secret(), userPassword(), func(c *Config) *string { return &c.Delivery.Egress.ProxyAuth }),

		scalar("fetch.timeout", "15s", "how long fetching a topic after a thin ping may take",
			dur, between(dur, 10*time.Millisecond, 5*time.Minute), func(c *Config) *time.Duration { return &c.Fetch.Timeout }),
		egressMode("fetch.egress.mode", "which topics the hub may fetch: public addresses only (public), the listed ones too (edge), this machine too (dev-loopback)",
			func(c *Config) *string { return &c.Fetch.Egress.Mode }),
		list("fetch.egress.allow_cidrs", "private networks whose topics may be fetched in mode edge; this machine only if 127.0.0.0/8 or ::1 is listed by itself",
			network(), func(c *Config) *[]netip.Prefix { return &c.Fetch.Egress.AllowCIDRs }),
		list("fetch.egress.allow_hosts", "hosts whose topics may be fetched in mode edge, wherever they are, except on this machine",
			hostPattern(), func(c *Config) *[]string { return &c.Fetch.Egress.AllowHosts }),
		egressProxy("fetch.egress.proxy", "proxy through which topics are fetched (CONNECT), which then decides about addresses; empty: none",
			func(c *Config) *string { return &c.Fetch.Egress.Proxy }),
		scalar("fetch.egress.proxy_auth", "", "user:password for the proxy; never shown",
			secret(), userPassword(), func(c *Config) *string { return &c.Fetch.Egress.ProxyAuth }),
	}
}

// storedKeys declares what is kept and how much is accepted.
func storedKeys() []entry {
	dur, num, bytes, rates := duration(), number(), size(), rate()

	return []entry{
		scalar("retention.max_age", "7d", "how long messages are kept; 0: no limit",
			dur, atLeast(dur, 0), func(c *Config) *time.Duration { return &c.Retention.MaxAge }),
		scalar("retention.max_bytes", "10GiB", "maximum size of the message log; 0: no limit, else at least 1MiB and twice message.max_bytes",
			bytes, zeroOrAtLeast(bytes, 1<<20), func(c *Config) *Bytes { return &c.Retention.MaxBytes }),

		scalar("dead_letters.max_age", "30d", "how long dead letters are kept, with their content; 0: no limit",
			dur, atLeast(dur, 0), func(c *Config) *time.Duration { return &c.Letters.MaxAge }),
		scalar("dead_letters.max_count", "100000", "maximum number of dead letters kept",
			num, between(num, 1, 100000), func(c *Config) *int { return &c.Letters.MaxCount }),
		scalar("dead_letters.max_bytes", "256MiB", "maximum size of the content of dead letters; 0: no limit",
			bytes, atLeast(bytes, 0), func(c *Config) *Bytes { return &c.Letters.MaxBytes }),

		scalar("message.max_bytes", "1MiB", "maximum size of a message; a larger one is refused with 413; the same on every node",
			bytes, between(bytes, 1<<10, 64<<20), func(c *Config) *Bytes { return &c.Message.MaxBytes }),
		list("message.key_headers", "publishers' headers kept with each message so that hub.delivery_key can name them, in addition to X-Hub-Key, Ce-Subject and Ce-Partitionkey; the same on every node",
			textLike("headers", "a header name such as X-Order-Id, but none that carries credentials", parseKeyHeader), func(c *Config) *[]string { return &c.Message.KeyHeaders }),
		scalar("message.idempotency_window", "1h", "how long an Idempotency-Key is remembered: repeating a publish within this time yields one message; the same on every node",
			dur, between(dur, time.Second, 7*day), func(c *Config) *time.Duration { return &c.Message.IdempotencyWindow }),

		scalar("streams.max", "4096", "maximum number of event streams open on this node; further ones are refused with 503",
			num, between(num, 1, 1<<20), func(c *Config) *int { return &c.Streams.Max }),
		scalar("streams.heartbeat", "15s", "interval of comments in an event stream without events, by which both sides detect a broken connection",
			dur, between(dur, 100*time.Millisecond, 5*time.Minute), func(c *Config) *time.Duration { return &c.Streams.Heartbeat }),

		scalar("limits.publish", "600000/1m", "publish requests and thin pings that each node accepts from one caller: a principal or, without credentials, a client address (IPv6: its /64 network); 0: no limit",
			rates, rule[Rate]{}, func(c *Config) *Rate { return &c.Limits.Publish }),
		scalar("limits.subscribe", "6000/1m", "subscribe, unsubscribe and malformed requests per caller; 0: no limit",
			rates, rule[Rate]{}, func(c *Config) *Rate { return &c.Limits.Subscribe }),
		scalar("limits.read", "60000/1m", "reads of topics, lists and metrics per caller; 0: no limit",
			rates, rule[Rate]{}, func(c *Config) *Rate { return &c.Limits.Read }),
		scalar("limits.admin", "6000/1m", "changes by operators, and topics registered and deregistered, per caller; 0: no limit",
			rates, rule[Rate]{}, func(c *Config) *Rate { return &c.Limits.Admin }),
		scalar("limits.refused", "600/1m", "requests with invalid credentials from one client address that are answered as such and logged; further ones are told to wait; 0: no limit",
			rates, rule[Rate]{}, func(c *Config) *Rate { return &c.Limits.Refused }),
		scalar("limits.callback_host", "6000/1m", "subscribe and unsubscribe requests that each node accepts for callbacks at one host, and verification requests that the leader sends to one network (/24, IPv6 /48); 0: no limit",
			rates, rule[Rate]{}, func(c *Config) *Rate { return &c.Limits.CallbackHost }),
		scalar("limits.pending", "5000", "requests waiting for verification, for callbacks at one host and per caller; 0: only the overall limit of 100000 applies",
			num, atLeast(num, 0), func(c *Config) *int { return &c.Limits.Pending }),
		scalar("limits.connections", "1536", "connections open from one client address (IPv6: its /64 network), except trusted proxies; further ones are closed; by default an eighth of all; 0: only the overall limit applies",
			num, atLeast(num, 0), func(c *Config) *int { return &c.Limits.Connections }),
		scalar("limits.streams", "1024", "event streams open from one client address; further ones are refused with 429; 0: only streams.max applies",
			num, atLeast(num, 0), func(c *Config) *int { return &c.Limits.Streams }),

		scalar("storage.flush_interval", "200ms", "how often the state in memory is written to disk; the raft log covers the time in between",
			dur, between(dur, time.Millisecond, 10*time.Second), func(c *Config) *time.Duration { return &c.Storage.FlushInterval }),
		scalar("storage.min_free_bytes", "64MiB", "free disk space below which publish requests get 503",
			bytes, atLeast(bytes, 0), func(c *Config) *Bytes { return &c.Storage.MinFreeBytes }),
		scalar("storage.segment_bytes", "256MiB", "size of one file of the message log, or an eighth of retention.max_bytes if that is less; retention removes whole files",
			bytes, between(bytes, 64<<10, 1<<40), func(c *Config) *Bytes { return &c.Storage.SegmentBytes }),
		scalar("storage.tail_bytes", "64MiB", "memory for the newest messages",
			bytes, between(bytes, 64<<10, 1<<40), func(c *Config) *Bytes { return &c.Storage.TailBytes }),
		scalar("storage.log_bytes", "64MiB", "how much of raft's log is kept for nodes that were away; a node that missed more gets a full snapshot",
			bytes, between(bytes, 64<<10, 1<<40), func(c *Config) *Bytes { return &c.Storage.LogBytes }),
	}
}

// accessKeys declares secrets, access control and what operators watch.
func accessKeys() []entry {
	return []entry{
		scalar("secrets.key", "", "keys that encrypt secrets at rest, the sealing key first, instead of a file; best given as QUORUMHUB_SECRETS_KEY",
			secret(), rule[string]{"keys of 32 bytes in base64, separated by commas, or empty", areSealingKeys}, func(c *Config) *string { return &c.Secrets.Key }),
		scalar("secrets.key_file", "", "file with the keys that encrypt secrets at rest, one base64 key of 32 bytes per line, the sealing key first; created if missing, changed by quorumhub keys; empty: secrets.key in data_dir",
			text(), rule[string]{"the path of a file, or empty", func(s string) bool { return !strings.ContainsRune(s, 0) }},
			func(c *Config) *string { return &c.Secrets.KeyFile }),

		scalar("auth.mode", "", "who may call; empty: this machine only (http.addr must be a loopback address); open: everyone; required: callers allowed by the rules in auth.file",
			text(), oneOf("", "open", "required"), func(c *Config) *string { return &c.Auth.Mode }),
		filePath("auth.file", "YAML file of issuers, keys and rules, the same on every node; for auth.mode: required",
			func(c *Config) *string { return &c.Auth.File }),
		scalar("auth.directory", "", "directory with more of auth.file: identity-providers/*.yaml and service-providers/*.yaml, each one item; changes take effect within seconds; empty: none",
			text(), rule[string]{"the path of a directory, or empty", func(s string) bool { return !strings.ContainsRune(s, 0) }},
			func(c *Config) *string { return &c.Auth.Directory }),
		scalar("auth.audit", "control", "which decisions are logged besides refusals; control: every change except publishing; all: publishing too",
			text(), oneOf("control", "all"), func(c *Config) *string { return &c.Auth.Audit }),
		scalar("auth.on_rule_removed", "pause", "what becomes of subscriptions whose owners no rule allows to subscribe any more, as far as that is certain; pause: they are paused; keep: they go on",
			text(), oneOf("pause", "keep"), func(c *Config) *string { return &c.Auth.OnRuleRemoved }),

		egressMode("auth.egress.mode", "where token issuers may be: public addresses only (public), the listed ones too (edge), this machine too (dev-loopback)",
			func(c *Config) *string { return &c.Auth.Egress.Mode }),
		list("auth.egress.allow_cidrs", "private networks whose issuers may be called in mode edge; this machine only if 127.0.0.0/8 or ::1 is listed by itself",
			network(), func(c *Config) *[]netip.Prefix { return &c.Auth.Egress.AllowCIDRs }),
		list("auth.egress.allow_hosts", "hosts whose issuers may be called in mode edge, wherever they are, except on this machine",
			hostPattern(), func(c *Config) *[]string { return &c.Auth.Egress.AllowHosts }),
		egressProxy("auth.egress.proxy", "proxy through which issuers are called (CONNECT), which then decides about addresses; empty: none",
			func(c *Config) *string { return &c.Auth.Egress.Proxy }),
		scalar("auth.egress.proxy_auth", "", "user:password for the proxy; never shown",
			secret(), userPassword(), func(c *Config) *string { return &c.Auth.Egress.ProxyAuth }),

		filePath("gateway.file", "registry of the gateway (YAML, JSON or XML) that a hub begins with; afterwards quorumhub gateway apply replaces it on all nodes; empty: none",
			func(c *Config) *string { return &c.Gateway.File }),

		scalar("log.level", "info", "minimum level that is logged",
			text(), oneOf("debug", "info", "warn", "error"), func(c *Config) *string { return &c.Log.Level }),
		scalar("log.format", "text", "format of the log on standard error",
			text(), oneOf("text", "json"), func(c *Config) *string { return &c.Log.Format }),

		scalar("debug.pprof", "false", "whether to serve /debug/pprof with profiles of the running hub",
			boolean(), rule[bool]{}, func(c *Config) *bool { return &c.Debug.Pprof }),
	}
}

func listenAddr() rule[string] {
	return rule[string]{"host:port, where host is an IP address, localhost or empty", func(s string) bool {
		host, port, err := net.SplitHostPort(s)
		if err != nil {
			return false
		}
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return false
		}
		if host == "" || host == "localhost" {
			return true
		}
		_, err = netip.ParseAddr(host)
		return err == nil
	}}
}

// Addresses other than host:port.
const (
	UnixAddr    = "unix:" // followed by the path of a socket
	SystemdAddr = "systemd"
)

// maxSocketPath is the longest path of a unix socket, the same on all systems that have a limit.
const maxSocketPath = 103

// httpAddr is listenAddr with the addresses of sockets.
func httpAddr() rule[string] {
	tcp := listenAddr()
	return rule[string]{tcp.expect + "; or unix:/path with an absolute path of at most " + strconv.Itoa(maxSocketPath) + " bytes; or systemd", func(s string) bool {
		if path, ok := strings.CutPrefix(s, UnixAddr); ok {
			return filepath.IsAbs(path) && len(path) <= maxSocketPath && !strings.ContainsRune(path, 0)
		}
		return s == SystemdAddr || tcp.ok(s)
	}}
}

// Mode is the permissions of a file.
type Mode uint32

func (m Mode) String() string { return fmt.Sprintf("%04o", uint32(m)) }

func fileMode() kind[Mode] {
	return kind[Mode]{
		name: "mode", expect: "permissions in octal such as 0660",
		parse: func(s string) (Mode, error) {
			n, err := strconv.ParseUint(s, 8, 32)
			if err != nil || n > 0o777 {
				return 0, fmt.Errorf("%q is not a mode", s)
			}
			return Mode(n), nil
		},
		format: Mode.String,
		json:   func(m Mode) any { return m.String() },
	}
}

func nodeID() rule[string] {
	return rule[string]{"at most 64 letters, digits, dots, dashes and underscores", isNodeID}
}

// ValidNodeID reports whether s is a valid node ID.
func ValidNodeID(s string) bool { return s != "" && isNodeID(s) }

func isNodeID(s string) bool {
	return len(s) <= 64 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == ""
}

// maxRetryWaits is the maximum number of waits in a schedule.
const maxRetryWaits = 16

func retryWait() kind[time.Duration] {
	k := duration()
	k.name, k.expect = "durations", "a duration from 1ms to 30d"
	k.parse = func(s string) (time.Duration, error) {
		d, err := ParseDuration(s)
		if err == nil && (d < time.Millisecond || d > 30*day) {
			err = fmt.Errorf("%q is not %s", s, k.expect)
		}
		return d, err
	}
	return k
}

func peer() kind[Peer] {
	return kind[Peer]{
		name: "peers", expect: "id=host:port such as node-1=10.0.0.1:8180", parse: parsePeer,
		format: Peer.String,
		json:   func(p Peer) any { return p.String() },
	}
}

// secret is a string that is never shown.
func secret() kind[string] {
	k := text()
	k.hidden = true
	k.json = func(s string) any {
		if s == "" {
			return ""
		}
		return "(set)"
	}
	return k
}

// areSealingKeys reports whether s consists of sealing keys.
func areSealingKeys(s string) bool {
	for word := range strings.FieldsFuncSeq(s, func(r rune) bool { return r == ',' || unicode.IsSpace(r) }) {
		if raw, err := base64.StdEncoding.DecodeString(word); err != nil || len(raw) != 32 {
			return false
		}
	}
	return true
}

func filePath(name, doc string, field func(*Config) *string) entry {
	return scalar(name, "", doc, text(), rule[string]{"the path of a file, or empty", func(s string) bool { return !strings.ContainsRune(s, 0) }}, field)
}

func baseURL() kind[string] {
	return textLike("URL", "an absolute http(s) URL without user name, query or fragment", func(s string) (string, error) {
		if s == "" {
			return "", nil
		}
		return parseBaseURL(s)
	})
}

func origin() kind[string] {
	return textLike("origins", "an origin as browsers send it, such as https://app.example.org or http://localhost:3000", func(s string) (string, error) {
		base, err := parseBaseURL(s)
		if err != nil {
			return "", err
		}
		u, err := url.Parse(base)
		if err != nil || u.Path != "" || base != strings.ToLower(base) || u.Port() == map[string]string{"http": "80", "https": "443"}[u.Scheme] && u.Port() != "" {
			return "", fmt.Errorf("%q is not an origin", s)
		}
		return base, nil
	})
}

func network() kind[netip.Prefix] {
	return kind[netip.Prefix]{
		name: "networks", expect: "a network such as 10.1.0.0/16 or fd00:1::/64, or a single address",
		parse: parsePrefix, format: netip.Prefix.String,
		json: func(p netip.Prefix) any { return p.String() },
	}
}

func hostPattern() kind[string] {
	return textLike("hosts", "a host name such as feeds.example.org or *.example.org", parseHostPattern)
}

func proxyURL() kind[string] {
	return textLike("proxy", "the URL of a proxy such as http://proxy.example.org:3128, or empty", func(s string) (string, error) {
		if s == "" {
			return "", nil
		}
		v, err := parseBaseURL(s)
		if u, broken := url.Parse(v); err == nil && (broken != nil || u.Path != "") {
			err = fmt.Errorf("%q contains a path", s)
		}
		return v, err
	})
}

// egressProxy is shown, but not in errors: what was written may contain a password.
func egressProxy(name, doc string, field func(*Config) *string) entry {
	k := proxyURL()
	k.hidden = true
	e := scalar(name, "", doc, k, rule[string]{}, field)
	e.hidden = false
	return e
}

func userPassword() rule[string] {
	return rule[string]{"user:password, or empty", func(s string) bool {
		user, _, ok := strings.Cut(s, ":")
		return s == "" || ok && user != "" && !strings.ContainsFunc(s, unicode.IsControl)
	}}
}

func signatureHost() kind[SignatureHost] {
	return kind[SignatureHost]{
		name: "host=method", expect: "host=method such as old.example.org=sha1 or *.example.org=sha512; methods are sha1, sha256, sha384 and sha512",
		parse:  parseSignatureHost,
		format: SignatureHost.String,
		json:   func(h SignatureHost) any { return h.String() },
	}
}

func egressMode(name, doc string, field func(*Config) *string) entry {
	return scalar(name, "public", doc, text(), oneOf("public", "edge", "dev-loopback"), field)
}
