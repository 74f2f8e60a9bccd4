package egress

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"code.dny.dev/ssrf"

	"quorumhub/hub"
)

// Mode selects which addresses may be called at all.
type Mode string

const (
	// ModePublic allows addresses of the public internet only. It is the default.
	ModePublic Mode = "public"
	// ModeEdge allows the public internet and those private and shared addresses that AllowCIDRs lists or that a host
	// in AllowHosts resolves to. Loopback addresses have a permission of their own: see AllowCIDRs.
	ModeEdge Mode = "edge"
	// ModeDevLoopback is ModeEdge plus loopback addresses, for a cluster on one machine.
	ModeDevLoopback Mode = "dev-loopback"
)

// PolicyOptions configures an egress policy. The zero value is ModePublic.
type PolicyOptions struct {
	Mode Mode
	// AllowCIDRs lists non-public addresses that may be called. Not with ModePublic. Loopback addresses are opened only
	// by networks that contain nothing else (127.0.0.0/8 or a part of it, ::1/128), not by a wider one or a name.
	AllowCIDRs []netip.Prefix
	// AllowHosts lists names whose addresses may be called even if they are not public: "hooks.example" is that name
	// only; ".example" and "*.example" are all names below it. Not with ModePublic.
	AllowHosts []string
	// DenyAddrs lists addresses that no mode allows: those this process listens on. An unspecified address (0.0.0.0,
	// ::) stands for every address of this machine.
	DenyAddrs []netip.AddrPort
	// Proxy is the URL of a proxy that makes all connections (CONNECT); nil: connections are direct. The policy then judges
	// the proxy's address, and of targets what their URLs show: names that belong to local networks must be in AllowHosts.
	// Loopback addresses are never reached through it.
	Proxy *url.URL
	// ProxyAuth is user:password for the proxy; empty: none.
	ProxyAuth string
}

// Policy decides which addresses outbound requests may reach. It is checked twice: CheckURL cheaply when a URL is
// first seen, and CheckAddr authoritatively on the concrete address of every connection, so that a name which later
// resolves differently cannot slip past. A Policy is immutable and safe for concurrent use.
type Policy struct {
	mode     Mode
	cidrs    []netip.Prefix
	hosts    []string // lower case; ".example" for suffixes
	deny     map[netip.AddrPort]bool
	denyPort map[uint16]bool // ports this process listens on at an unspecified address
	proxy    *proxy          // nil: none
	upstream map[string]bool // host:port of the one service to call, and whether it may be on this machine; nil: any target
}

// NewPolicy validates the options. Errors name the option and what is expected.
func NewPolicy(o PolicyOptions) (*Policy, error) {
	p := &Policy{mode: o.Mode, deny: map[netip.AddrPort]bool{}, denyPort: map[uint16]bool{}}
	switch o.Mode {
	case "":
		p.mode = ModePublic
	case ModePublic, ModeEdge, ModeDevLoopback:
	default:
		return nil, fmt.Errorf("egress mode %q: expected public, edge or dev-loopback", o.Mode)
	}
	if p.mode == ModePublic && (len(o.AllowCIDRs) > 0 || len(o.AllowHosts) > 0) {
		return nil, fmt.Errorf("egress allow_cidrs and allow_hosts have no effect in mode public: use mode edge")
	}
	for _, c := range o.AllowCIDRs {
		if !c.IsValid() {
			return nil, fmt.Errorf("egress allow_cidrs: %q is not a network such as 10.0.0.0/8", c)
		}
		for _, n := range never {
			if n.Bits() <= c.Bits() && n.Contains(c.Addr()) {
				return nil, fmt.Errorf("egress allow_cidrs: %s is never allowed (part of %s)", c, n)
			}
		}
		p.cidrs = append(p.cidrs, c.Masked())
	}
	for _, h := range o.AllowHosts {
		h = strings.TrimPrefix(strings.ToLower(h), "*")
		name := strings.TrimPrefix(h, ".")
		if err := checkHostSyntax(name); err != nil {
			return nil, fmt.Errorf("egress allow_hosts: %w", err)
		}
		if _, err := netip.ParseAddr(name); err == nil {
			return nil, fmt.Errorf("egress allow_hosts: %q is an address: list it in allow_cidrs", name)
		}
		p.hosts = append(p.hosts, h)
	}
	for _, a := range o.DenyAddrs {
		if a.Addr().IsUnspecified() {
			p.denyPort[a.Port()] = true
			continue
		}
		p.deny[netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())] = true
	}
	if o.Proxy == nil {
		if o.ProxyAuth != "" {
			return nil, fmt.Errorf("egress proxy_auth has no effect without proxy: set that as well")
		}
		return p, nil
	}
	var err error
	p.proxy, err = newProxy(o.Proxy, o.ProxyAuth)
	return p, err
}

