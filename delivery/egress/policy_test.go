package egress_test

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"quorumhub/delivery/egress"
	"quorumhub/hub"
	"quorumhub/test/fake"
)

type addressCase struct {
	addr                    string
	public, dev, edge, open bool // whether each policy of TestEgressAddresses allows it
}

func addressCases() []addressCase {
	return []addressCase{
		{"93.184.216.34", true, true, true, true},
		{"8.8.8.8", true, true, true, true},
		{"2606:4700::1111", true, true, true, true},
		{"::ffff:93.184.216.34", true, true, true, true},
		{"64:ff9b::93.184.216.34", true, true, true, true}, // NAT64 to a public address

		{"10.1.2.3", false, false, true, true},
		{"::ffff:10.1.2.3", false, false, true, true},
		{"64:ff9b::10.1.2.3", false, false, true, true},
		{"64:ff9b:1::10.1.2.3", false, false, true, true},
		{"64:ff9b:1::192.168.0.1", false, false, false, true},
		{"2002:0a01:0203::1", false, false, true, true},            // 6to4 of 10.1.2.3
		{"2002:c0a8:0101::1", false, false, false, true},           // 6to4 of 192.168.1.1
		{"2002:5db8:d822::1", false, false, true, true},            // 6to4 of a public address: still a tunnel
		{"2001:0:5db8:d822::f5fe:fdfc", false, false, true, true},  // Teredo, client 10.1.2.3
		{"2001:0:5db8:d822::3f57:fefe", false, false, false, true}, // Teredo, client 192.168.1.1
		{"::10.1.2.3", false, false, false, true},                  // IPv4-compatible
		{"::ffff:0:10.1.2.3", false, false, false, true},           // IPv4-translated
		{"2606:4700::5efe:c0a8:101", false, false, false, true},    // ISATAP, 192.168.1.1
		{"2606:4700::5efe:808:808", true, true, true, true},        // ISATAP, 8.8.8.8
		{"172.16.0.1", false, false, false, true},
		{"192.168.1.1", false, false, false, true},
		{"100.64.0.1", false, false, false, true},
		{"198.18.0.1", false, false, false, true},
		{"192.0.2.1", false, false, false, true},
		{"240.0.0.1", false, false, false, true},
		{"fd12::1", false, false, true, true},
		{"fc00::1", false, false, false, true},
		{"fec0::1", false, false, false, true},
		{"5f00::1", false, false, false, true},
		{"3fff::1", false, false, false, true},
		{"2001:db8::1", false, false, false, true},

		{"127.0.0.1", false, true, true, false},
		{"127.9.9.9", false, true, false, false},
		{"::1", false, true, false, false},
		{"::ffff:127.0.0.1", false, true, true, false},
		{"64:ff9b::127.0.0.1", false, true, true, false},
		{"64:ff9b:1::127.0.0.1", false, false, true, false},
		{"2002:7f00:1::1", false, false, true, false},              // 6to4 of 127.0.0.1
		{"::127.0.0.1", false, false, false, false},                // IPv4-compatible
		{"::ffff:0:127.0.0.1", false, false, false, false},         // IPv4-translated
		{"2001:0:5db8:d822::80ff:fffe", false, false, true, false}, // Teredo, client 127.0.0.1
		{"2606:4700::5efe:7f00:1", false, true, true, false},       // ISATAP, 127.0.0.1

		{"0.0.0.0", false, false, false, false},
		{"0.1.2.3", false, false, false, false},
		{"::", false, false, false, false},
		{"::ffff:0.0.0.0", false, false, false, false},
		{"169.254.169.254", false, false, false, false},
		{"169.254.0.1", false, false, false, false},
		{"::ffff:169.254.169.254", false, false, false, false},
		{"64:ff9b::169.254.169.254", false, false, false, false},
		{"64:ff9b:1::169.254.169.254", false, false, false, false},
		{"2002:a9fe:a9fe::1", false, false, false, false},
		{"2001:0:5db8:d822::5601:5601", false, false, false, false}, // Teredo, client 169.254.169.254
		{"::169.254.169.254", false, false, false, false},
		{"100.100.100.200", false, false, false, false},
		{"168.63.129.16", false, false, false, false},
		{"::ffff:168.63.129.16", false, false, false, false},
		{"192.0.0.192", false, false, false, false},
		{"224.0.0.1", false, false, false, false},
		{"239.1.2.3", false, false, false, false},
		{"255.255.255.255", false, false, false, false},
		{"fe80::1", false, false, false, false},
		{"fe80::1%eth0", false, false, false, false},
		{"febf::1", false, false, false, false},
		{"fd00:ec2::254", false, false, false, false},
		{"fd00:ec2::23", false, false, false, false},
		{"fd20:ce::254", false, false, false, false},
		{"fd20:ce::253", false, false, true, true},
		{"fd00:42::42", false, false, false, false},
		{"fd00:a9fe:a9fe::1", false, false, false, false},
		{"fd00:c1::a9fe:a9fe", false, false, false, false},
		{"64:ff9b::168.63.129.16", false, false, false, false},
		{"64:ff9b:1::100.100.100.200", false, false, false, false},
		{"64:ff9b:1:a9fe:a9:fe00::", false, false, false, false},   // 169.254.169.254 after a prefix of 48 bits
		{"64:ff9b:1:a9:fe:a9fe::", false, false, false, false},     // after one of 56
		{"64:ff9b:1:0:a9:fea9:fe00:0", false, false, false, false}, // after one of 64
		{"::ffff:0:169.254.169.254", false, false, false, false},
		{"2606:4700::5efe:a9fe:a9fe", false, false, false, false},
		{"2606:4700::200:5efe:a9fe:a9fe", false, false, false, false},
		{"ff02::1", false, false, false, false},
	}
}

