package upstream

import (
	"errors"
	"slices"
	"sync/atomic"
	"time"
)

// Status is a view of an upstream, for operators: it shows addresses.
type Status struct {
	Name      string          `json:"name"`
	Breaker   State           `json:"breaker"`
	OpenUntil time.Time       `json:"open_until,omitzero"`
	InFlight  int64           `json:"in_flight"`
	Calls     Counts          `json:"calls"`
	Addresses []AddressStatus `json:"addresses"`
}

// AddressStatus is a view of one address.
type AddressStatus struct {
	URL          string    `json:"url"`
	Healthy      bool      `json:"healthy"`
	EjectedUntil time.Time `json:"ejected_until,omitzero"`
	InFlight     int64     `json:"in_flight"`
	Attempts     Counts    `json:"attempts"`
}

// Counts counts outcomes since the pool was made. A response whose body fails counts as answered and as failed.
type Counts struct {
	Answered    uint64           `json:"answered"`    // with a response other than these:
	Unavailable uint64           `json:"unavailable"` // 502, 503 or 504
	Failed      map[Class]uint64 `json:"failed,omitempty"`
}

// counters are the counts as they grow.
type counters struct {
	good, bad atomic.Uint64
	failed    [len(classes)]atomic.Uint64
}

func (c *counters) add(class Class) { c.failed[slices.Index(classes[:], class)].Add(1) }

// addError counts an error if it is the upstream's.
func (c *counters) addError(err error) {
	var e *Error
	if errors.As(err, &e) {
		c.add(e.Class)
	}
}

func (c *counters) view() Counts {
	out := Counts{Answered: c.good.Load(), Unavailable: c.bad.Load()}
	for i := range c.failed {
		if n := c.failed[i].Load(); n > 0 {
			if out.Failed == nil {
				out.Failed = map[Class]uint64{}
			}
			out.Failed[classes[i]] = n
		}
	}
	return out
}

// Status returns a view of the upstream now.
func (p *Pool) Status() Status {
	now := time.Now()
	s := Status{Name: p.name, InFlight: p.inFlight.Load(), Calls: p.counts.view()}
	s.Breaker, s.OpenUntil = p.breaker.state(now)
	for _, a := range p.addresses {
		v := AddressStatus{URL: a.shown, Healthy: !a.ejected.Load(), InFlight: a.inFlight.Load(), Attempts: a.counts.view()}
		if !v.Healthy {
			v.EjectedUntil = a.due()
		}
		s.Addresses = append(s.Addresses, v)
	}
	return s
}
