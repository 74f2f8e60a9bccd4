package delivery

import "time"

// RetryPolicy says how often and how long a message is tried. What is given up goes to the dead letters; the
// subscription stays until its lease ends (WebSub section 7).
type RetryPolicy struct {
	Backoff Backoff
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

// exhausted tells, after a failed attempt, whether the message is given up. published is Unix nanoseconds.
func (p RetryPolicy) exhausted(l *lane, published int64, now time.Time) bool {
	switch {
	case p.MaxAttempts > 0 && int64(l.attempts) >= int64(p.MaxAttempts):
		return true
	case p.RefusedAttempts > 0 && int64(l.refused) >= int64(p.RefusedAttempts):
		return true
	}
	return p.MaxAge > 0 && now.UnixNano()-max(published, l.failingSince) >= int64(p.MaxAge)
}

// delay is the wait before the next attempt. A sick endpoint is waited for by the failures in a row,
// whichever messages they were about; a refused message by its own refusals.
func (p RetryPolicy) delay(l *lane, res PushResult) time.Duration {
	n := min(l.failures, 64)
	if res.Outcome == PushRefused {
		n = uint64(l.refused)
	}
	return p.Backoff.Delay(int(n), res.RetryAfter)
}
