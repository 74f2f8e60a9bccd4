package chaos

import (
	"slices"
	"time"
)

// Order checks that a unit receives the messages of its topic in log order without a hole (I2): all of them,
// or with keys those of each key; a parallel unit has no order. Within a run of the hub the next delivery is
// the next message, or the same one again after a failure. A new run may go back, but not skip ahead; so may
// another node of a cluster, whose deliveries belong to run 0. A new episode starts anywhere after the last
// one.
func (l *Ledger) Order() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := complaints{kind: "order"}
	logs := l.keyLogs()
	for _, u := range l.units() {
		switch u.terms.Mode {
		case Ordered:
			u.inOrder(&c)
		case Keyed:
			l.inOrderOfKeys(u, logs[u.topic], &c)
		case Parallel:
		}
	}
	return c.err()
}

// episode returns the number of the episode that a moment falls into.
func episode(begins []time.Time, at time.Time) (n int) {
	for n < len(begins) && !begins[n].After(at) {
		n++
	}
	return n
}

// inOrder checks that deliveries to a unit follow the log.
func (u *unit) inOrder(c *complaints) {
	begins := u.begins()
	var prev *Delivery
	var floor, passed, newest uint64 // the episode's first offset, the highest accepted one and the highest one seen
	for _, d := range u.deliveries {
		switch {
		case prev == nil || episode(begins, d.At) != episode(begins, prev.At):
			if d.Offset <= newest {
				c.add("%s: a new subscription began with offset %d, but %d had been delivered before", u.name, d.Offset, newest)
			}
			floor, passed = d.Offset, d.Offset-1
		case d.Offset < floor:
			c.add("%s: offset %d arrived in a subscription that began at %d", u.name, d.Offset, floor)
		case d.Offset > passed+1:
			c.add("%s: offset %d arrived although %d had not been accepted (run %d)", u.name, d.Offset, passed+1, d.Run)
		case d.Run > 0 && d.Run == prev.Run && d.Offset != prev.Offset && d.Offset != prev.Offset+1:
			c.add("%s: offset %d arrived after %d in one run of the hub (%d)", u.name, d.Offset, prev.Offset, d.Run)
		}
		if d.Reply != Failed {
			passed = max(passed, d.Offset)
		}
		newest = max(newest, d.Offset)
		prev = d
	}
}

// keyLogs returns the offsets of each topic's messages by order key, sorted. The caller holds mu.
func (l *Ledger) keyLogs() map[string]map[string][]uint64 {
	type place struct {
		topic  string
		offset uint64
	}
	seen := map[place]bool{}
	out := map[string]map[string][]uint64{}
	add := func(topic, body string, offset uint64) {
		if seen[place{topic, offset}] {
			return
		}
		seen[place{topic, offset}] = true
		if out[topic] == nil {
			out[topic] = map[string][]uint64{}
		}
		key := l.orderKeys[body]
		out[topic][key] = append(out[topic][key], offset)
	}
	for _, p := range l.publishes {
		if p.Outcome == Acknowledged {
			add(p.Topic, p.Body, p.Offset)
		}
	}
	for _, d := range l.deliveries {
		add(d.Topic, d.Body, d.Offset)
	}
	for _, keys := range out {
		for _, offsets := range keys {
			slices.Sort(offsets)
		}
	}
	return out
}

// inOrderOfKeys checks that a message arrives only after the previous message of its key was accepted. The
// caller holds mu.
func (l *Ledger) inOrderOfKeys(u *unit, log map[string][]uint64, c *complaints) {
	begins := u.begins()
	floors := map[int]uint64{} // the lowest offset of each episode, which need not arrive first
	for _, d := range u.deliveries {
		n := episode(begins, d.At)
		if floor, ok := floors[n]; !ok || d.Offset < floor {
			floors[n] = d.Offset
		}
	}
	passed := map[string]uint64{} // the highest accepted offset of each key
	var newest uint64
	at := -1
	for _, d := range u.deliveries {
		if n := episode(begins, d.At); n != at {
			if floors[n] <= newest {
				c.add("%s: a new subscription began with offset %d, but %d had been delivered before", u.name, floors[n], newest)
			}
			at = n
			clear(passed)
		}
		key := l.orderKeys[d.Body]
		offsets := log[key]
		if i, _ := slices.BinarySearch(offsets, d.Offset); i > 0 && offsets[i-1] >= floors[at] && offsets[i-1] > passed[key] {
			c.add("%s: offset %d of key %q arrived although %d had not been accepted (run %d)", u.name, d.Offset, key, offsets[i-1], d.Run)
		}
		if d.Reply != Failed {
			passed[key] = max(passed[key], d.Offset)
		}
		newest = max(newest, d.Offset)
	}
}
