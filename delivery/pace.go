package delivery

import "time"

// pace is a subscription's rate of messages: one every interval, with as many at once as a tenth of a second allows.
type pace struct {
	interval, burst time.Duration
	next            time.Duration // when the next one is due on the dispatcher's own clock
}

func newPace(rate float64) *pace {
	if rate <= 0 {
		return nil
	}
	interval := time.Duration(float64(time.Second) / rate)
	return &pace{interval: interval, burst: max(100*time.Millisecond-interval, 0)}
}

// wait is how long to wait before the next message.
func (p *pace) wait(now time.Duration) time.Duration { return max(p.next-p.burst-now, 0) }

func (p *pace) took(now time.Duration) { p.next = max(p.next, now) + p.interval }
