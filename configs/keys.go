package configs

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// entries declares every key once: name, default, meaning, accepted values and its place in Config.
func entries() []entry {
	dur, num, bytes, rates := duration(), number(), size(), rate()

	return []entry{
		scalar("http.addr", "127.0.0.1:8080", "where the node listens for HTTP",
			text(), listenAddr(), func(c *Config) *string { return &c.HTTP.Addr }),
		scalar("http.public_url", "", "the hub's base URL as subscribers and publishers see it, the same on every node; empty: http:// and http.addr",
			baseURL(), rule[string]{}, func(c *Config) *string { return &c.HTTP.PublicURL }),
		list("http.alias_urls", "other base URLs of the same hub; a topic below any of them is the same topic",
			baseURL(), func(c *Config) *[]string { return &c.HTTP.AliasURLs }),
		filePath("http.tls.cert", "the certificate (with its chain) for HTTPS, read again when it changes; empty: plain HTTP",
			func(c *Config) *string { return &c.HTTP.TLS.Cert }),
		filePath("http.tls.key", "the key of http.tls.cert",
			func(c *Config) *string { return &c.HTTP.TLS.Key }),
		filePath("http.tls.client_ca", "the certificates that sign client certificates; empty: none are asked for",
			func(c *Config) *string { return &c.HTTP.TLS.ClientCA }),
		list("http.trusted_proxies", "reverse proxies in front of the hub, whose X-Forwarded-For says who the client is; without them the client is whoever connects",
			network(), func(c *Config) *[]netip.Prefix { return &c.HTTP.TrustedProxies }),

		scalar("cluster.addr", "127.0.0.1:8180", "where the node listens for the other nodes",
			text(), listenAddr(), func(c *Config) *string { return &c.Cluster.Addr }),
		scalar("cluster.node_id", "", "the node's name in the cluster, for ever; empty: a random one that is kept in data_dir",
			text(), nodeID(), func(c *Config) *string { return &c.Cluster.NodeID }),
		list("cluster.peers", "the nodes that found the cluster, the same list on each of them, or nodes of the cluster to join; this one included; empty: this node alone",
			peer(), func(c *Config) *[]Peer { return &c.Cluster.Peers }),
		scalar("cluster.voter", "true", "whether the node, when it joins a cluster, is to get a vote; without one it holds everything and delivers; later: quorumhub cluster promote and demote",
			boolean(), rule[bool]{}, func(c *Config) *bool { return &c.Cluster.Voter }),
		scalar("cluster.weight", "1", "the node's share of the subscriptions in proportion to the other nodes'",
			num, between(num, 1, 1000), func(c *Config) *int { return &c.Cluster.Weight }),
		scalar("cluster.admission", "open", "who may join while this node leads: open: every node with the token and a certificate; listed: of these only the ones announced with quorumhub cluster add",
			text(), oneOf("open", "listed"), func(c *Config) *string { return &c.Cluster.Admission }),
		scalar("cluster.autopilot.stabilization", "10s", "how long a node that joined must have kept up without a break before it gets its vote",
			dur, between(dur, 100*time.Millisecond, time.Hour), func(c *Config) *time.Duration { return &c.Cluster.Autopilot.Stabilization }),
		scalar("cluster.autopilot.cleanup_dead", "0s", "how long a node must be dead to be removed for good; 0s: dead nodes stay until somebody removes them",
			dur, rule[time.Duration]{"0s, or at least 1s", func(d time.Duration) bool { return d == 0 || d >= time.Second }},
			func(c *Config) *time.Duration { return &c.Cluster.Autopilot.CleanupDead }),
		scalar("cluster.autopilot.min_voters", "3", "how many voters cluster.autopilot.cleanup_dead leaves at least",
			num, between(num, 1, 100), func(c *Config) *int { return &c.Cluster.Autopilot.MinVoters }),
		scalar("cluster.token", "", "a secret that all nodes share; who does not know it cannot join",
			secret(), rule[string]{"at most 512 bytes of text", func(s string) bool { return len(s) <= 512 }}, func(c *Config) *string { return &c.Cluster.Token }),
		filePath("cluster.tls.ca", "the certificates that sign the nodes' certificates; needed when other machines reach cluster.addr",
			func(c *Config) *string { return &c.Cluster.TLS.CA }),
		filePath("cluster.tls.cert", "this node's certificate, for both sides of a connection; it names the host or address in cluster.peers",
			func(c *Config) *string { return &c.Cluster.TLS.Cert }),
		filePath("cluster.tls.key", "the key of cluster.tls.cert",
			func(c *Config) *string { return &c.Cluster.TLS.Key }),

		scalar("data_dir", "./data", "the directory that holds everything the node stores",
			text(), rule[string]{"the path of a directory", func(s string) bool { return s != "" && !strings.ContainsRune(s, 0) }},
			func(c *Config) *string { return &c.DataDir }),

		scalar("hub.profile", "native", "the dialect of the hub endpoint: native (WebSub), ballerina (the Kafka hub of Ballerina and WSO2) or mosip",
			text(), oneOf("native", "ballerina", "mosip"), func(c *Config) *string { return &c.Hub.Profile }),
		scalar("hub.lease.min", "5m", "the shortest lease; a shorter wish is raised to it",
			dur, atLeast(dur, time.Second), func(c *Config) *time.Duration { return &c.Hub.Lease.Min }),
		scalar("hub.lease.default", "10d", "the lease when a subscriber names none",
			dur, atLeast(dur, time.Second), func(c *Config) *time.Duration { return &c.Hub.Lease.Default }),
		scalar("hub.lease.max", "30d", "the longest lease; a longer wish is lowered to it",
			dur, atLeast(dur, time.Second), func(c *Config) *time.Duration { return &c.Hub.Lease.Max }),
		scalar("hub.verification.timeout", "10s", "how long a callback may take to confirm a request, an attempt",
			dur, between(dur, 10*time.Millisecond, 5*time.Minute), func(c *Config) *time.Duration { return &c.Hub.Verification.Timeout }),
		scalar("hub.verification.attempts", "3", "how often a callback that does not answer is asked",
			num, between(num, 1, 100), func(c *Config) *int { return &c.Hub.Verification.Attempts }),
		scalar("hub.signature", "sha256", "the method of X-Hub-Signature",
			text(), oneOf("sha256", "sha1", "sha384", "sha512"), func(c *Config) *string { return &c.Hub.Signature }),

		scalar("hub.compact_json", "false", "whether JSON content loses the spaces between its tokens, for receivers that sign a body line by line (MOSIP's)",
			boolean(), rule[bool]{}, func(c *Config) *bool { return &c.Hub.CompactJSON }),

		scalar("hub.secret_grace", "1d", "how long a secret that a renewal replaced goes on signing beside the new one, in webhook-signature (hub.signature_scheme=standard-webhooks); 0: not at all",
			dur, between(dur, 0, 30*day), func(c *Config) *time.Duration { return &c.Hub.SecretGrace }),

		scalar("topics.auto_register", "false", "whether a publish or subscribe to an unknown topic creates it; always so with hub.profile: mosip",
			boolean(), rule[bool]{}, func(c *Config) *bool { return &c.Topics.AutoRegister }),

		scalar("delivery.timeout", "10s", "how long a callback may take for one delivery, and a second more for each MiB of a message over 256 KiB",
			dur, between(dur, 10*time.Millisecond, 5*time.Minute), func(c *Config) *time.Duration { return &c.Delivery.Timeout }),
		scalar("delivery.concurrency", "256", "how many deliveries to endpoints that answer quickly are under way at most; slow and failing ones have places of their own (up to 16 times as many)",
			num, between(num, 1, 65536), func(c *Config) *int { return &c.Delivery.Concurrency }),
		scalar("delivery.host_concurrency", "1024", "how many deliveries to one host are under way at most, whatever its callbacks; 0: no limit but the others",
			num, atLeast(num, 0), func(c *Config) *int { return &c.Delivery.HostConcurrency }),
		scalar("delivery.retry.initial", "1s", "the upper end of the first wait after a failed delivery; it doubles with every failure",
			dur, between(dur, time.Millisecond, day), func(c *Config) *time.Duration { return &c.Delivery.Retry.Initial }),
		scalar("delivery.retry.max_interval", "10m", "the longest wait between two attempts",
			dur, between(dur, time.Millisecond, 30*day), func(c *Config) *time.Duration { return &c.Delivery.Retry.MaxInterval }),
		list("delivery.retry.schedule", "the waits between attempts one after the other, in place of initial and max_interval, such as [5s, 5m, 30m, 2h]: up to 16, each up to a fifth longer or shorter, the last one repeats; empty: exponential",
			retryWait(), func(c *Config) *[]time.Duration { return &c.Delivery.Retry.Schedule }),
		scalar("delivery.retry.overload_wait", "1m", "the least wait after a callback that answered 429, or not in time, the second time in a row; never more than the longest wait of the keys above; a Retry-After counts instead, also a shorter one; 0s: none",
			dur, between(dur, 0, day), func(c *Config) *time.Duration { return &c.Delivery.Retry.OverloadWait }),
		scalar("delivery.retry.max_age", "1d", "how long a message is tried before it goes to the dead letters",
			dur, atLeast(dur, time.Millisecond), func(c *Config) *time.Duration { return &c.Delivery.Retry.MaxAge }),
		scalar("delivery.retry.max_attempts", "0", "how often a message is tried before it goes to the dead letters; 0: no limit but max_age",
			num, atLeast(num, 0), func(c *Config) *int { return &c.Delivery.Retry.MaxAttempts }),
		scalar("delivery.retry.refused_attempts", "10", "how often a message that the callback refuses (4xx) is tried; 0: no limit but max_age",
			num, atLeast(num, 0), func(c *Config) *int { return &c.Delivery.Retry.RefusedAttempts }),
		scalar("delivery.cursor_flush", "250ms", "how long a delivery may stay unrecorded, and so be repeated after a failover",
			dur, between(dur, time.Millisecond, time.Minute), func(c *Config) *time.Duration { return &c.Delivery.CursorFlush }),
		filePath("delivery.tls_file", "the YAML file of authorities and client certificates by host, for https callbacks and topics; the certificates are read again when they change",
			func(c *Config) *string { return &c.Delivery.TLSFile }),
		egressMode("delivery.egress.mode", "which callbacks may be called: public addresses only, also the listed ones (edge), also this machine (dev-loopback)",
			func(c *Config) *string { return &c.Delivery.Egress.Mode }),
		list("delivery.egress.allow_cidrs", "private networks whose callbacks may be called in mode edge",
			network(), func(c *Config) *[]netip.Prefix { return &c.Delivery.Egress.AllowCIDRs }),
		list("delivery.egress.allow_hosts", "hosts whose callbacks may be called in mode edge",
			hostPattern(), func(c *Config) *[]string { return &c.Delivery.Egress.AllowHosts }),

		scalar("fetch.timeout", "15s", "how long reading a topic may take after a thin ping",
			dur, between(dur, 10*time.Millisecond, 5*time.Minute), func(c *Config) *time.Duration { return &c.Fetch.Timeout }),
		egressMode("fetch.egress.mode", "which topics may be read: public addresses only, also the listed ones (edge), also this machine (dev-loopback)",
			func(c *Config) *string { return &c.Fetch.Egress.Mode }),
		list("fetch.egress.allow_cidrs", "private networks whose topics may be read in mode edge",
			network(), func(c *Config) *[]netip.Prefix { return &c.Fetch.Egress.AllowCIDRs }),
		list("fetch.egress.allow_hosts", "hosts whose topics may be read in mode edge",
			hostPattern(), func(c *Config) *[]string { return &c.Fetch.Egress.AllowHosts }),

		scalar("retention.max_age", "7d", "how long messages are kept; 0: no limit",
			dur, atLeast(dur, 0), func(c *Config) *time.Duration { return &c.Retention.MaxAge }),
		scalar("retention.max_bytes", "10GiB", "how much of the message log is kept; 0: no limit",
			bytes, atLeast(bytes, 0), func(c *Config) *Bytes { return &c.Retention.MaxBytes }),

		scalar("dead_letters.max_age", "30d", "how long messages that were given up are kept, with their content; 0: no limit",
			dur, atLeast(dur, 0), func(c *Config) *time.Duration { return &c.Letters.MaxAge }),
		scalar("dead_letters.max_count", "100000", "how many of them are kept",
			num, between(num, 1, 100000), func(c *Config) *int { return &c.Letters.MaxCount }),
		scalar("dead_letters.max_bytes", "256MiB", "how much of their content is kept; 0: no limit",
			bytes, atLeast(bytes, 0), func(c *Config) *Bytes { return &c.Letters.MaxBytes }),

		scalar("message.max_bytes", "1MiB", "the largest message; a larger one is refused with 413. The same on all nodes",
			bytes, between(bytes, 1<<10, 64<<20), func(c *Config) *Bytes { return &c.Message.MaxBytes }),
		list("message.key_headers", "publishers' headers kept with each message, so that hub.delivery_key can name them, beyond X-Hub-Key, Ce-Subject and Ce-Partitionkey; the same on every node",
			textLike("headers", "the name of a header such as X-Order-Id, and none that holds credentials", parseKeyHeader), func(c *Config) *[]string { return &c.Message.KeyHeaders }),

		scalar("streams.max", "4096", "how many event streams this node serves at a time; more are refused with 503",
			num, between(num, 1, 1<<20), func(c *Config) *int { return &c.Streams.Max }),
		scalar("streams.heartbeat", "15s", "how often an event stream without events gets a comment, so that both sides notice a broken connection",
			dur, between(dur, 100*time.Millisecond, 5*time.Minute), func(c *Config) *time.Duration { return &c.Streams.Heartbeat }),

		scalar("limits.publish", "600000/1m", "how many publishing requests, thin pings included, each node takes of one caller: a principal or, without credentials, a client address (IPv6: its /64 network); 0: no limit",
			rates, rule[Rate]{}, func(c *Config) *Rate { return &c.Limits.Publish }),
		scalar("limits.subscribe", "6000/1m", "the same for requests to subscribe and unsubscribe, and for those that are not understood; 0: no limit",
			rates, rule[Rate]{}, func(c *Config) *Rate { return &c.Limits.Subscribe }),
		scalar("limits.read", "60000/1m", "the same for reading topics, lists and metrics; 0: no limit",
			rates, rule[Rate]{}, func(c *Config) *Rate { return &c.Limits.Read }),
		scalar("limits.admin", "6000/1m", "the same for what operators change, and for topics registered and deregistered; 0: no limit",
			rates, rule[Rate]{}, func(c *Config) *Rate { return &c.Limits.Admin }),
		scalar("limits.refused", "600/1m", "how many requests with credentials that do not hold a client address is told so, with a line in the log, before it is told to wait; 0: no limit",
			rates, rule[Rate]{}, func(c *Config) *Rate { return &c.Limits.Refused }),
		scalar("limits.callback_host", "6000/1m", "how many requests to subscribe and unsubscribe each node takes for callbacks at one host, and how many callbacks the leader asks at one network (/24, IPv6 /48); 0: no limit",
			rates, rule[Rate]{}, func(c *Config) *Rate { return &c.Limits.CallbackHost }),
		scalar("limits.pending", "5000", "how many requests may wait for their verification at a time, for callbacks at one host and of one caller; 0: no limit but 100000 in all",
			num, atLeast(num, 0), func(c *Config) *int { return &c.Limits.Pending }),
		scalar("limits.connections", "4096", "how many connections one client address may have open at a time, trusted proxies aside; further ones are closed; 0: no limit but that of all",
			num, atLeast(num, 0), func(c *Config) *int { return &c.Limits.Connections }),
		scalar("limits.streams", "1024", "how many event streams one client address may have open at a time; further ones are refused with 429; 0: no limit but streams.max",
			num, atLeast(num, 0), func(c *Config) *int { return &c.Limits.Streams }),

		scalar("storage.flush_interval", "200ms", "how often the state in memory is written to disk; the raft log covers the time between",
			dur, between(dur, time.Millisecond, 10*time.Second), func(c *Config) *time.Duration { return &c.Storage.FlushInterval }),
		scalar("storage.min_free_bytes", "64MiB", "the free disk space below which publishers get 503",
			bytes, atLeast(bytes, 0), func(c *Config) *Bytes { return &c.Storage.MinFreeBytes }),
		scalar("storage.segment_bytes", "256MiB", "the size of one file of the message log; retention removes whole files",
			bytes, between(bytes, 64<<10, 1<<40), func(c *Config) *Bytes { return &c.Storage.SegmentBytes }),
		scalar("storage.tail_bytes", "64MiB", "memory for the newest messages",
			bytes, between(bytes, 64<<10, 1<<40), func(c *Config) *Bytes { return &c.Storage.TailBytes }),
		scalar("storage.log_bytes", "64MiB", "how much of raft's log is kept for nodes that were away; one that missed more is sent a snapshot of everything",
			bytes, between(bytes, 64<<10, 1<<40), func(c *Config) *Bytes { return &c.Storage.LogBytes }),

		scalar("secrets.key", "", "the keys that encrypt secrets at rest, the sealing one first, in place of a file; best given as QUORUMHUB_SECRETS_KEY",
			secret(), rule[string]{"keys of 32 bytes in base64, separated by commas, or empty", areSealingKeys}, func(c *Config) *string { return &c.Secrets.Key }),
		scalar("secrets.key_file", "", "the file of the keys that encrypt secrets at rest, one base64 key of 32 bytes a line, the sealing one first; made when missing, changed by quorumhub keys; empty: secrets.key in data_dir",
			text(), rule[string]{"the path of a file, or empty", func(s string) bool { return !strings.ContainsRune(s, 0) }},
			func(c *Config) *string { return &c.Secrets.KeyFile }),

		scalar("auth.mode", "", "who may call; empty: this machine only (http.addr must be a loopback address); open: everyone; required: who the rules of auth.file allow",
			text(), oneOf("", "open", "required"), func(c *Config) *string { return &c.Auth.Mode }),
		filePath("auth.file", "the YAML file of issuers, keys and rules, the same on every node; for auth.mode: required",
			func(c *Config) *string { return &c.Auth.File }),
		scalar("auth.audit", "control", "which decisions are written to the log besides refusals: control: every change but publishing; all: publishing too",
			text(), oneOf("control", "all"), func(c *Config) *string { return &c.Auth.Audit }),

		egressMode("auth.egress.mode", "where the issuers of tokens may be: public addresses only, also the listed ones (edge), also this machine (dev-loopback)",
			func(c *Config) *string { return &c.Auth.Egress.Mode }),
		list("auth.egress.allow_cidrs", "private networks whose issuers may be called in mode edge",
			network(), func(c *Config) *[]netip.Prefix { return &c.Auth.Egress.AllowCIDRs }),
		list("auth.egress.allow_hosts", "hosts whose issuers may be called in mode edge",
			hostPattern(), func(c *Config) *[]string { return &c.Auth.Egress.AllowHosts }),

		scalar("log.level", "info", "the least level that is logged",
			text(), oneOf("debug", "info", "warn", "error"), func(c *Config) *string { return &c.Log.Level }),
		scalar("log.format", "text", "the form of the log on standard error",
			text(), oneOf("text", "json"), func(c *Config) *string { return &c.Log.Format }),

		scalar("debug.pprof", "false", "whether /debug/pprof is served, for profiles of the running hub",
			boolean(), rule[bool]{}, func(c *Config) *bool { return &c.Debug.Pprof }),
	}
}

