package chaos

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// Mode is the order in which a subscription gets its messages (hub.delivery_mode).
type Mode uint8

const (
	// Ordered: one after the other.
	Ordered Mode = iota
	// Keyed: those of one key one after the other.
	Keyed
	// Parallel: in no order.
	Parallel
)

func (m Mode) String() string { return [...]string{"ordered", "keyed", "parallel"}[m] }

// Terms is how a subscription asks for its messages. What it is owed depends on it.
type Terms struct {
	Mode   Mode
	Window int    // Keyed and Parallel: messages under way to one callback at a time
	Key    string // Keyed: hub.delivery_key
	Group  string // consumer group, empty: none. All members of one have the same terms; a group of another topic has another name
}

// String names what is counted together.
func (t Terms) String() string {
	if t.Group != "" {
		return t.Mode.String() + " group"
	}
	return t.Mode.String()
}

// form is what a subscribe request says of the terms: names and values.
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

// unit is what gets every message: a subscription, or a consumer group as a whole. A group of a ledger has a member that
// is there to stay.
type unit struct {
	name       string
	terms      Terms
	topic      string
	episodes   []*Episode  // of all members
	deliveries []*Delivery // to all members, life by life, as they came
	members    map[string]bool
}

// units puts episodes and deliveries together, sorted by name. Callers hold mu.
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

// unitOf is the name of the unit that a subscription belongs to. Callers hold mu.
func (l *Ledger) unitOf(subscription string) string {
	if g := l.terms[subscription].Group; g != "" {
		return "group " + g
	}
	return subscription
}

// strand tells which deliveries wait for each other: messages of one strand come one at a time, and in the order of the
// log. Of a parallel subscription only those of the same message do. Callers hold mu.
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

// claim is what an episode of a unit is owed: all that was acknowledged and sent later than from, and, when it has
// ended, up to an offset only.
type claim struct {
	from    time.Time
	ended   bool
	settled uint64
}

// claims are one for each episode; a group has one from its first member on.
func (u *unit) claims() []claim {
	var out []claim
	for _, e := range u.episodes {
		if from, ok := e.owedFrom(); ok {
			out = append(out, claim{from, !e.EndAsked.IsZero(), e.Settled})
		}
	}
	if u.terms.Group == "" || len(out) == 0 {
		return out
	}
	return []claim{{from: slices.MinFunc(out, func(a, b claim) int { return a.from.Compare(b.from) }).from}}
}

// begins returns when the episodes of a unit began to bring content at the earliest.
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

// stays tells whether a unit was there from its beginning to the end.
func (u *unit) stays() bool {
	return u.terms.Group != "" || !slices.ContainsFunc(u.episodes, func(e *Episode) bool { return !e.EndAsked.IsZero() })
}

// handedOn tells whether a member of a group took a message while it was leaving: the hub no longer waits for its answer,
// and the message goes to the others as well.
func (u *unit) handedOn(d *Delivery) bool {
	return u.terms.Group != "" && slices.ContainsFunc(u.episodes, func(e *Episode) bool {
		return e.Subscription == d.Subscription && len(e.EndVerified) > 0 && !d.Replied.Before(e.EndVerified[0]) && (e.Gone.IsZero() || !d.At.After(e.Gone))
	})
}