// CheckURL reports whether u may become a callback or topic URL, without resolving its name. It checks the scheme,
// strict host syntax, the absence of userinfo and fragment, the port, and a literal address. Errors are *DeniedError
// with one line of text.
func (p *Policy) CheckURL(u *url.URL) error {
	if u.Scheme != "http" && u.Scheme != "https" {
		return denied("scheme %q is not allowed, expected http or https", u.Scheme)
	}
	if len(u.String()) > hub.MaxURLBytes {
		return denied("the URL is longer than %d bytes", hub.MaxURLBytes)
	}
	if u.User != nil {
		return denied("the URL contains a user name or password, which is not allowed")
	}
	if u.Fragment != "" || u.RawFragment != "" {
		return denied("the URL contains a fragment (#...), which is not allowed")
	}
	host := strings.ToLower(u.Hostname())
	port, err := urlPort(u)
	if err != nil {
		return err
	}
	if p.upstream != nil {
		return p.checkUpstreamTarget(host, port)
	}
	if p.proxy != nil {
		return p.checkProxied(host, port)
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		if addr.Zone() != "" {
			return denied("address %q has a zone, which is not allowed", host)
		}
		return p.CheckAddr(netip.AddrPortFrom(addr, port), "")
	}
	if err := checkHostSyntax(host); err != nil {
		return err
	}
	if !portAllowed(port) {
		return portError(port)
	}
	if (host == "localhost" || strings.HasSuffix(host, ".localhost")) &&
		!p.allowsPrivate(netip.AddrFrom4([4]byte{127, 0, 0, 1})) && !p.allowsPrivate(netip.IPv6Loopback()) {
		return denied("host %q is this machine; %s", host, p.wayIn())
	}
	return nil
}

// CheckAddr reports whether a connection may be made to address a on behalf of host, the name it was resolved from
// (empty for a literal address). Errors are *DeniedError.
func (p *Policy) CheckAddr(a netip.AddrPort, host string) error {
	if p.upstream != nil {
		return p.checkUpstreamAddr(a, host)
	}
	ip := a.Addr().Unmap()
	if ip.Zone() != "" {
		return denied("address %s has a zone, which is not allowed", ip)
	}
	if !portAllowed(a.Port()) {
		return portError(a.Port())
	}
	// An IPv6 address that leads to an IPv4 one must pass as both.
	inner, wraps := embedded(ip)
	if n, ok := isNever(ip); ok {
		return denied("address %s is never allowed (part of %s)", ip, n)
	}
	for _, face := range []netip.Addr{ip, inner} {
		if face.IsValid() && p.IsOwn(netip.AddrPortFrom(face, a.Port())) {
			return denied("address %s is one this hub listens on", a)
		}
	}
	if p.mode == ModeEdge && (ip.IsLoopback() || wraps && inner.IsLoopback()) && !p.allowsLoopback(ip, inner) {
		return denied("address %s is this machine; %s", ip, p.wayIn())
	}
	exempt := host != "" && p.hostAllowed(host)
	if wraps {
		if !exempt && !isPublic(inner) && !p.allowsPrivate(inner) {
			return denied("address %s leads to %s, which is not a public one%s", ip, inner, p.wayOut())
		}
		if ssrf.IPv6NAT64Prefix.Contains(ip) {
			return nil // translated by the network: the inner address is the target
		}
	}
	if exempt || isPublic(ip) || p.allowsPrivate(ip) {
		return nil
	}
	return denied("address %s is not a public one%s", ip, p.wayOut())
}

// wayIn is wayOut for this machine, which no other entry of a list includes.
func (p *Policy) wayIn() string {
	if p.mode == ModePublic {
		return "egress mode public allows public addresses only; mode edge allows it if allow_cidrs lists it by itself (127.0.0.0/8 or ::1)"
	}
	return "egress mode " + string(p.mode) + " allows it only if allow_cidrs lists it by itself (127.0.0.0/8 or ::1)"
}

// wayOut says what the operator would have to do for an address that is not public.
func (p *Policy) wayOut() string {
	if p.mode == ModePublic {
		return "; egress mode public allows no others; mode edge allows those that allow_cidrs or allow_hosts list"
	}
	return "; egress mode " + string(p.mode) + " allows it only if allow_cidrs or allow_hosts list it"
}

// allowsPrivate reports whether the mode or the list allows a non-public address.
func (p *Policy) allowsPrivate(ip netip.Addr) bool {
	if p.mode == ModeDevLoopback && ip.IsLoopback() {
		return true
	}
	for _, c := range p.cidrs {
		if c.Contains(ip) && (!ip.IsLoopback() || isLoopbackOnly(c)) {
			return true
		}
	}
	return false
}

// allowsLoopback reports whether what is on this machine may be called at ip, or at inner where ip leads.
func (p *Policy) allowsLoopback(ip, inner netip.Addr) bool {
	if ip.IsLoopback() {
		return p.allowsPrivate(ip)
	}
	return p.allowsPrivate(inner)
}

func (p *Policy) hostAllowed(host string) bool {
	host = strings.ToLower(host)
	for _, h := range p.hosts {
		if h == host || h[0] == '.' && strings.HasSuffix(host, h) {
			return true
		}
	}
	return false
}

// portAllowed excludes the well-known ports of mail, shells, DNS and directories.
func portAllowed(port uint16) bool {
	return port == 80 || port == 443 || port >= 1024
}

func portError(port uint16) error {
	return denied("port %d is not allowed, expected 80, 443 or 1024 to 65535", port)
}

// IsOwn reports whether this process listens on a.
func (p *Policy) IsOwn(a netip.AddrPort) bool {
	if p.deny[a] {
		return true
	}
	if !p.denyPort[a.Port()] {
		return false
	}
	if a.Addr().IsLoopback() {
		return true
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return true // unknown: err on the safe side
	}
	for _, i := range addrs {
		if n, ok := i.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok && ip.Unmap() == a.Addr() {
				return true
			}
		}
	}
	return false
}
