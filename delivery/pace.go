package delivery

import "time"

// pace limits a subscription's rate: one message every interval, with bursts of up to a tenth of a second's worth.
type pace struct {
	interval, burst time.Duration
	next            time.Duration // when the next message is due, on the dispatcher's own clock
}

func newPace(rate float64) *pace {
	if rate <= 0 {
		return nil
	}
	interval := time.Duration(float64(time.Second) / rate)
	return &pace{interval: interval, burst: max(100*time.Millisecond-interval, 0)}
}

// wait returns how long to wait before the next message.
func (p *pace) wait(now time.Duration) time.Duration { return max(p.next-p.burst-now, 0) }

func (p *pace) took(now time.Duration) { p.next = max(p.next, now) + p.interval }
