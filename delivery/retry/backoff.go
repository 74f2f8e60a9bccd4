package retry

import (
	"cmp"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// MaxAfter is the longest Retry-After that is honored: a receiver can slow the hub down but not park a subscription.
const MaxAfter = time.Hour

// Backoff computes the wait between attempts. Part of it is random, so that senders that fail together do not return
// together. Without a Schedule, waits are exponential with full jitter: the wait before retry n is uniformly random
// between 0 and min(Max, Initial*2^(n-1)).
type Backoff struct {
	Initial time.Duration // ceiling of the first wait; 0: 1 s
	Max     time.Duration // ceiling of all waits; 0: 1 h, or no ceiling with a Schedule
	// Schedule lists the waits, replacing Initial; the last one repeats. Each is varied by up to a fifth either way,
	// but never exceeds Max.
	Schedule []time.Duration
	// Random returns a number in [0, n); nil: math/rand/v2. It must be safe for concurrent use.
	Random func(n int64) int64
}

// Delay returns the wait after the n-th failed attempt, counting from 1. A longer retryAfter, capped at MaxAfter,
// prevails.
func (b Backoff) Delay(n int, retryAfter time.Duration) time.Duration {
	return max(b.wait(n), min(retryAfter, MaxAfter))
}

func (b Backoff) wait(n int) time.Duration {
	if last := len(b.Schedule) - 1; last >= 0 {
		step := b.Schedule[min(max(n-1, 0), last)]
		wait := step - step/5 + b.Jitter(2*(step/5))
		if b.Max > 0 {
			wait = min(wait, b.Max)
		}
		return wait
	}
	ceiling, most := cmp.Or(b.Initial, time.Second), cmp.Or(b.Max, time.Hour)
	for i := 1; i < n && ceiling < most; i++ {
		ceiling *= 2
	}
	return b.Jitter(min(ceiling, most))
}

// Jitter returns a random duration from 0 to most, inclusive.
func (b Backoff) Jitter(most time.Duration) time.Duration {
	if b.Random == nil {
		b.Random = rand.Int64N
	}
	return time.Duration(b.Random(int64(most) + 1))
}

// longest returns the longest possible wait, without the variation of a Schedule.
func (b Backoff) longest() time.Duration {
	if len(b.Schedule) == 0 {
		return cmp.Or(b.Max, time.Hour)
	}
	longest := slices.Max(b.Schedule)
	if b.Max > 0 {
		longest = min(longest, b.Max)
	}
	return longest
}

// After parses a Retry-After header in either form (RFC 9110 section 10.2.3). It returns 0 if there is none, or if it
// is malformed or past, and at most MaxAfter.
func After(h http.Header, now time.Time) time.Duration {
	return ParseAfter(h.Get("Retry-After"), now)
}

func ParseAfter(v string, now time.Time) time.Duration {
	v = strings.TrimSpace(v)
	if v == "" {
		return 0
	}
	if strings.Trim(v, "0123456789") == "" {
		n, err := strconv.ParseUint(v, 10, 32)
		if err != nil || time.Duration(n)*time.Second > MaxAfter {
			return MaxAfter // digits only: out of range
		}
		return time.Duration(n) * time.Second
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), MaxAfter)
}
