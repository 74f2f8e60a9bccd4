package egress

import (
	"net/netip"

	"code.dny.dev/ssrf"
)

// never holds the addresses that no mode, list or host name opens: link-local networks and the metadata services of
// cloud machines, which hand out credentials to whoever can make a request, and addresses that denote no single host.
var never = [...]netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),              // this host, this network
	netip.MustParsePrefix("169.254.0.0/16"),         // link-local, metadata of most clouds
	netip.MustParsePrefix("100.100.100.200/32"),     // metadata, Alibaba Cloud
	netip.MustParsePrefix("168.63.129.16/32"),       // platform address, Azure
	netip.MustParsePrefix("192.0.0.192/32"),         // metadata, Oracle Cloud
	netip.MustParsePrefix("224.0.0.0/4"),            // multicast
	netip.MustParsePrefix("255.255.255.255/32"),     // broadcast
	netip.MustParsePrefix("::/128"),                 // unspecified
	netip.MustParsePrefix("fe80::/10"),              // link-local
	netip.MustParsePrefix("fd00:ec2::/32"),          // metadata, credentials of pods, time and names, AWS
	netip.MustParsePrefix("fd20:ce::254/128"),       // metadata, Google Cloud
	netip.MustParsePrefix("fd00:42::42/128"),        // metadata, Scaleway
	netip.MustParsePrefix("fd00:a9fe:a9fe::1/128"),  // metadata, Linode
	netip.MustParsePrefix("fd00:c1::a9fe:a9fe/128"), // metadata, Oracle Cloud
	netip.MustParsePrefix("ff00::/8"),               // multicast
}

// never0 is the part of never that empty bits look like.
var never0 = netip.MustParsePrefix("0.0.0.0/8")

// loopback4 and loopback6 are this machine. Services listen there because nobody else can reach them.
var (
	loopback4 = netip.MustParsePrefix("127.0.0.0/8")
	loopback6 = netip.MustParsePrefix("::1/128")
)

// isLoopbackOnly reports whether a network has no addresses but those of this machine.
func isLoopbackOnly(n netip.Prefix) bool {
	return n.Bits() >= loopback4.Bits() && loopback4.Contains(n.Addr()) || n == loopback6
}

var (
	nat64Local = netip.MustParsePrefix("64:ff9b:1::/48")  // RFC 8215
	sixToFour  = netip.MustParsePrefix("2002::/16")       // RFC 3056
	teredo     = netip.MustParsePrefix("2001::/32")       // RFC 4380
	v4Compat   = netip.MustParsePrefix("::/96")           // RFC 4291 section 2.5.5.1
	translated = netip.MustParsePrefix("::ffff:0:0:0/96") // RFC 2765 section 2.1
)

// isPublic reports whether an unmapped address belongs to the public internet: outside the IANA special-purpose
// registries and, for IPv6, within 2000::/3.
func isPublic(ip netip.Addr) bool {
	denied := ssrf.IPv4DeniedPrefixes
	if !ip.Is4() {
		if !ssrf.IPv6GlobalUnicast.Contains(ip) {
			return false
		}
		denied = ssrf.IPv6DeniedPrefixes
	}
	for _, n := range denied {
		if n.Contains(ip) {
			return false
		}
	}
	return true
}

// embedded returns the IPv4 address where packets to an IPv6 address end up.
func embedded(ip netip.Addr) (netip.Addr, bool) {
	if !ip.Is6() {
		return netip.Addr{}, false
	}
	b := ip.As16()
	switch {
	case ssrf.IPv6NAT64Prefix.Contains(ip), nat64Local.Contains(ip):
		// RFC 8215 leaves the length of the translation prefix open; the last 32 bits are the usual place.
		return netip.AddrFrom4([4]byte(b[12:16])), true
	case sixToFour.Contains(ip):
		return netip.AddrFrom4([4]byte(b[2:6])), true
	case teredo.Contains(ip):
		return netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]}), true
	case v4Compat.Contains(ip) && !ip.IsLoopback() && !ip.IsUnspecified(), translated.Contains(ip):
		return netip.AddrFrom4([4]byte(b[12:16])), true
	case b[8]&^2 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe: // ISATAP, RFC 5214 section 6.1
		return netip.AddrFrom4([4]byte(b[12:16])), true
	}
	return netip.Addr{}, false
}

// isNever reports which of the addresses that are never allowed ip is or leads to.
func isNever(ip netip.Addr) (netip.Prefix, bool) {
	inner, wraps := embedded(ip)
	for _, n := range never {
		if n.Contains(ip) || wraps && n.Contains(inner) {
			return n, true
		}
	}
	if nat64Local.Contains(ip) {
		// A translator with a shorter prefix reads the address from other bits (RFC 6052 section 2.2).
		b := ip.As16()
		for _, at := range [][4]int{{6, 7, 9, 10}, {7, 9, 10, 11}, {9, 10, 11, 12}} {
			other := netip.AddrFrom4([4]byte{b[at[0]], b[at[1]], b[at[2]], b[at[3]]})
			for _, n := range never {
				if n != never0 && n.Contains(other) {
					return n, true
				}
			}
		}
	}
	return netip.Prefix{}, false
}