// TestEgressAddresses is the table of what each mode allows. Mode edge lists 10/8, 127.0.0.1, fd00::/8, the local
// NAT64 prefix, 6to4, and, to show that no list opens them, the addresses that are never allowed.
func TestEgressAddresses(t *testing.T) {
	public := fake.Policy(t, egress.PolicyOptions{})
	dev := fake.Policy(t, egress.PolicyOptions{Mode: egress.ModeDevLoopback})
	edge := fake.Policy(t, egress.PolicyOptions{Mode: egress.ModeEdge, AllowCIDRs: fake.Prefixes(t,
		"10.0.0.0/8", "127.0.0.1/32", "fd00::/8", "64:ff9b:1::/48", "2002::/16", "2001::/32")})
	open := fake.Policy(t, egress.PolicyOptions{Mode: egress.ModeEdge, AllowCIDRs: fake.Prefixes(t, "0.0.0.0/0", "::/0"),
		AllowHosts: []string{"trusted.example"}})

	for _, c := range addressCases() {
		a := netip.AddrPortFrom(netip.MustParseAddr(c.addr), 8080)
		for _, m := range []struct {
			name string
			p    *egress.Policy
			host string
			want bool
		}{
			{"public", public, "", c.public}, {"dev-loopback", dev, "", c.dev}, {"edge", edge, "", c.edge},
			{"open", open, "", c.open}, {"listed host", open, "trusted.example", c.open},
		} {
			if err := m.p.CheckAddr(a, m.host); (err == nil) != m.want {
				t.Errorf("%s, mode %s: allowed = %v (%v), want %v", c.addr, m.name, err == nil, err, m.want)
			}
		}
	}
}

func TestEgressListedHosts(t *testing.T) {
	p := fake.Policy(t, egress.PolicyOptions{Mode: egress.ModeEdge, AllowHosts: []string{"Hooks.corp", "*.plant.example"}})
	private := netip.MustParseAddrPort("192.168.7.7:8080")
	for host, want := range map[string]bool{
		"hooks.corp": true, "HOOKS.corp": true, "x.hooks.corp": false, "evilhooks.corp": false,
		"a.plant.example": true, "a.b.plant.example": true, "plant.example": false, "xplant.example": false, "": false,
	} {
		if err := p.CheckAddr(private, host); (err == nil) != want {
			t.Errorf("%q at %s: allowed = %v, want %v", host, private, err == nil, want)
		}
	}
}

