package configs

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// Warnings returns settings that are allowed but probably not intended, one line each.
func (c *Config) Warnings() []string {
	var out []string
	warn := func(when bool, format string, args ...any) {
		if when {
			out = append(out, fmt.Sprintf(format, args...))
		}
	}
	host, _, err := net.SplitHostPort(c.HTTP.Addr)
	ip, noIP := netip.ParseAddr(host)
	everywhere := err == nil && (host == "" || noIP == nil && ip.IsUnspecified())
	reachable := !isLoopback(c.HTTP.Addr) && c.HTTP.Addr != SystemdAddr
	plain := reachable && c.HTTP.TLS.Cert == ""

	warn(everywhere && c.HTTP.PublicURL == "",
		"http.public_url is empty while http.addr listens on all addresses: subscribers see %s, which only this machine can reach", c.PublicURL())
	warn(c.Auth.Mode == "open" && !isLoopback(c.HTTP.Addr), "auth.mode is open: everyone who can reach %s may publish and subscribe", c.HTTP.Addr)
	warn(plain && c.Auth.Mode == "required" && !strings.HasPrefix(c.HTTP.PublicURL, "https://"),
		"http.addr %s serves plain HTTP, so API keys, tokens and secrets of callers cross the network unencrypted; set http.tls.cert and http.tls.key, "+
			"or http.public_url to the https URL of the proxy in front", c.HTTP.Addr)
	warn(c.HTTP.TLS.Cert != "" && strings.HasPrefix(c.HTTP.PublicURL, "http://"),
		"http.public_url is %s, but the hub serves HTTPS (http.tls.cert): subscribers are told a URL that does not answer", c.HTTP.PublicURL)
	warn(strings.HasPrefix(c.HTTP.Addr, UnixAddr) && c.HTTP.SocketMode&0o002 != 0,
		"http.socket_mode %s lets everybody on this machine write to the socket, where they are believed like a trusted proxy", c.HTTP.SocketMode)
	for _, p := range c.HTTP.TrustedProxies {
		warn(p.Bits() == 0, "http.trusted_proxies contains %s: every client may claim any address with X-Forwarded-For", p)
	}
	warn(c.Debug.Pprof && !isLoopback(c.HTTP.Addr) && c.Auth.Mode != "required", "debug.pprof is on: everyone who can reach %s may profile the hub", c.HTTP.Addr)
	if len(c.Cluster.Peers) > 0 && c.Cluster.Token != "" {
		warn(isPlaceholder(c.Cluster.Token), "cluster.token is a placeholder from a sample, which everybody knows; expected a random string, the same on every node")
		warn(!isPlaceholder(c.Cluster.Token) && len(c.Cluster.Token) < minTokenBytes, "cluster.token has %d characters, which can be guessed; expected a random string of at least %d",
			len(c.Cluster.Token), minTokenBytes)
	}
	warn(c.Retention.MaxAge > 0 && c.Delivery.Retry.MaxAge > c.Retention.MaxAge,
		"delivery.retry.max_age (%s) is longer than retention.max_age (%s): messages are dropped before they stop being retried",
		FormatDuration(c.Delivery.Retry.MaxAge), FormatDuration(c.Retention.MaxAge))
	for _, e := range []struct {
		name string
		Egress
	}{{"delivery.egress", c.Delivery.Egress}, {"fetch.egress", c.Fetch.Egress}, {"auth.egress", c.Auth.Egress}} {
		warn(e.Mode == "dev-loopback" && !isLoopback(c.HTTP.Addr) && e.name != "auth.egress",
			"%s.mode is dev-loopback on a hub that other machines can reach: they can make it call services on this machine", e.name)
		for _, p := range e.AllowCIDRs {
			warn(p.Bits() == 0, "%s.allow_cidrs contains %s: every private network may be called", e.name, p)
		}
		u, err := url.Parse(e.Proxy)
		warn(err == nil && e.ProxyAuth != "" && u.Scheme == "http" && !isLoopback(net.JoinHostPort(u.Hostname(), "1")),
			"%s.proxy_auth crosses the network unencrypted to %s; use a proxy with https", e.name, e.Proxy)
	}
	return out
}

// minTokenBytes is the shortest token that is not warned of.
const minTokenBytes = 16

// isPlaceholder reports whether a secret is the text of a sample, or what people write until they think of something.
func isPlaceholder(secret string) bool {
	s := strings.ToLower(secret)
	return slices.ContainsFunc([]string{"replace", "change", "placeholder", "example", "your"}, func(word string) bool { return strings.HasPrefix(s, word) })
}
