package hub

import (
	"fmt"
	"strings"
	"time"
)

// LeasePolicy bounds the lease of a subscription. WebSub forbids perpetual leases (section 5.3.1) and leaves the
// length to the hub.
type LeasePolicy struct {
	Min, Default, Max time.Duration
}

// Validate checks that 1 s <= Min <= Default <= Max.
func (p LeasePolicy) Validate() error {
	if p.Min < time.Second || p.Default < p.Min || p.Max < p.Default {
		return fmt.Errorf("lease: expected 1s <= min <= default <= max, got min %v, default %v, max %v", p.Min, p.Default, p.Max)
	}
	return nil
}

// Grant returns the lease in seconds for hub.lease_seconds as sent. A parameter that is empty or 0 is no wish, like
// none at all, and many notifiers send it (PubSubHubbub 0.3): the default. A lease outside the bounds is clamped to
// them, however large (WebSub 5.1 lets the hub decide). Anything but a decimal integer is an *Error.
func (p LeasePolicy) Grant(sent string) (int64, error) {
	if strings.Trim(sent, "0123456789") != "" {
		return 0, ParamErrorf("hub.lease_seconds", "%s is not a positive decimal integer; expected seconds such as 864000, or nothing for the hub's default", quote(sent))
	}
	digits := strings.TrimLeft(sent, "0")
	if digits == "" {
		return int64(p.Default / time.Second), nil
	}
	lo, hi := int64(p.Min/time.Second), int64(p.Max/time.Second)
	if len(digits) > 18 { // exceeds every bound and may overflow int64
		return hi, nil
	}
	var n int64
	for _, c := range digits {
		n = n*10 + int64(c-'0')
	}
	return min(max(n, lo), hi), nil
}
