package egress_test

import (
	"fmt"
	"net/netip"
	"net/url"

	"quorumhub/delivery/egress"
)

// The policy judges the concrete address of every connection, whatever the URL said.
func ExamplePolicy_CheckAddr() {
	policy, err := egress.NewPolicy(egress.PolicyOptions{
		Mode:       egress.ModeEdge,
		AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("10.20.0.0/16")},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, addr := range []string{"93.184.216.34:443", "10.20.1.5:8080", "10.99.1.5:8080", "169.254.169.254:80", "93.184.216.34:25"} {
		if err := policy.CheckAddr(netip.MustParseAddrPort(addr), "hooks.example.org"); err != nil {
			fmt.Println("denied: ", err)
		} else {
			fmt.Println("allowed:", addr)
		}
	}
	// Output:
	// allowed: 93.184.216.34:443
	// allowed: 10.20.1.5:8080
	// denied:  address 10.99.1.5 is not a public one; egress mode edge allows it only if allow_cidrs or allow_hosts list it
	// denied:  address 169.254.169.254 is never allowed (part of 169.254.0.0/16)
	// denied:  port 25 is not allowed, expected 80, 443 or 1024 to 65535
}

// CheckURL answers whoever sent a callback, before any name is resolved.
func ExamplePolicy_CheckURL() {
	policy, err := egress.NewPolicy(egress.PolicyOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, raw := range []string{"https://hooks.example.org/cb", "http://127.0.0.1/cb", "http://0x7f.1/cb", "ftp://hooks.example.org/"} {
		u, err := url.Parse(raw)
		if err == nil {
			err = policy.CheckURL(u)
		}
		fmt.Println(err)
	}
	// Output:
	// <nil>
	// address 127.0.0.1 is not a public one; egress mode public allows no others; mode edge allows those that allow_cidrs or allow_hosts list
	// host "0x7f.1" is not an IPv4 address in the form 192.0.2.1 (octal, hexadecimal and short forms are refused)
	// scheme "ftp" is not allowed, expected http or https
}