// TestEgressNamesOpenNoLoopback: whoever controls a listed name, or its zone, must not reach what listens on this
// machine for this machine only. Neither does a wide network open it: loopback is listed by itself.
func TestEgressNamesOpenNoLoopback(t *testing.T) {
	hosts := []string{"hooks.corp", "*.plant.example", "localhost"}
	wide := []string{"0.0.0.0/0", "126.0.0.0/7", "::/0", "::/127", "64:ff9b:1::/48"}
	named := fake.Policy(t, egress.PolicyOptions{Mode: egress.ModeEdge, AllowHosts: hosts, AllowCIDRs: fake.Prefixes(t, wide...)})
	listed := fake.Policy(t, egress.PolicyOptions{Mode: egress.ModeEdge, AllowHosts: hosts,
		AllowCIDRs: fake.Prefixes(t, append(wide, "127.0.0.0/16", "::1/128")...)})
	for _, addr := range []string{"127.0.0.1", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::7f00:1"} {
		a := netip.AddrPortFrom(netip.MustParseAddr(addr), 9000)
		for _, host := range []string{"hooks.corp", "HOOKS.corp", "a.plant.example", "localhost", ""} {
			if err := named.CheckAddr(a, host); err == nil || !strings.Contains(err.Error(), "allow_cidrs lists") {
				t.Errorf("%s at %s, which nothing lists: %v, want a message that says what to list", host, addr, err)
			}
			if err := listed.CheckAddr(a, host); err != nil {
				t.Errorf("%s at %s, which is listed: %v", host, addr, err)
			}
		}
	}
	if err := listed.CheckAddr(netip.MustParseAddrPort("127.1.0.1:9000"), "hooks.corp"); err == nil {
		t.Error("127.1.0.1 is allowed, but only 127.0.0.0/16 is listed")
	}
}

func TestEgressPorts(t *testing.T) {
	p := fake.Policy(t, egress.PolicyOptions{})
	for port, want := range map[uint16]bool{0: false, 22: false, 25: false, 80: true, 443: true, 1023: false, 1024: true, 65535: true} {
		if err := p.CheckAddr(netip.AddrPortFrom(netip.MustParseAddr("93.184.216.34"), port), ""); (err == nil) != want {
			t.Errorf("port %d: %v", port, err)
		}
	}
}

func TestEgressOwnListeners(t *testing.T) {
	p := fake.Policy(t, egress.PolicyOptions{Mode: egress.ModeDevLoopback, DenyAddrs: []netip.AddrPort{
		netip.MustParseAddrPort("127.0.0.1:8080"), netip.MustParseAddrPort("[::]:9090")}})
	for addr, want := range map[string]bool{
		"127.0.0.1:8080": false, "[::ffff:127.0.0.1]:8080": false, "127.0.0.1:8081": true, "127.0.0.2:8080": true,
		"127.0.0.1:9090": false, "127.0.0.2:9090": false, "[::1]:9090": false, "[64:ff9b::7f00:1]:8080": false,
		"93.184.216.34:9090": true,
	} {
		if err := p.CheckAddr(netip.MustParseAddrPort(addr), ""); (err == nil) != want {
			t.Errorf("%s: allowed = %v (%v), want %v", addr, err == nil, err, want)
		}
	}
}

