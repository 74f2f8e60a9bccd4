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

// MaxAfter is the longest Retry-After that is honoured, so that a receiver can slow the hub down but
// not park a subscription.
const MaxAfter = time.Hour

// Backoff says how long to wait between attempts, with a random part, so that many senders failing together do not come
// back together. Without a Schedule the waits are exponential with full jitter: the wait before retry n is uniformly
// random between 0 and min(Max, Initial*2^(n-1)).
type Backoff struct {
	Initial time.Duration // ceiling of the first wait; 0: 1 s
	Max     time.Duration // ceiling of all waits; 0: 1 h, and none for those of a Schedule
	// Schedule is the waits one after the other, in place of Initial; the last one repeats. Each is up to a fifth
	// longer or shorter, but not longer than Max.
	Schedule []time.Duration
	// Random returns a number in [0, n). nil: math/rand/v2. It must be safe for concurrent use.
	Random func(n int64) int64
}

// Delay is the wait after the n-th failed attempt (n from 1). A longer retryAfter wins over the schedule.
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

// Jitter is from 0 to most, both included.
func (b Backoff) Jitter(most time.Duration) time.Duration {
	if b.Random == nil {
		return time.Duration(rand.Int64N(int64(most) + 1))
	}
	return time.Duration(b.Random(int64(most) + 1))
}

// longest is the longest wait there is, but for the random part of a schedule.
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

// After reads a Retry-After header in either form (RFC 9110 section 10.2.3); 0 when there is none,
// it cannot be read, or it lies in the past. The result is at most MaxRetryAfter.
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
			return MaxAfter // digits only: too many of them
		}
		return time.Duration(n) * time.Second
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), MaxAfter)
}
