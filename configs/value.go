package configs

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Bytes is a size in bytes. Its text form is a plain count or one with a unit: 1048576, 512KiB, 1MB.
type Bytes int64

// byteUnits goes from the largest to the smallest, so that the text form takes the largest that fits.
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

// ParseBytes reads a size. Units are powers of 1024 with an i (KiB, MiB, GiB, TiB) and of 1000 without.
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

// String gives the shortest exact form in binary units: 1MiB, 1536KiB, 1000.
func (b Bytes) String() string {
	for _, u := range byteUnits() {
		if u.size >= 1<<10 && strings.HasSuffix(u.suffix, "iB") && b != 0 && int64(b)%u.size == 0 {
			return strconv.FormatInt(int64(b)/u.size, 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

// MarshalText makes Bytes appear as in the configuration file.
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

// ParseDuration reads Go's duration syntax with a leading count of days as an extension: 90s, 1h30m, 10d, 1d12h.
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

// FormatDuration gives the shortest form that ParseDuration reads back: 10d, 1h30m, 250ms.
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

// Rate is how many requests are taken in how much time. Its text form is count/time: 600/1m; 0 is no limit.
type Rate struct {
	Requests int
	Per      time.Duration
}

// ParseRate reads a rate.
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

// maxRateRequests keeps the time between two requests above a nanosecond.
const maxRateRequests = 1_000_000_000

// String is what ParseRate reads.
func (r Rate) String() string {
	if r == (Rate{}) {
		return "0"
	}
	return strconv.Itoa(r.Requests) + "/" + FormatDuration(r.Per)
}

// parsePrefix takes a single address for the network that holds just that address.
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

// parsePeer accepts id=host:port. The host is a name or an address that the other nodes can dial.
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
		return Peer{}, fmt.Errorf("%q is not an address that others can dial", s)
	}
	return Peer{ID: id, Addr: addr}, nil
}

// parseKeyHeader accepts the name of a header that may be kept with a message.
func parseKeyHeader(s string) (string, error) {
	name := http.CanonicalHeaderKey(s)
	if s == "" || len(s) > 64 || strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
		return "", fmt.Errorf("%q is not the name of a header", s)
	}
	switch name {
	case "Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie":
		return "", fmt.Errorf("%q holds credentials", s)
	}
	return name, nil
}

// parseHostPattern accepts a host name, or *. and a name for all that lie below it.
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

// parseBaseURL accepts what a topic name or an endpoint can be appended to, and drops the trailing slash.
func parseBaseURL(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil {
		return "", fmt.Errorf("%q is not a URL", s)
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "", u.Opaque != "":
		err = errors.New("is not an absolute http(s) URL")
	case u.User != nil:
		err = errors.New("holds a user name")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.Contains(s, "#"):
		err = errors.New("holds a query or a fragment")
	}
	if err != nil {
		return "", fmt.Errorf("%q %w", s, err)
	}
	return strings.TrimRight(s, "/"), nil
}
