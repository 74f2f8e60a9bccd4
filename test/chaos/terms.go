package chaos

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// Mode is the order in which a subscription receives its messages (hub.delivery_mode).
type Mode uint8

const (
	// Ordered delivers one message after the other.
	Ordered Mode = iota
	// Keyed delivers the messages of one key one after the other.
	Keyed
	// Parallel delivers in no order.
	Parallel
)

func (m Mode) String() string { return [...]string{"ordered", "keyed", "parallel"}[m] }

// Terms is how a subscription receives its messages. What is due to it depends on them.
type Terms struct {
	Mode   Mode
	Window int    // hub.delivery_window of Keyed and Parallel
	Key    string // hub.delivery_key of Keyed
	Group  string // consumer group, or empty; unique across topics, and all its members have the same terms
}

// String returns the name under which results are counted.
func (t Terms) String() string {
	if t.Group != "" {
		return t.Mode.String() + " group"
	}
	return t.Mode.String()
}

// form returns the terms as parameters of a subscribe request, as alternating names and values.
func (t Terms) form() []string {
	var out []string
	if t.Mode != Ordered {
		out = append(out, "hub.delivery_mode", t.Mode.String(), "hub.delivery_window", strconv.Itoa(t.Window))
	}
	if t.Key != "" {
		out = append(out, "hub.delivery_key", t.Key)
	}
	if t.Group != "" {
		out = append(out, "hub.consumer_group", t.Group)
	}
	return out
}

// unit is what receives every message: a subscription, or a consumer group as a whole. Every group in a
// ledger has a member that stays until the end.
type unit struct {
	name       string
	terms      Terms
	topic      string
	episodes   []*Episode  // of all members
	deliveries []*Delivery // to all members, run by run, in order of arrival
	members    map[string]bool
}

// units returns all units with their episodes and deliveries, sorted by name. The caller holds mu.
func (l *Ledger) units() []*unit {
	byName := map[string]*unit{}
	of := func(subscription, topic string) *unit {
		name := l.unitOf(subscription)
		u := byName[name]
		if u == nil {
			u = &unit{name: name, terms: l.terms[subscription], topic: topic, members: map[string]bool{}}
			byName[name] = u
		}
		u.members[subscription] = true
		return u
	}
	for _, e := range l.episodes {
		u := of(e.Subscription, e.Topic)
		u.episodes = append(u.episodes, e)
	}
	for _, d := range l.deliveries {
		u := of(d.Subscription, d.Topic)
		u.deliveries = append(u.deliveries, d)
	}
	var out []*unit
	for _, u := range byName {
		slices.SortStableFunc(u.deliveries, func(a, b *Delivery) int { return a.Run - b.Run })
		out = append(out, u)
	}
	slices.SortFunc(out, func(a, b *unit) int { return strings.Compare(a.name, b.name) })
	return out
}

// unitOf returns the name of the unit that a subscription belongs to. The caller holds mu.
func (l *Ledger) unitOf(subscription string) string {
	if g := l.terms[subscription].Group; g != "" {
		return "group " + g
	}
	return subscription
}

// strand names the deliveries that wait for each other: messages of one strand are delivered one at a time,
// in log order. In parallel those are only deliveries of the same message. The caller holds mu.
func (l *Ledger) strand(u *unit, d *Delivery) string {
	switch u.terms.Mode {
	case Keyed:
		return "key " + l.orderKeys[d.Body]
	case Parallel:
		return d.ID
	case Ordered:
	}
	return ""
}

// claim is what is due to an episode of a unit: every acknowledged message sent after from and, if the
// episode has ended, only up to the offset settled.
type claim struct {
	from    time.Time
	ended   bool
	settled uint64
}

// claims returns one claim per episode; a group has a single one, from its first member on.
func (u *unit) claims() []claim {
	var out []claim
	for _, e := range u.episodes {
		if from, ok := e.dueFrom(); ok {
			out = append(out, claim{from, !e.EndAsked.IsZero(), e.Settled})
		}
	}
	if u.terms.Group == "" || len(out) == 0 {
		return out
	}
	return []claim{{from: slices.MinFunc(out, func(a, b claim) int { return a.from.Compare(b.from) }).from}}
}

// begins returns the times from which the episodes of a unit may receive content.
func (u *unit) begins() []time.Time {
	var out []time.Time
	for _, e := range u.episodes {
		if len(e.Verified) > 0 {
			out = append(out, e.Verified[0])
		}
	}
	if u.terms.Group != "" && len(out) > 0 {
		return []time.Time{slices.MinFunc(out, time.Time.Compare)}
	}
	return out
}

// stays reports whether a unit was there from beginning to end.
func (u *unit) stays() bool {
	return u.terms.Group != "" || !slices.ContainsFunc(u.episodes, func(e *Episode) bool { return !e.EndAsked.IsZero() })
}

// reassigned reports whether a member of a group accepted a message while it was leaving. The hub no longer
// waits for that answer, and another member receives the message as well.
func (u *unit) reassigned(d *Delivery) bool {
	return u.terms.Group != "" && slices.ContainsFunc(u.episodes, func(e *Episode) bool {
		return e.Subscription == d.Subscription && len(e.EndVerified) > 0 && !d.Replied.Before(e.EndVerified[0]) && (e.Gone.IsZero() || !d.At.After(e.Gone))
	})
}
