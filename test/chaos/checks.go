package chaos

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Bounds are the guarantees that depend on the configuration.
type Bounds struct {
	// CursorFlush is delivery.cursor_flush.
	CursorFlush time.Duration
	// Commit is how long a flushed cursor may take to become durable, in addition to the slowest acknowledged
	// publish of the last seconds: a cursor goes through the same log.
	Commit time.Duration
	// AfterEnd is how long a request in flight when a subscription ended may take to arrive.
	AfterEnd time.Duration
	// Lease is how long a node that hears nobody may still deliver; it replaces AfterEnd during a disruption.
	Lease time.Duration
	// Recovery is how long a disruption lasts after everything is undone.
	Recovery time.Duration
	// Load returns by which factor, from 1, the machine was overloaded between two moments; nil means 1.
	Load func(from, to time.Time) float64
}

// Check runs all checks of a scenario with one node. The error lists what is wrong, limited to a few lines of
// each kind.
func (l *Ledger) Check(b Bounds) error {
	return errors.Join(l.Answers(), l.Identities(), l.Lost(), l.Order(), l.RealTime(), l.Duplicates(b), l.AfterEnd(b))
}

// complaints collects the errors of a check and cuts a long list short.
type complaints struct {
	kind string
	errs []error
	more int
}

func (c *complaints) add(format string, args ...any) {
	if len(c.errs) >= 5 {
		c.more++
		return
	}
	c.errs = append(c.errs, fmt.Errorf(c.kind+": "+format, args...))
}

func (c *complaints) err() error {
	if c.more > 0 {
		c.errs = append(c.errs, fmt.Errorf("%s: and %d more", c.kind, c.more))
	}
	return errors.Join(c.errs...)
}

// Answers checks that publishers got 2xx, 4xx, 503, or no answer.
func (l *Ledger) Answers() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := complaints{kind: "answer"}
	for _, err := range l.violations {
		c.add("%w", err)
	}
	return c.err()
}

// Identities checks that a body has one message ID and a message ID one body, in every answer and delivery;
// that bodies arrive as sent, in the right topic; and that nothing arrives that was refused or never sent.
func (l *Ledger) Identities() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := complaints{kind: "identity"}
	idOf, bodyOf := map[string]string{}, map[string]string{}
	pair := func(who, body, id string) {
		if old, ok := idOf[body]; ok && old != id {
			c.add("%s: %s is message %s and message %s", who, body, old, id)
			return
		}
		if old, ok := bodyOf[id]; ok && old != body {
			c.add("%s: message %s is %s and %s", who, id, old, body)
			return
		}
		idOf[body], bodyOf[id] = id, body
	}
	topicOf, possible := map[string]string{}, map[string]bool{}
	for _, p := range l.publishes {
		topicOf[p.Body] = p.Topic
		possible[p.Body] = possible[p.Body] || p.Outcome != Refused
		if p.Outcome == Acknowledged {
			pair("acknowledgement", p.Body, p.ID)
		}
	}
	for _, d := range l.deliveries {
		topic, known := topicOf[d.Body]
		switch {
		case !known:
			c.add("%s got %q, which nobody sent", d.Subscription, d.Body)
		case !possible[d.Body]:
			c.add("%s got %s, whose publish was refused", d.Subscription, d.Body)
		case topic != d.Topic:
			c.add("%s got %s of %s", d.Subscription, d.Body, topic)
		case !d.Intact:
			c.add("%s got %s with another content or a wrong signature", d.Subscription, d.Body)
		default:
			pair("delivery to "+d.Subscription, d.Body, d.ID)
		}
	}
	return c.err()
}

// dueFrom returns the time after which every publish is due to the episode; ok is false if there is none. A
// hub that crashed before it recorded a confirmation asks again, so the last confirmation counts, unless the
// subscription was seen active earlier.
func (e *Episode) dueFrom() (at time.Time, ok bool) {
	if n := len(e.Verified); n > 0 {
		at, ok = e.Verified[n-1], true
	}
	if !e.Active.IsZero() && (!ok || e.Active.Before(at)) {
		at, ok = e.Active, true
	}
	return at, ok
}

// Lost checks that every acknowledged message was accepted by every subscription that was active when its
// publish began and still is, or that had passed it when it was asked to end (I1). One member of a consumer
// group is enough.
func (l *Ledger) Lost() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := complaints{kind: "lost"}
	for _, s := range l.shortfalls() {
		c.add("%s did not get %d acknowledged messages, the first is %s (%s)", s.unit, s.missing, s.first.ID, s.first.Body)
	}
	return c.err()
}

