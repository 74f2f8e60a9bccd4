package hub

import "quorumhub/hub/hubpb"

// OpenMessage is a message after a cursor that still needs an attempt, although later messages do not, or that has
// been tried before.
type OpenMessage struct {
	Offset   uint64
	Attempts uint32 // made so far
	Refused  uint32 // of these, definite refusals
	Since    int64  // Unix nanoseconds of the first failure, 0: none
}

// maxOpen bounds the open messages of a cursor: four windows of maximum size for each of 16 members of a group. From
// the first message beyond it on, everything counts as open and is sent again.
const maxOpen = 16 * 4 * MaxWindow

// Remaining returns the number of messages up to head that still need an attempt.
func (c *Cursor) Remaining(head uint64) uint64 { return c.remainingUpTo(head) }

// Ahead returns the number of messages after the cursor that need no further attempt.
func (c *Cursor) Ahead() uint64 { return c.doneAfter(c.Offset) }

// RemainingOffsets returns, in order, the offsets in [from, head] of messages that still need an attempt: at most
// limit of them, after skipping the first skip.
func (c *Cursor) RemainingOffsets(from, head, skip uint64, limit int) []uint64 {
	var out []uint64
	take := func(offset uint64) {
		switch {
		case skip > 0:
			skip--
		case len(out) < limit:
			out = append(out, offset)
		}
	}
	for i := range c.Open {
		if o := c.Open[i].Offset; o >= from && o <= head {
			take(o)
		}
	}
	next := max(from, max(c.Offset, c.Through)+1)
	if next > head || skip > head-next {
		return out
	}
	for next, skip = next+skip, 0; next <= head && len(out) < limit; next++ {
		take(next)
	}
	return out
}

// remainingUpTo counts the messages up to offset that still need an attempt.
func (c *Cursor) remainingUpTo(offset uint64) uint64 {
	if offset <= c.Offset {
		return 0
	}
	if c.Through <= c.Offset { // nothing ahead
		return offset - c.Offset
	}
	n := uint64(0)
	for i := range c.Open {
		if c.Open[i].Offset <= offset {
			n++
		}
	}
	if offset > c.Through {
		n += offset - c.Through
	}
	return n
}

// doneAfter counts the messages after offset that need no further attempt.
func (c *Cursor) doneAfter(offset uint64) uint64 {
	top := max(c.Offset, c.Through)
	if offset >= top {
		return 0
	}
	return top - offset - (c.remainingUpTo(top) - c.remainingUpTo(offset))
}

// Remains reports whether a message that exists still needs an attempt.
func (c *Cursor) Remains(offset uint64) bool { return c.remains(offset) }

// remains reports whether a message still needs an attempt.
func (c *Cursor) remains(offset uint64) bool {
	return offset > c.Offset && c.remainingUpTo(offset)-c.remainingUpTo(offset-1) == 1
}

// place sets the cursor: every message up to offset needs no further attempt, every later one does.
func (c *Cursor) place(offset uint64) {
	c.Offset, c.Attempts, c.Refused, c.Through, c.Open = offset, 0, 0, 0, nil
}

// adopt takes over the progress reported by the owner. It reports false if that would move the cursor back.
func (c *Cursor) adopt(p *hubpb.Cursor, head uint64) bool {
	if p.Offset > head || p.Offset < c.Offset && p.Through <= c.Offset {
		return false
	}
	// Retention may have moved a cursor with out-of-order progress forward in the meantime.
	c.Offset, c.Attempts, c.Refused, c.FailingSince = max(p.Offset, c.Offset), p.Attempts, p.Refused, p.FailingSince
	c.Delivered, c.Failures = max(c.Delivered, p.Delivered), p.Failures
	c.Through, c.Open = min(p.Through, head), nil
	if c.Through <= c.Offset {
		c.Through = 0
		return true
	}
	last := c.Offset
	open := make([]OpenMessage, 0, min(len(p.Open), maxOpen))
	for _, o := range p.Open {
		if o.Offset <= last || o.Offset > c.Through {
			continue
		}
		if len(open) == maxOpen {
			c.Through = o.Offset - 1
			break
		}
		open = append(open, OpenMessage{o.Offset, o.Attempts, o.Refused, o.Since})
		last = o.Offset
	}
	c.Open = open
	c.normalize()
	return true
}

