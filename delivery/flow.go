package delivery

import (
	"slices"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// flow is the position in a topic's log of a subscription that may have several messages in flight, or of a whole
// consumer group. Its lanes are the subscriptions that its messages go to: one, or the group's members on this node.
// All fields are guarded by Dispatcher.mu.
//
// Every message after done and before next is either finished or open. So done, next and the open messages are the
// whole cursor, in whatever order messages are acknowledged.
type flow struct {
	group  hub.GroupID // 0: the flow of a single subscription
	topic  *topicLanes
	window int    // messages in flight to one lane at a time
	key    keying // which messages wait for each other
	serial bool   // all messages wait for each other: a group whose members take turns

	epoch    uint64
	members  []*lane
	turn     int // index of the member to be offered the next message
	running  int // attempts in flight, without stale ones
	promised int // workers about to claim a message
	stale    int // attempts in flight from before a rewind; until they end, nothing new is sent
	gen      uint32
	reading  bool
	draining bool // another node takes over
	released bool // drained, and at rest
	dirty    bool

	done     uint64
	next     uint64            // first offset not yet looked at
	holes    []hub.OpenMessage // messages up to through that are not yet looked at and not finished
	through  uint64
	open     []*entry // messages looked at and not finished, in order, with some finished ones among them
	finished int      // number of finished ones in open
	free     []*entry // to be claimed
	delayed  []*entry // waiting for their next attempt
	last     map[uint64]*entry
	buffered int // bytes of bodies in memory

	timer *lane // stands for the flow in the retry heap; nil until needed
}

type entryState uint8

const (
	entryFree    entryState = iota
	entryBehind             // another message with its key comes first
	entryClaimed            // in flight
	entryDelayed
	entrySettling // waits until its dead letter is in the log
	entryDone
)

// entry is an open message.
type entry struct {
	m        hub.Message // without its body unless loaded
	loaded   bool
	state    entryState
	key      uint64
	after    *entry // the next one with the same key
	attempts uint32
	refused  uint32
	since    int64 // Unix nanoseconds of the first failure; 0: none
	due      time.Duration
}

const (
	// openWindows is how many windows of messages may be open, including those that wait for a retry or for their
	// key. It bounds the cursor's size.
	openWindows = 4
	// flowBytes is how many bytes of bodies a flow holds beyond those in flight.
	flowBytes = 256 << 10
	// serialOpen is how many messages an ordered group reads ahead.
	serialOpen = batchMessages
)

// flowing reports whether a flow sends the subscription's messages.
func flowing(s *hub.Subscription) bool {
	return s.Group != 0 || s.Options != nil && s.Options.Mode != hub.DeliveryOrdered
}

// reshaped reports whether the lane was built for another delivery mode, window, key or group.
func (l *lane) reshaped(s *hub.Subscription) bool {
	f := l.flow
	if f == nil || !flowing(s) {
		return (f != nil) != flowing(s)
	}
	var o hub.Options
	if s.Options != nil {
		o = *s.Options
	}
	return f.group != s.Group || f.window != max(o.Window, 1) || f.key.text != o.Key || f.serial != (o.Mode == hub.DeliveryOrdered)
}

// begin moves the flow to a cursor.
func (f *flow) begin(c *hub.Cursor) {
	f.done, f.next, f.through, f.holes = c.Offset, c.Offset+1, max(c.Through, c.Offset), c.Open
	f.open, f.free, f.delayed, f.finished, f.buffered = nil, nil, nil, 0, 0
	clear(f.last)
	f.pass()
}

// pass moves next past messages known to be finished, and done after it.
func (f *flow) pass() {
	for len(f.holes) > 0 && f.holes[0].Offset < f.next {
		f.holes = f.holes[1:]
	}
	if f.next <= f.through {
		if len(f.holes) > 0 {
			f.next = f.holes[0].Offset
		} else {
			f.next = f.through + 1
		}
	}
	for len(f.open) > 0 && f.open[0].state == entryDone {
		f.open[0] = nil
		f.open = f.open[1:]
		f.finished--
	}
	if len(f.open) > 0 {
		f.done = f.open[0].m.Offset - 1
	} else {
		f.done = f.next - 1
	}
	if f.finished > 64 && f.finished > len(f.open)/2 {
		f.open = slices.DeleteFunc(f.open, func(e *entry) bool { return e.state == entryDone })
		f.finished = 0
	}
}

func (f *flow) unfinished() int { return len(f.open) - f.finished }

// room returns how many more messages may be open.
func (f *flow) room() int {
	if f.serial {
		return serialOpen - f.unfinished()
	}
	return openWindows*f.window*len(f.members) - f.unfinished()
}

// available returns about how many messages could be claimed now.
func (f *flow) available() int {
	if f.stale > 0 {
		return 0
	}
	n := 0
	for _, e := range f.free {
		if e.state == entryFree {
			if n++; n > f.promised+len(f.members) {
				return n
			}
		}
	}
	if f.topic.head < f.next || f.serial && f.unfinished() > 0 {
		return n
	}
	more := 1
	if !f.serial {
		more = int(min(f.topic.head-f.next+1, uint64(max(f.room(), 0))))
	}
	return n + more
}

// add takes a message read from the log, unless it is already finished.
func (f *flow) add(m hub.Message) {
	if m.Offset < f.next {
		return
	}
	e := &entry{m: m, loaded: true}
	if m.Offset <= f.through {
		if len(f.holes) == 0 || f.holes[0].Offset != m.Offset {
			return
		}
		h := &f.holes[0]
		e.attempts, e.refused, e.since = h.Attempts, h.Refused, h.Since
	}
	f.next = m.Offset + 1
	f.open = append(f.open, e)
	f.buffered += len(m.Body)
	if f.serial || f.key.text != "" {
		if !f.serial {
			e.key = f.key.of(&m)
		}
		if before := f.last[e.key]; before != nil {
			before.after, e.state = e, entryBehind
			if f.buffered > flowBytes {
				f.unload(e)
			}
		}
		f.last[e.key] = e
	}
	if e.state == entryFree {
		f.free = append(f.free, e)
	}
	f.pass()
}

func (f *flow) unload(e *entry) {
	if e.loaded {
		f.buffered -= len(e.m.Body)
		e.m.Body, e.loaded = nil, false
	}
}

// take claims the first free message. It returns nil if there is none.
func (f *flow) take() *entry {
	for len(f.free) > 0 {
		e := f.free[0]
		f.free[0] = nil
		if f.free = f.free[1:]; e.state == entryFree {
			e.state = entryClaimed
			return e
		}
	}
	return nil
}

// giveBack frees a claimed message, ahead of the others.
func (f *flow) giveBack(e *entry) {
	if e.state == entryClaimed || e.state == entrySettling {
		e.state = entryFree
		f.free = slices.Insert(f.free, 0, e)
	}
}

// finish records that a message needs no further attempt.
func (f *flow) finish(e *entry) {
	if e.state == entryDone {
		return
	}
	e.state = entryDone
	f.unload(e)
	f.finished++
	if f.last[e.key] == e {
		delete(f.last, e.key)
	}
	if n := e.after; n != nil {
		e.after = nil
		if n.state == entryBehind {
			n.state = entryFree
			f.free = append(f.free, n)
		}
	}
	f.pass()
}

// skip records that all messages up to an offset are gone.
func (f *flow) skip(through uint64) {
	if f.done >= through {
		return
	}
	for _, e := range slices.Clone(f.open) {
		if e.m.Offset <= through {
			f.finish(e)
		}
	}
	f.next = max(f.next, through+1)
	f.pass()
}

// backlog returns how many messages up to head still need an attempt, and when the oldest known of them was published, in Unix
// nanoseconds; 0: unknown.
func (f *flow) backlog(head uint64) (lag uint64, oldest int64) {
	c := f.cursor(nil)
	for _, e := range f.open {
		if e.state != entryDone {
			oldest = e.m.Time
			break
		}
	}
	return c.Remaining(head), oldest
}

// cursor returns the flow's cursor, counting without as finished.
func (f *flow) cursor(without *entry) hub.Cursor {
	// The last finished offset: the last one before next that is not open.
	last := f.next - 1
	for i := len(f.open) - 1; i >= 0; i-- {
		if e := f.open[i]; e.state != entryDone && e != without {
			if e.m.Offset < last {
				break
			}
			last = e.m.Offset - 1
		}
	}
	c := hub.Cursor{Offset: f.done, Through: max(last, f.through)}
	for _, e := range f.open {
		if e.state != entryDone && e != without && e.attempts > 0 {
			c.Through = max(c.Through, e.m.Offset)
		}
	}
	for _, e := range f.open {
		if e.state != entryDone && e != without && e.m.Offset <= c.Through {
			c.Open = append(c.Open, hub.OpenMessage{Offset: e.m.Offset, Attempts: e.attempts, Refused: e.refused, Since: e.since})
		}
	}
	for i := range f.holes {
		if f.holes[i].Offset >= f.next {
			c.Open = append(c.Open, f.holes[i])
		}
	}
	if len(c.Open) == 0 {
		c.Offset = max(c.Offset, c.Through)
	} else {
		c.Offset = c.Open[0].Offset - 1
	}
	if c.Through <= c.Offset {
		c.Through, c.Open = 0, nil
	}
	return c
}

// fill copies the flow's cursor into that of its lane. A group member reports its own counters only. It returns the
// approximate size in bytes.
func (f *flow) fill(c *hubpb.Cursor) int {
	c.Attempts, c.Refused = 0, 0
	if f.group != 0 {
		c.Offset, c.Released = 0, false
		return 0
	}
	at := f.pb(nil)
	c.Offset, c.Through, c.Open = at.Offset, at.Through, at.Open
	return 16 * len(c.Open)
}

// pb returns the flow's cursor for an event, counting without as finished.
func (f *flow) pb(without *entry) *hubpb.Cursor {
	at := f.cursor(without)
	c := &hubpb.Cursor{Group: uint64(f.group), Offset: at.Offset, Through: at.Through, Epoch: f.epoch, Released: f.released}
	for i := range at.Open {
		o := &at.Open[i]
		c.Open = append(c.Open, &hubpb.OpenMessage{Offset: o.Offset, Attempts: o.Attempts, Refused: o.Refused, Since: o.Since})
	}
	return c
}