// shortfall is what is due to an episode of a unit and was not accepted.
type shortfall struct {
	unit    string
	missing int
	first   *Publish
}

// shortfalls returns all of them. The caller holds mu.
func (l *Ledger) shortfalls() []shortfall {
	type message struct {
		publish *Publish
		began   time.Time // of the first attempt
	}
	owed := map[string]*message{}
	for _, p := range l.publishes {
		m := owed[p.Body]
		if m == nil {
			m = &message{began: p.Began}
			owed[p.Body] = m
		}
		if p.Began.Before(m.began) {
			m.began = p.Began
		}
		if p.Outcome == Acknowledged {
			m.publish = p
		}
	}
	var out []shortfall
	for _, u := range l.units() {
		taken := map[string]bool{}
		for _, d := range u.deliveries {
			if d.Reply != Failed {
				taken[d.Body] = true
			}
		}
		for _, claim := range u.claims() {
			s := shortfall{unit: u.name}
			for body, m := range owed {
				p := m.publish
				if p == nil || p.Topic != u.topic || !m.began.After(claim.from) || claim.ended && p.Offset > claim.settled || taken[body] {
					continue
				}
				s.missing++
				if s.first == nil || p.Offset < s.first.Offset {
					s.first = p
				}
			}
			if s.missing > 0 {
				out = append(out, s)
			}
		}
	}
	return out
}

// RealTime checks that a message acknowledged before another was sent has the lower offset.
func (l *Ledger) RealTime() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := complaints{kind: "real time"}
	topics := map[string][]*Publish{}
	seen := map[string]bool{}
	for _, p := range l.publishes {
		// A repeated attempt may get the offset of the first one.
		if p.Outcome == Acknowledged && !seen[p.Body] {
			topics[p.Topic] = append(topics[p.Topic], p)
		}
		seen[p.Body] = true
	}
	for topic, ps := range topics {
		byBegin := slices.SortedFunc(slices.Values(ps), func(a, b *Publish) int { return a.Began.Compare(b.Began) })
		byEnd := slices.SortedFunc(slices.Values(ps), func(a, b *Publish) int { return a.Ended.Compare(b.Ended) })
		var newest *Publish
		for _, p := range byBegin {
			for len(byEnd) > 0 && byEnd[0].Ended.Before(p.Began) {
				if newest == nil || byEnd[0].Offset > newest.Offset {
					newest = byEnd[0]
				}
				byEnd = byEnd[1:]
			}
			if newest != nil && newest.Offset >= p.Offset {
				c.add("%s: %s (%s) was sent after the acknowledgement of %s (%s)", topic, p.ID, p.Body, newest.ID, newest.Body)
			}
		}
	}
	return c.err()
}

// window returns how long before the end of a run a delivery may have been accepted and still be repeated
// (I3).
func (l *Ledger) window(run int, b Bounds) time.Duration {
	r := l.runs[run-1]
	if r.How != Killed {
		return 0
	}
	var slowest time.Duration
	for _, p := range l.publishes {
		if p.Outcome == Acknowledged && !p.Ended.After(r.Ended) && r.Ended.Sub(p.Ended) < 2*time.Second {
			slowest = max(slowest, p.Ended.Sub(p.Began))
		}
	}
	return b.CursorFlush + b.Commit + slowest
}

// Duplicates checks that an accepted delivery is not repeated, except in a later run of the hub if it was
// accepted within one cursor flush of a kill (I3). Deliveries in flight at the kill fall within that time
// too. After a graceful stop nothing is repeated. What one member of a group accepted is not sent to another.
func (l *Ledger) Duplicates(b Bounds) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := complaints{kind: "duplicate"}
	windows := map[int]time.Duration{}
	for run := range l.runs {
		windows[run+1] = l.window(run+1, b)
	}
	for _, u := range l.units() {
		taken := map[uint64][]*Delivery{}
		for _, d := range u.deliveries {
			for _, before := range taken[d.Offset] {
				if before.Run == d.Run {
					c.add("%s: offset %d was delivered again %v after it had been accepted, in one run of the hub (%d)",
						u.name, d.Offset, d.At.Sub(before.Replied), d.Run)
					continue
				}
				if early := l.runs[before.Run-1].Ended.Sub(before.Replied); early > windows[before.Run] {
					c.add("%s: offset %d was delivered again in run %d; it had been accepted %v before the end of run %d, more than the %v allowed",
						u.name, d.Offset, d.Run, early, before.Run, windows[before.Run])
				} else if l.runs[before.Run-1].How == Stopped {
					c.add("%s: offset %d was delivered again in run %d; it had been accepted before run %d was stopped gracefully",
						u.name, d.Offset, d.Run, before.Run)
				}
			}
			if d.Reply == Accepted && !u.reassigned(d) {
				taken[d.Offset] = append(taken[d.Offset], d)
			}
		}
	}
	return c.err()
}

