package node

import (
	"net"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"

	"quorumhub/delivery/egress"
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