func TestEgressCheckURL(t *testing.T) {
	public := fake.Policy(t, egress.PolicyOptions{})
	dev := fake.Policy(t, egress.PolicyOptions{Mode: egress.ModeDevLoopback})
	named := fake.Policy(t, egress.PolicyOptions{Mode: egress.ModeEdge, AllowHosts: []string{"localhost"}})
	edge := fake.Policy(t, egress.PolicyOptions{Mode: egress.ModeEdge, AllowCIDRs: fake.Prefixes(t, "127.0.0.2/32", "::1/128")})
	const ok = ""
	for _, c := range []struct {
		p    *egress.Policy
		url  string
		want string // part of the message; empty: allowed
	}{
		{public, "https://example.com/cb?x=1", ok},
		{public, "http://example.com:8080/", ok},
		{public, "http://sub_domain.example.com/", ok},
		{public, "http://93.184.216.34/", ok},
		{public, "http://[2606:4700::1111]/", ok},
		{public, "http://xn--bcher-kva.example/", ok},
		{public, "http://1password.com/", ok},
		{public, "http://3.example.com/", ok},

		{public, "ftp://example.com/", "scheme"},
		{public, "http:///path", "no host"},
		{public, "http://u:p@example.com/", "user name"},
		{public, "http://example.com/#frag", "fragment"},
		{public, "http://example.com:22/", "port 22"},
		{public, "http://example.com:0/", "port"},
		{public, "http://example.com:99999/", "port"},
		{public, "http://example.com./", "dot"},
		{public, "http://a..example.com/", "empty label"},
		{public, "http://b\u00fccher.example/", "xn--"},
		{public, "http://exa$mple.com/", "not allowed in a name"},
		{public, "http://localhost/", "is this machine"},
		{public, "http://a.LOCALHOST/", "is this machine"},
		{public, "http://127.0.0.1/", "not a public"},
		{public, "http://10.0.0.1/", "not a public"},
		{public, "http://169.254.169.254/latest", "never allowed"},
		{public, "http://[::1]/", "not a public"},
		{public, "http://[::ffff:10.0.0.1]/", "not a public"},
		{public, "http://[fe80::1%25eth0]/", "zone"},
		{public, "http://0177.0.0.1/", "IPv4 address"},
		{public, "http://127.1/", "IPv4 address"},
		{public, "http://2130706433/", "IPv4 address"},
		{public, "http://0x7f000001/", "IPv4 address"},
		{public, "http://0x7f.0.0.0x1/", "IPv4 address"},
		{public, "http://127.0.0.0x/", "IPv4 address"},
		{public, "http://300.1.1.1/", "IPv4 address"},
		{public, "http://1.2.3.4.5/", "IPv4 address"},
		{public, "http://example.com/" + strings.Repeat("a", hub.MaxURLBytes), "longer"},

		{dev, "http://127.0.0.1:9000/", ok},
		{dev, "http://localhost:9000/", ok},
		{dev, "http://[::1]:9000/", ok},
		{dev, "http://10.0.0.1:9000/", "not a public"},
		{dev, "http://2130706433:9000/", "IPv4 address"},
		{named, "http://localhost:9000/", "is this machine"},
		{named, "http://127.0.0.1:9000/", "is this machine"},
		{edge, "http://localhost:9000/", ok},
		{edge, "http://127.0.0.2:9000/", ok},
		{edge, "http://127.0.0.1:9000/", "is this machine"},
	} {
		u, err := url.Parse(c.url)
		if err != nil {
			t.Errorf("%s: %v", c.url, err)
			continue
		}
		err = c.p.CheckURL(u)
		switch {
		case c.want == ok && err != nil:
			t.Errorf("%s: refused: %v", c.url, err)
		case c.want != ok && err == nil:
			t.Errorf("%s: allowed, want a message with %q", c.url, c.want)
		case c.want != ok && !strings.Contains(err.Error(), c.want):
			t.Errorf("%s: message %q, want one with %q", c.url, err, c.want)
		case err != nil && strings.Contains(err.Error(), "\n"):
			t.Errorf("%s: message of more than one line: %q", c.url, err)
		}
	}
}

func TestEgressPolicyOptions(t *testing.T) {
	for _, c := range []struct {
		o    egress.PolicyOptions
		want string
	}{
		{egress.PolicyOptions{Mode: "lan"}, "expected public, edge or dev-loopback"},
		{egress.PolicyOptions{AllowCIDRs: fake.Prefixes(t, "10.0.0.0/8")}, "use mode edge"},
		{egress.PolicyOptions{AllowHosts: []string{"a.example"}}, "use mode edge"},
		{egress.PolicyOptions{Mode: egress.ModeEdge, AllowCIDRs: fake.Prefixes(t, "169.254.169.254/32")}, "never allowed"},
		{egress.PolicyOptions{Mode: egress.ModeEdge, AllowHosts: []string{"10.0.0.1"}}, "allow_cidrs"},
		{egress.PolicyOptions{Mode: egress.ModeEdge, AllowHosts: []string{"*"}}, "no host"},
		{egress.PolicyOptions{Mode: egress.ModeEdge, AllowHosts: []string{"a b"}}, "not allowed in a name"},
	} {
		if _, err := egress.NewPolicy(c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %v, want one with %q", c.o, err, c.want)
		}
	}
}
