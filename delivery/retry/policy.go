package retry

import (
	"cmp"
	"time"

	"quorumhub/hub"
)

// Policy decides how often and how long a message is attempted. A message given up becomes a dead letter; the
// subscription stays until its lease ends (WebSub section 7).
type Policy struct {
	Backoff Backoff
	// OverloadWait is the least wait after an overload (429, or no answer in time), from the second in a row: one
	// slow answer of a healthy endpoint costs no more than any other failure. It is capped at the longest wait of
	// Backoff; up to a fifth is added within that cap, so that senders do not return together. It does not apply if
	// the endpoint sends Retry-After. 0: none.
	OverloadWait time.Duration
	// MaxAge bounds the time since the later of two moments: the message was published, and the endpoint began to
	// fail without a success in between. So a backlog behind a dead endpoint is given up in the order and at the pace
	// of its publication, and each of its messages is attempted at least once. 0: no bound.
	MaxAge time.Duration
	// MaxAttempts bounds all attempts at one message. 0: no bound.
	MaxAttempts int
	// RefusedAttempts bounds the attempts at one message that the endpoint definitely refused (3xx, 4xx). 0: no
	// separate bound.
	RefusedAttempts int
}

// Exhausted reports, after a failed attempt, whether to give the message up. published and failingSince are Unix
// nanoseconds.
func (p Policy) Exhausted(attempts, refused uint32, published, failingSince int64, now time.Time) bool {
	switch {
	case p.MaxAttempts > 0 && int64(attempts) >= int64(p.MaxAttempts):
		return true
	case p.RefusedAttempts > 0 && int64(refused) >= int64(p.RefusedAttempts):
		return true
	}
	return p.MaxAge > 0 && now.UnixNano()-max(published, failingSince) >= int64(p.MaxAge)
}

// With returns the policy with a subscription's own options applied.
func (p Policy) With(o *hub.Options) Policy {
	if o == nil {
		return p
	}
	if o.MaxAttempts > 0 {
		p.MaxAttempts = o.MaxAttempts
	}
	if o.RefusedAttempts > 0 {
		p.RefusedAttempts = o.RefusedAttempts
	}
	if o.MaxAge > 0 {
		p.MaxAge = o.MaxAge
	}
	if o.MaxInterval > 0 {
		p.Backoff.Max = o.MaxInterval
		p.Backoff.Initial = min(cmp.Or(p.Backoff.Initial, time.Second), o.MaxInterval)
	}
	if o.Schedule != "" {
		p.Backoff.Schedule, p.Backoff.Max = o.Waits(), 0
	}
	return p
}

// Failure describes a failed attempt and its predecessors.
type Failure struct {
	InARow     uint64        // failed attempts in a row, of any messages
	Refused    bool          // the endpoint refused the message
	Refusals   uint32        // of this message
	Overloads  uint8         // in a row
	RetryAfter time.Duration // 0: not given
}

// Delay returns the wait before the next attempt. It grows with the failures in a row, of any messages, if the
// endpoint is down, and with the message's own refusals if it was refused.
func (p Policy) Delay(f Failure) time.Duration {
	n := min(f.InARow, 64)
	if f.Refused {
		n = uint64(f.Refusals)
	}
	wait := p.Backoff.Delay(int(n), f.RetryAfter)
	if f.Overloads < 2 || f.RetryAfter > 0 || p.OverloadWait <= 0 {
		return wait
	}
	longest := p.Backoff.longest()
	least := min(p.OverloadWait, longest)
	return max(wait, least+p.Backoff.Jitter(min(least/5, longest-least)))
}
