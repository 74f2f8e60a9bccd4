package delivery

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// MaxRetryAfter is the longest Retry-After that is honoured, so that a receiver can slow the hub down but
// not park a subscription.
const MaxRetryAfter = time.Hour

// Backoff is an exponential schedule with full jitter: the wait before retry n is uniformly random
// between 0 and min(Max, Initial*2^(n-1)), so that many senders failing together do not come back together.
type Backoff struct {
	Initial time.Duration // ceiling of the first wait; 0: 1 s
	Max     time.Duration // ceiling of all waits; 0: 1 h
	// Random returns a number in [0, n). nil: math/rand/v2. It must be safe for concurrent use.
	Random func(n int64) int64
}

// Delay is the wait after the n-th failed attempt (n from 1). A longer retryAfter wins over the schedule.
func (b Backoff) Delay(n int, retryAfter time.Duration) time.Duration {
	ceiling, most := orDuration(b.Initial, time.Second), orDuration(b.Max, time.Hour)
	for i := 1; i < n && ceiling < most; i++ {
		ceiling *= 2
	}
	ceiling = min(ceiling, most)
	random := b.Random
	if random == nil {
		random = rand.Int64N
	}
	return max(time.Duration(random(int64(ceiling)+1)), min(retryAfter, MaxRetryAfter))
}

// retryAfter reads a Retry-After header in either form (RFC 9110 section 10.2.3); 0 when there is none,
// it cannot be read, or it lies in the past. The result is at most MaxRetryAfter.
func retryAfter(h http.Header, now time.Time) time.Duration {
	return parseRetryAfter(h.Get("Retry-After"), now)
}

func parseRetryAfter(v string, now time.Time) time.Duration {
	v = strings.TrimSpace(v)
	if v == "" {
		return 0
	}
	if strings.Trim(v, "0123456789") == "" {
		n, err := strconv.ParseUint(v, 10, 32)
		if err != nil || time.Duration(n)*time.Second > MaxRetryAfter {
			return MaxRetryAfter // digits only: too many of them
		}
		return time.Duration(n) * time.Second
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), MaxRetryAfter)
}
