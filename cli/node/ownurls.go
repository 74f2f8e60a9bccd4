package node

import (
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"quorumhub/configs"
	"quorumhub/delivery/egress"
	"quorumhub/hub"
	"quorumhub/raftlog"
	"quorumhub/store"
)

// localURLs returns the URL by which programs on this machine reach the hub, if they do by a loopback address. It is theirs alone
// and not told to other nodes.
func (n *Node) localURLs() []string {
	host, port, err := net.SplitHostPort(n.cfg.HTTP.Addr)
	if err != nil {
		return nil
	}
	if ip, err := netip.ParseAddr(host); err != nil || !ip.IsLoopback() && !ip.IsUnspecified() {
		return nil
	}
	scheme := "http"
	if n.secure != nil {
		scheme = "https"
	}
	return []string{scheme + "://" + net.JoinHostPort("127.0.0.1", port)}
}

// leadsHere returns a function that reports whether this process answers at a URL's host and port: at an address on which it
// listens, or at the name of this machine.
func leadsHere(policy *egress.Policy) func(*url.URL) bool {
	machine, err := os.Hostname()
	if err != nil {
		machine = ""
	}
	loopback := []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
	return func(u *url.URL) bool {
		port, err := strconv.ParseUint(u.Port(), 10, 16)
		if err != nil { // none, so the scheme's
			port = 80
			if strings.EqualFold(u.Scheme, "https") {
				port = 443
			}
		}
		addrs := loopback
		host := strings.ToLower(u.Hostname())
		if a, err := netip.ParseAddr(host); err == nil {
			addrs = []netip.Addr{a.Unmap()}
		} else if host != "localhost" && !strings.HasSuffix(host, ".localhost") && host != strings.ToLower(machine) {
			return false
		}
		for _, a := range addrs {
			if policy.IsOwn(netip.AddrPortFrom(a, uint16(port))) {
				return true
			}
		}
		return false
	}
}

// announcedURLs returns the URLs that this node tells the others.
func announcedURLs(cfg *configs.Config) []string {
	return append([]string{cfg.PublicURL()}, cfg.HTTP.AliasURLs...)
}

// memberURLs makes a namer know topics by the URLs of the other nodes. It observes the log.
type memberURLs struct {
	id    string // this node's, whose URLs are those in its configuration
	namer *hub.TopicNamer
	store *store.Store
}

// Applied implements hub.Observer.
func (m *memberURLs) Applied(fx *hub.Effects) {
	if len(fx.Nodes) > 0 {
		m.load()
	}
}

func (m *memberURLs) load() {
	var urls []string
	m.store.View(func(s *hub.State) {
		for _, n := range s.Nodes() {
			if n.ID != m.id {
				urls = append(urls, n.URLs...)
			}
		}
	})
	m.namer.SetMembers(urls)
}

// sharedSettings returns the settings that should be the same on every node, because any node may take a publisher's message or
// carry out what all of them agreed on.
func sharedSettings(cfg *configs.Config) (out []raftlog.Setting) {
	shared := []string{"http.public_url", "hub.profile", "hub.compact_json", "hub.signature", "hub.lease.min", "hub.lease.default", "hub.lease.max", "topics.auto_register",
		"message.max_bytes", "message.key_headers", "retention.max_age", "retention.max_bytes", "dead_letters.max_age", "dead_letters.max_count",
		"dead_letters.max_bytes", "auth.mode"}
	for _, s := range cfg.Settings() {
		if slices.Contains(shared, s.Key) {
			out = append(out, raftlog.Setting{Key: s.Key, Value: strings.Join(s.Texts, ", ")})
		}
	}
	return out
}
