package egress

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

func urlPort(u *url.URL) (uint16, error) {
	switch s := u.Port(); {
	case s != "":
		n, err := strconv.ParseUint(s, 10, 16)
		if err != nil || n == 0 {
			return 0, denied("port %q is not a number from 1 to 65535", s)
		}
		return uint16(n), nil
	case u.Scheme == "https":
		return 443, nil
	}
	return 80, nil
}

// checkHostSyntax accepts only what is unambiguously a name: letters, digits, hyphens and underscores in labels. It
// rejects whatever some resolver takes for a number (octal, hexadecimal, a 32-bit integer, short forms), because
// checks and connections would read it differently.
func checkHostSyntax(host string) error {
	if host == "" {
		return denied("the URL has no host")
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	if strings.HasSuffix(host, ".") {
		return denied("host %q ends in a dot, which is not allowed", host)
	}
	if len(host) > 253 {
		return denied("the host name is longer than 253 bytes")
	}
	labels := strings.Split(host, ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 {
			return denied("host %q has an empty label or one longer than 63 bytes", host)
		}
		for i := range len(l) {
			c := l[i]
			if c >= 0x80 {
				return denied("host %q is not ASCII: write it in its xn-- form", host)
			}
			if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
				return denied("host %q contains %q, which is not allowed in a name", host, c)
			}
		}
	}
	if last := labels[len(labels)-1]; numeric(last) {
		return denied("host %q is not an IPv4 address in the form 192.0.2.1 (octal, hexadecimal and short forms are refused)", host)
	}
	return nil
}

// numeric follows the "ends in a number" rule of the WHATWG URL standard.
func numeric(label string) bool {
	if hex, ok := strings.CutPrefix(strings.ToLower(label), "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}

// HostOf returns the host and port of a URL in lower case; empty if the URL cannot be parsed.
func HostOf(callback string) string {
	u, err := url.Parse(callback)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Host)
}
