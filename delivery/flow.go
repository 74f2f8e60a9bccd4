package delivery

import (
	"slices"
	"time"

	"quorumhub/hub"
)

// flow is the place in a topic's log of a subscription that may have several messages under way, or of a consumer
// group as a whole. Its lanes are the subscriptions that its messages go to: one, or the members that this
// node delivers to. All fields are guarded by Dispatcher.mu.
//
// Every message behind done and before next is done with, or it is open. So done, next and the open ones are
// the whole cursor, whatever the order in which messages were acknowledged.
type flow struct {
	group  hub.GroupID // 0: one subscription's own
	topic  *topicLanes
	window int    // messages under way to one lane at a time
	key    keying // which messages wait for each other
	serial bool   // all do: a group whose members take turns

	epoch    uint64
	members  []*lane
	turn     int // of the member to be offered the next message
	running  int // attempts under way, stale ones not counted
	promised int // workers on their way to claim a message
	stale    int // attempts from before a rewind that are still under way; nothing new is sent meanwhile
	gen      uint32
	reading  bool
	draining bool // another node is to take over
	released bool // and everything has come to rest
	dirty    bool

	done     uint64
	next     uint64            // first offset not looked at
	holes    []hub.OpenMessage // not looked at yet: of the messages up to through, those that are not done with
	through  uint64
	open     []*entry // looked at and not done with, in order, with some that are done among them
	finished int      // of these
	free     []*entry // to be claimed
	delayed  []*entry // wait for their next attempt
	last     map[uint64]*entry
	buffered int // bytes of bodies held

	timer *lane // stands for the flow in the retry heap, nil until needed
}

type entryState uint8

const (
	entryFree    entryState = iota
	entryBehind             // another message of its key comes first
	entryClaimed            // under way
	entryDelayed
	entrySettling // waits until it is in the log that it was given up
	entryDone
)

// entry is an open message.
type entry struct {
	m        hub.Message // without its body unless loaded
	loaded   bool
	state    entryState
	key      uint64
	after    *entry // of the same key
	attempts uint32
	refused  uint32
	since    int64 // Unix nanoseconds of the first failure, 0: none
	due      time.Duration
}

const (
	// openWindows is how many windows of messages may be open at a time, those that wait for a retry or for their
	// key included. It bounds the cursor.
	openWindows = 4
	// flowBytes is how much of bodies a flow holds beyond those under way.
	flowBytes = 256 << 10
	// serialOpen is how many messages a group in order reads ahead.
	serialOpen = batchMessages
)

// flowing tells whether a subscription's messages are sent by a flow.
func flowing(s *hub.Subscription) bool {
	return s.Group != 0 || s.Options != nil && s.Options.Mode != hub.DeliveryOrdered
}

// reshaped tells whether a lane was made for another way of sending.
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

// newFlow makes the flow that a subscription's lane belongs to. Callers hold mu.
func (d *Dispatcher) newFlow(t *topicLanes, s *hub.Subscription) *flow {
	var o hub.Options
	if s.Options != nil {
		o = *s.Options
	}
	f := &flow{group: s.Group, topic: t, window: max(o.Window, 1), key: newKeying(o.Key), epoch: s.Assignment.Epoch,
		serial: o.Mode == hub.DeliveryOrdered, last: map[uint64]*entry{}}
	f.begin(&s.Cursor)
	t.flows = append(t.flows, f)
	if f.group != 0 {
		d.flows[f.group] = f
	}
	return f
}

// begin puts the flow where a cursor says.
func (f *flow) begin(c *hub.Cursor) {
	f.done, f.next, f.through, f.holes = c.Offset, c.Offset+1, max(c.Through, c.Offset), c.Open
	f.open, f.free, f.delayed, f.finished, f.buffered = nil, nil, nil, 0, 0
	clear(f.last)
	f.pass()
}

// pass moves next over what is known to be done with, and done behind it.
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

// room is how many more messages may be open.
func (f *flow) room() int {
	if f.serial {
		return serialOpen - f.unfinished()
	}
	return openWindows*f.window*len(f.members) - f.unfinished()
}

// available is about how many messages could be claimed now.
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

// add takes a message read from the log. Those that are known to be done with are left out.
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

// take claims the first free message.
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

// giveBack makes a claimed message free again, before the others.
func (f *flow) giveBack(e *entry) {
	if e.state == entryClaimed || e.state == entrySettling {
		e.state = entryFree
		f.free = slices.Insert(f.free, 0, e)
	}
}

// finish takes note that a message needs no further attempt.
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

// skip takes note that all messages up to an offset are gone.
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

// cursor is how far the flow has come, with without taken for done with.
func (f *flow) cursor(without *entry) hub.Cursor {
	// The last one done with: the last before next that is not open.
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
