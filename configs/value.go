package configs

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Bytes is a size in bytes. Its text form is a number, optionally with a unit: 1048576, 512KiB, 1MB.
type Bytes int64

// byteUnits returns the units from largest to smallest, so that the text form uses the largest that fits.
func byteUnits() []struct {
	suffix string
	size   int64
} {
	return []struct {
		suffix string
		size   int64
	}{
		{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
		{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}, {"KB", 1e3}, {"B", 1},
	}
}

// ParseBytes parses a size. Units with an i (KiB, MiB, GiB, TiB) are powers of 1024, others powers of 1000.
func ParseBytes(s string) (Bytes, error) {
	number, size := s, int64(1)
	for _, u := range byteUnits() {
		if rest, ok := strings.CutSuffix(s, u.suffix); ok {
			number, size = strings.TrimRight(rest, " "), u.size
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%q is not a size", s)
	}
	if n > math.MaxInt64/size {
		return 0, fmt.Errorf("size %q is too large", s)
	}
	return Bytes(n * size), nil
}

// String returns the shortest exact form in binary units: 1MiB, 1536KiB, 1000.
func (b Bytes) String() string {
	for _, u := range byteUnits() {
		if u.size >= 1<<10 && strings.HasSuffix(u.suffix, "iB") && b != 0 && int64(b)%u.size == 0 {
			return strconv.FormatInt(int64(b)/u.size, 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

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
func ParseDuration(s string) (time.Duration, error) {
	days, rest, found := strings.Cut(s, "d")
	if !found {
		d, err := time.ParseDuration(s)
		if err != nil {
			return 0, fmt.Errorf("%q is not a duration", s)
		}
		return d, nil
	}
	n, err := strconv.ParseInt(days, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%q is not a duration", s)
	}
	if n > int64(math.MaxInt64/day) {
		return 0, fmt.Errorf("duration %q is too long", s)
	}
	d := time.Duration(n) * day
	if rest == "" {
		return d, nil
	}
	more, err := time.ParseDuration(rest)
	if err != nil || more < 0 || strings.HasPrefix(rest, "+") {
		return 0, fmt.Errorf("%q is not a duration", s)
	}
	if more > math.MaxInt64-d {
		return 0, fmt.Errorf("duration %q is too long", s)
	}
	return d + more, nil
}

// FormatDuration returns the shortest form that ParseDuration accepts: 10d, 1h30m, 250ms.
func FormatDuration(d time.Duration) string {
	switch {
	case d > 0 && d%day == 0:
		return strconv.FormatInt(int64(d/day), 10) + "d"
	case d != 0 && d%time.Hour == 0:
		return strings.TrimSuffix(d.String(), "0m0s")
	case d != 0 && d%time.Minute == 0:
		return strings.TrimSuffix(d.String(), "0s")
	default:
		return d.String()
	}
}

// Rate is a number of requests per period. Its text form is requests/time, such as 600/1m; 0 is no limit.
type Rate struct {
	Requests int
	Per      time.Duration
}

// ParseRate parses a rate.
func ParseRate(s string) (Rate, error) {
	if s == "0" {
		return Rate{}, nil
	}
	count, per, _ := strings.Cut(s, "/")
	n, err := strconv.Atoi(count)
	if err != nil || n < 1 || n > maxRateRequests {
		return Rate{}, fmt.Errorf("%q is not a rate", s)
	}
	d, err := ParseDuration(per)
	if err != nil || d < time.Second || d > day || d%time.Second != 0 {
		return Rate{}, fmt.Errorf("%q is not a rate", s)
	}
	return Rate{n, d}, nil
}

// maxRateRequests keeps the time between two requests above one nanosecond.
const maxRateRequests = 1_000_000_000

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
