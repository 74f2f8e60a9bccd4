package retry

import (
	"cmp"
	"time"

	"quorumhub/hub"
)

// Policy says how often and how long a message is tried. What is given up goes to the dead letters; the
// subscription stays until its lease ends (WebSub section 7).
type Policy struct {
	Backoff Backoff
	// OverloadWait is the least wait after an overload (429, or no answer in time), from the second one in a row on: one
	// slow answer of a healthy endpoint costs no more than any other failure. It is at most the longest wait of Backoff,
	// and up to a fifth is added within that, so that not all come back together. An endpoint that says Retry-After
	// knows better: then there is no least wait. 0: none at all.
	OverloadWait time.Duration
	// MaxAge bounds the time since both were true: the message was published, and the endpoint was failing
	// without a success in between. A backlog behind a dead endpoint is so given up in the order and at the
	// pace of its publication, and each of its messages is tried at least once. 0: no bound.
	MaxAge time.Duration
	// MaxAttempts bounds all attempts at one message. 0: no bound.
	MaxAttempts int
	// RefusedAttempts bounds the attempts at one message that the endpoint answered with a definite refusal
	// (3xx, 4xx). 0: no bound but the others.
	RefusedAttempts int
}

// Exhausted tells, after a failed attempt, whether the message is given up. published is Unix nanoseconds.
func (p Policy) Exhausted(attempts, refused uint32, published, failingSince int64, now time.Time) bool {
	switch {
	case p.MaxAttempts > 0 && int64(attempts) >= int64(p.MaxAttempts):
		return true
	case p.RefusedAttempts > 0 && int64(refused) >= int64(p.RefusedAttempts):
		return true
	}
	return p.MaxAge > 0 && now.UnixNano()-max(published, failingSince) >= int64(p.MaxAge)
}

// With is the policy with what a subscriber asked for in its place.
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

// Failure describes a failed attempt and those before it.
type Failure struct {
	InARow     uint64        // failed attempts in a row, whichever messages they were about
	Refused    bool          // the endpoint refused the message
	Refusals   uint32        // of the message
	Overloads  uint8         // in a row
	RetryAfter time.Duration // 0: not asked for
}

// Delay is the wait before the next attempt. A sick endpoint is waited for by the failures in a row,
// whichever messages they were about; a refused message by its own refusals.
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