// AfterEnd checks that nothing arrives before a subscription is confirmed (I7) or after its end (I5).
func (l *Ledger) AfterEnd(b Bounds) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := complaints{kind: "after the end"}
	episodes := map[string][]*Episode{}
	for _, e := range l.episodes {
		episodes[e.Subscription] = append(episodes[e.Subscription], e)
	}
	bySubscription := map[string][]*Delivery{}
	for _, d := range l.deliveries {
		bySubscription[d.Subscription] = append(bySubscription[d.Subscription], d)
	}
	for subscription, ds := range bySubscription {
		es := slices.SortedFunc(slices.Values(episodes[subscription]), func(a, b *Episode) int { return a.Asked.Compare(b.Asked) })
		for _, d := range ds {
			// Find the last episode confirmed before the delivery.
			i, ok := len(es)-1, false
			for ; i >= 0; i-- {
				if len(es[i].Verified) > 0 && !es[i].Verified[0].After(d.At) {
					ok = true
					break
				}
			}
			switch {
			case !ok:
				c.add("%s got offset %d before it confirmed anything", subscription, d.Offset)
			case !es[i].Gone.IsZero() && d.At.Sub(es[i].Gone) > l.mayTrail(b, es[i].Gone, d.At):
				c.add("%s got offset %d %v after its end", subscription, d.Offset, d.At.Sub(es[i].Gone))
			}
		}
	}
	return c.err()
}

// mayTrail returns how long after its end a subscription may still receive something. The caller holds mu.
func (l *Ledger) mayTrail(b Bounds, gone, at time.Time) time.Duration {
	for _, t := range l.disruptions {
		if t.Began.Before(at) && (t.Ended.IsZero() || t.Ended.Add(b.Recovery).After(gone)) {
			return max(b.AfterEnd, b.Lease)
		}
	}
	return b.AfterEnd
}

// Summary describes in one line how much was checked.
func (l *Ledger) Summary() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var acknowledged, refused, unknown, failed, repeated int
	for _, p := range l.publishes {
		switch p.Outcome {
		case Acknowledged:
			acknowledged++
		case Refused:
			refused++
		default:
			unknown++
		}
	}
	type key struct {
		unit   string
		offset uint64
	}
	seen := map[key]bool{}
	for _, d := range l.deliveries {
		k := key{l.unitOf(d.Subscription), d.Offset}
		if d.Reply == Failed {
			failed++
		}
		if seen[k] {
			repeated++
		}
		seen[k] = seen[k] || d.Reply == Accepted
	}
	kills := 0
	for _, r := range l.runs {
		if r.How == Killed {
			kills++
		}
	}
	return fmt.Sprintf("%d runs of the hub, %d of them killed; publishes: %d acknowledged, %d of unknown outcome, %d refused; "+
		"%d deliveries in %d subscriptions, %d of them failed on purpose, %d repeated after they had been accepted",
		len(l.runs), kills, acknowledged, unknown, refused, len(l.deliveries), len(l.episodes), failed, repeated)
}

// DuplicatesByRun counts the repeated deliveries after the end of each run, in descending order.
func (l *Ledger) DuplicatesByRun() []int {
	l.mu.Lock()
	defer l.mu.Unlock()
	counts := make([]int, len(l.runs))
	for _, u := range l.units() {
		taken := map[uint64]int{}
		for _, d := range u.deliveries {
			if run, ok := taken[d.Offset]; ok {
				counts[run-1]++
			}
			if d.Reply == Accepted {
				taken[d.Offset] = d.Run
			}
		}
	}
	slices.SortFunc(counts, func(a, b int) int { return cmp.Compare(b, a) })
	return counts
}