// normalize moves the cursor over the messages directly after it that need no further attempt. It does not change
// Open in place, since copies share it.
func (c *Cursor) normalize() {
	switch {
	case c.Through <= c.Offset:
		c.Through, c.Open = 0, nil
	case len(c.Open) == 0:
		c.Offset, c.Through, c.Open = c.Through, 0, nil
	default:
		c.Offset = c.Open[0].Offset - 1
	}
}

// drop records that all messages up to an offset were dropped, and returns how many of them still needed an attempt.
func (c *Cursor) drop(through uint64) (lost uint64) {
	if c.Offset >= through {
		return 0
	}
	lost = c.remainingUpTo(through)
	c.Offset, c.Attempts, c.Refused = through, 0, 0
	for len(c.Open) > 0 && c.Open[0].Offset <= through {
		c.Open = c.Open[1:]
	}
	c.normalize()
	c.Gap += lost
	return lost
}

// pb returns the cursor as stored in events and rows.
func (c *Cursor) pb(subscription uint64) *hubpb.Cursor {
	p := &hubpb.Cursor{Subscription: subscription, Offset: c.Offset, Attempts: c.Attempts, Refused: c.Refused,
		FailingSince: c.FailingSince, Delivered: c.Delivered, Failures: c.Failures, Through: c.Through}
	for i := range c.Open {
		o := &c.Open[i]
		p.Open = append(p.Open, &hubpb.OpenMessage{Offset: o.Offset, Attempts: o.Attempts, Refused: o.Refused, Since: o.Since})
	}
	return p
}

func (c *Cursor) row(id uint64) *hubpb.CursorRow {
	return &hubpb.CursorRow{Gap: c.Gap, DeadLetters: c.DeadLetters, Cursor: c.pb(id)}
}

func cursorFromRow(r *hubpb.CursorRow) Cursor {
	c := r.GetCursor()
	out := Cursor{Offset: c.GetOffset(), Attempts: c.GetAttempts(), Refused: c.GetRefused(), FailingSince: c.GetFailingSince(),
		Delivered: c.GetDelivered(), Failures: c.GetFailures(), Gap: r.GetGap(), DeadLetters: r.GetDeadLetters(), Through: c.GetThrough()}
	for _, o := range c.GetOpen() {
		out.Open = append(out.Open, OpenMessage{o.Offset, o.Attempts, o.Refused, o.Since})
	}
	return out
}

// advanceCursors takes over the progress reported by a node for what it still owns (invariant I4). A cursor never
// moves back. A member of a consumer group has delivery statistics of its own, but shares the group's cursor.
func (s *State) advanceCursors(e *hubpb.CursorsAdvanced, fx *Effects) Result {
	for _, c := range e.Cursors {
		u, ok := s.unit(SubscriptionID(c.Subscription), GroupID(c.Group))
		if !ok {
			s.advanceMember(c, fx)
			continue
		}
		if c.Epoch != u.assignment.Epoch {
			continue
		}
		if failures := u.cursor.Failures; u.cursor.adopt(c, u.topic.Head) {
			u.touchCursor(s)
			if u.sub != nil {
				s.announceFailing(u.sub, failures, fx)
			}
		}
		if c.Released && u.assignment.Next != "" {
			s.setOwnerIfAny(u, u.assignment.Next)
			s.report(u, fx)
		}
	}
	return Result{}
}

func (s *State) advanceMember(c *hubpb.Cursor, fx *Effects) {
	sub := s.subs[SubscriptionID(c.Subscription)]
	if sub == nil || c.Group != 0 || c.Epoch != s.groups[sub.Group].Assignment.Epoch {
		return
	}
	cur, failures := &sub.Cursor, sub.Cursor.Failures
	cur.FailingSince, cur.Delivered, cur.Failures = c.FailingSince, max(cur.Delivered, c.Delivered), c.Failures
	s.touch(TableCursor, c.Subscription)
	s.announceFailing(sub, failures, fx)
}
