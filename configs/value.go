package configs

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"quorumhub/configs/quantity"
)

// Bytes is a size in bytes. Its text form is a number, optionally with a unit: 1048576, 512KiB, 1MB.
type Bytes int64

// ParseBytes parses a size. Units with an i (KiB, MiB, GiB, TiB) are powers of 1024, others powers of 1000.
func ParseBytes(s string) (Bytes, error) {
	n, err := quantity.ParseBytes(s)
	return Bytes(n), err
}

// String returns the shortest exact form in binary units: 1MiB, 1536KiB, 1000.
func (b Bytes) String() string { return quantity.FormatBytes(int64(b)) }

// MarshalText returns the size as in the configuration file.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// UnmarshalText is ParseBytes.
func (b *Bytes) UnmarshalText(text []byte) error {
	v, err := ParseBytes(string(text))
	if err != nil {
		return err
	}
	*b = v
	return nil
}

const day = 24 * time.Hour

// ParseDuration parses Go's duration syntax, extended by a leading number of days: 90s, 1h30m, 10d, 1d12h.
func ParseDuration(s string) (time.Duration, error) { return quantity.ParseDuration(s) }

// FormatDuration returns the shortest form that ParseDuration accepts: 10d, 1h30m, 250ms.
func FormatDuration(d time.Duration) string { return quantity.FormatDuration(d) }

// Rate is a number of requests per period. Its text form is requests/time, such as 600/1m; 0 is no limit.
type Rate struct {
	Requests int
	Per      time.Duration
}

// ParseRate parses a rate.
func ParseRate(s string) (Rate, error) {
	n, per, err := quantity.ParseRate(s)
	return Rate{n, per}, err
}

// String returns the form that ParseRate accepts.
func (r Rate) String() string {
	if r == (Rate{}) {
		return "0"
	}
	return strconv.Itoa(r.Requests) + "/" + FormatDuration(r.Per)
}

// parsePrefix parses a network; a single address is the network of just that address.
func parsePrefix(s string) (netip.Prefix, error) {
	if ip, err := netip.ParseAddr(s); err == nil && ip.Zone() == "" {
		return netip.PrefixFrom(ip, ip.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is not a network", s)
	}
	return p.Masked(), nil
}

// parsePeer parses id=host:port. The host is a name or an address that other nodes can dial.
func parsePeer(s string) (Peer, error) {
	id, addr, found := strings.Cut(s, "=")
	host, port, err := net.SplitHostPort(addr)
	if !found || id == "" || !isNodeID(id) || err != nil || host == "" || len(addr) > 260 {
		return Peer{}, fmt.Errorf("%q is not a peer", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return Peer{}, fmt.Errorf("%q has no port", s)
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
		return Peer{}, fmt.Errorf("%q is not an address that other nodes can dial", s)
	}
	return Peer{ID: id, Addr: addr}, nil
}

// parseKeyHeader parses the name of a header that may be kept with a message.
func parseKeyHeader(s string) (string, error) {
	name := http.CanonicalHeaderKey(s)
	if s == "" || len(s) > 64 || strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
		return "", fmt.Errorf("%q is not the name of a header", s)
	}
	switch name {
	case "Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie":
		return "", fmt.Errorf("%q carries credentials", s)
	}
	return name, nil
}

// parseHostPattern parses a host name, or *. followed by a name for all names below it.
func parseHostPattern(s string) (string, error) {
	s = strings.ToLower(s)
	name := strings.TrimPrefix(s, "*.")
	if name == "" || len(name) > 253 {
		return "", fmt.Errorf("%q is not a host name", s)
	}
	for _, label := range strings.Split(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return "", fmt.Errorf("%q is not a host name", s)
		}
		for _, r := range label {
			if r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') {
				return "", fmt.Errorf("%q is not a host name", s)
			}
		}
	}
	return s, nil
}

func parseSignatureHost(s string) (SignatureHost, error) {
	host, method, _ := strings.Cut(s, "=")
	h := SignatureHost{Host: strings.TrimSpace(host), Method: strings.ToLower(strings.TrimSpace(method))}
	if !slices.Contains([]string{"sha1", "sha256", "sha384", "sha512"}, h.Method) {
		return h, fmt.Errorf("%q is not a method", h.Method)
	}
	if a, err := netip.ParseAddr(strings.Trim(h.Host, "[]")); err == nil {
		h.Host = a.String()
		return h, nil
	}
	var err error
	h.Host, err = parseHostPattern(h.Host)
	return h, err
}

// parseBaseURL parses a URL to which a topic name or path can be appended, and removes the trailing slash.
func parseBaseURL(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil {
		return "", fmt.Errorf("%q is not a URL", s)
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "", u.Opaque != "":
		err = errors.New("is not an absolute http(s) URL")
	case u.User != nil:
		err = errors.New("contains a user name")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Contains(s, "#"):
		err = errors.New("contains a query or a fragment")
	}
	if err != nil {
		return "", fmt.Errorf("%q %w", s, err)
	}
	return strings.TrimRight(s, "/"), nil
}