func listenAddr() rule[string] {
	return rule[string]{"host:port with an IP address, localhost or nothing as host", func(s string) bool {
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

func nodeID() rule[string] {
	return rule[string]{"at most 64 letters, digits, dots, dashes and underscores", isNodeID}
}

// ValidNodeID tells whether s can be the id of a node.
func ValidNodeID(s string) bool { return s != "" && isNodeID(s) }

func isNodeID(s string) bool {
	return len(s) <= 64 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == ""
}

// maxRetryWaits is how many waits a schedule may have.
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

// secret is free text that is not shown.
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

// areSealingKeys tells whether a text holds keys for secrets at rest.
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
	return textLike("URL", "an absolute http(s) URL without user name, query and fragment", func(s string) (string, error) {
		if s == "" {
			return "", nil
		}
		return parseBaseURL(s)
	})
}

func network() kind[netip.Prefix] {
	return kind[netip.Prefix]{
		name: "networks", expect: "a network such as 10.1.0.0/16 or fd00:1::/64, or one address",
		parse: parsePrefix, format: netip.Prefix.String,
		json: func(p netip.Prefix) any { return p.String() },
	}
}

func hostPattern() kind[string] {
	return textLike("hosts", "a host name such as feeds.example.org or *.example.org", parseHostPattern)
}

func egressMode(name, doc string, field func(*Config) *string) entry {
	return scalar(name, "public", doc, text(), oneOf("public", "edge", "dev-loopback"), field)
}
