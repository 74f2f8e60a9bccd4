package egress

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"code.dny.dev/ssrf"

	"quorumhub/hub"
)

// Mode says which addresses may be called at all.
type Mode string

const (
	// ModePublic allows addresses of the public internet only. It is the default.
	ModePublic Mode = "public"
	// ModeEdge allows the public internet and, of private, shared and loopback addresses, those that
	// AllowCIDRs lists or that a host in AllowHosts resolves to.
	ModeEdge Mode = "edge"
	// ModeDevLoopback is ModeEdge with loopback addresses allowed, for a cluster on one's own machine.
	ModeDevLoopback Mode = "dev-loopback"
)

// PolicyOptions describes an egress policy. The zero value is ModePublic.
type PolicyOptions struct {
	Mode Mode
	// AllowCIDRs lists addresses that may be called although they are not public. Not with ModePublic.
	AllowCIDRs []netip.Prefix
	// AllowHosts lists names whose addresses may be called although they are not public: "hooks.example"
	// is that name, ".example" and "*.example" are all names below it. Not with ModePublic.
	AllowHosts []string
	// AllowPorts lists the ports that may be called. Empty: 80, 443 and everything from 1024 on, which
	// leaves out the well-known ports of mail, shells, DNS and directories.
	AllowPorts []uint16
	// DenyAddrs are never called in any mode: the addresses this process itself listens on. An
	// unspecified address (0.0.0.0, ::) stands for every address of this machine.
	DenyAddrs []netip.AddrPort
}

// Policy decides which addresses outbound requests may reach. It is checked twice: CheckURL is the cheap
// check when a URL is first seen, CheckAddr the authoritative one on the concrete address of every
// connection, which no name that resolves differently the second time can pass. A Policy is immutable
// and safe for concurrent use.
type Policy struct {
	mode     Mode
	cidrs    []netip.Prefix
	hosts    []string // lower case; ".example" for suffixes
	ports    []uint16
	deny     map[netip.AddrPort]bool
	denyPort map[uint16]bool // ports listened on at an unspecified address
}

// NewPolicy checks the options. An error names the option and what is expected.
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
		for _, n := range neverAllowed() {
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
	p.ports = slices.Clone(o.AllowPorts)
	for _, a := range o.DenyAddrs {
		if a.Addr().IsUnspecified() {
			p.denyPort[a.Port()] = true
			continue
		}
		p.deny[netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())] = true
	}
	return p, nil
}

// DeniedError says why the policy forbids a URL or an address. Its text is meant for the operator and,
// from CheckURL, for the sender of the URL.
type DeniedError struct {
	Message string
}

func (e *DeniedError) Error() string { return e.Message }

func denied(format string, args ...any) error {
	return &DeniedError{Message: fmt.Sprintf(format, args...)}
}

// CheckURL tells whether u may become a callback or topic URL, without resolving its name: scheme, strict
// host syntax, no userinfo and no fragment, port, and a literal address through the policy. Errors are
// *DeniedError with one line of text.
func (p *Policy) CheckURL(u *url.URL) error {
	if u.Scheme != "http" && u.Scheme != "https" {
		return denied("scheme %q is not allowed, expected http or https", u.Scheme)
	}
	if len(u.String()) > hub.MaxURLBytes {
		return denied("the URL is longer than %d bytes", hub.MaxURLBytes)
	}
	if u.User != nil {
		return denied("the URL holds a user name or password, which is not allowed")
	}
	if u.Fragment != "" || u.RawFragment != "" {
		return denied("the URL holds a fragment (#...), which is not allowed")
	}
	host := strings.ToLower(u.Hostname())
	port, err := urlPort(u)
	if err != nil {
		return err
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		if addr.Zone() != "" {
			return denied("address %q holds a zone, which is not allowed", host)
		}
		return p.CheckAddr(netip.AddrPortFrom(addr, port), "")
	}
	if err := checkHostSyntax(host); err != nil {
		return err
	}
	if !p.portAllowed(port) {
		return p.portError(port)
	}
	if (host == "localhost" || strings.HasSuffix(host, ".localhost")) && !p.hostAllowed(host) &&
		!p.private(netip.AddrFrom4([4]byte{127, 0, 0, 1})) && !p.private(netip.IPv6Loopback()) {
		return denied("host %q is this machine itself, which egress mode %s does not allow", host, p.mode)
	}
	return nil
}

// CheckAddr tells whether a connection to the concrete address a may be made on behalf of host, the name
// it was resolved from (empty for a literal address). Errors are *DeniedError.
func (p *Policy) CheckAddr(a netip.AddrPort, host string) error {
	ip := a.Addr().Unmap()
	if ip.Zone() != "" {
		return denied("address %s holds a zone, which is not allowed", ip)
	}
	if !p.portAllowed(a.Port()) {
		return p.portError(a.Port())
	}
	// An IPv6 address that leads to an IPv4 one is judged by both.
	inner, wraps := embedded(ip)
	for _, n := range neverAllowed() {
		if n.Contains(ip) || wraps && n.Contains(inner) {
			return denied("address %s is never allowed (part of %s)", ip, n)
		}
	}
	for _, face := range []netip.Addr{ip, inner} {
		if face.IsValid() && p.own(netip.AddrPortFrom(face, a.Port())) {
			return denied("address %s is one this hub listens on", a)
		}
	}
	exempt := host != "" && p.hostAllowed(host)
	if wraps {
		if !exempt && !public(inner) && !p.private(inner) {
			return denied("address %s leads to %s, which egress mode %s does not allow", ip, inner, p.mode)
		}
		if ssrf.IPv6NAT64Prefix.Contains(ip) {
			return nil // translated by the network: the inner address is the target
		}
	}
	if exempt || public(ip) || p.private(ip) {
		return nil
	}
	return denied("address %s is not a public one, which egress mode %s does not allow unless it is listed", ip, p.mode)
}

// private tells whether a non-public address is allowed by mode or list.
func (p *Policy) private(ip netip.Addr) bool {
	if p.mode == ModeDevLoopback && ip.IsLoopback() {
		return true
	}
	for _, c := range p.cidrs {
		if c.Contains(ip) {
			return true
		}
	}
	return false
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

func (p *Policy) portAllowed(port uint16) bool {
	if len(p.ports) > 0 {
		return slices.Contains(p.ports, port)
	}
	return port == 80 || port == 443 || port >= 1024
}

func (p *Policy) portError(port uint16) error {
	if len(p.ports) > 0 {
		return denied("port %d is not allowed, expected one of %s", port, strings.Trim(fmt.Sprint(p.ports), "[]"))
	}
	return denied("port %d is not allowed, expected 80, 443 or 1024 to 65535", port)
}

// own tells whether this process listens on a.
func (p *Policy) own(a netip.AddrPort) bool {
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
		return true // cannot tell: the safe answer
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
