// Package quantity reads and writes durations, sizes and rates as people write them in files: 10d, 1MiB, 600/1m. It imports nothing
// of the project.
package quantity

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

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

// ParseBytes parses a size: a number of bytes, optionally with a unit. Units with an i (KiB, MiB, GiB, TiB) are powers of 1024, others
// powers of 1000.
func ParseBytes(s string) (int64, error) {
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
	return n * size, nil
}

// FormatBytes returns the shortest exact form in binary units: 1MiB, 1536KiB, 1000.
func FormatBytes(n int64) string {
	for _, u := range byteUnits() {
		if u.size >= 1<<10 && strings.HasSuffix(u.suffix, "iB") && n != 0 && n%u.size == 0 {
			return strconv.FormatInt(n/u.size, 10) + u.suffix
		}
	}
	return strconv.FormatInt(n, 10)
}

// maxRateRequests keeps the time between two requests above one nanosecond.
const maxRateRequests = 1_000_000_000

// ParseRate parses a number of requests and the time they may come in, of whole seconds up to a day: 600/1m. 0 is no limit.
func ParseRate(s string) (requests int, per time.Duration, _ error) {
	if s == "0" {
		return 0, 0, nil
	}
	count, period, _ := strings.Cut(s, "/")
	n, err := strconv.Atoi(count)
	if err != nil || n < 1 || n > maxRateRequests {
		return 0, 0, fmt.Errorf("%q is not a rate", s)
	}
	d, err := ParseDuration(period)
	if err != nil || d < time.Second || d > day || d%time.Second != 0 {
		return 0, 0, fmt.Errorf("%q is not a rate", s)
	}
	return n, d, nil
}
