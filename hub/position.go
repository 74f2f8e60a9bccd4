package hub

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Position is a place in a topic's log as a user names it: "earliest" (the oldest message kept), "latest" (behind
// the newest), the offset of the first message wanted, or a time (RFC 3339): the first message published
// then or later. The zero value is latest.
type Position struct {
	param  string    // where it stands
	text   string    // empty: latest
	offset uint64    // 0: not an offset
	at     time.Time // zero: not a time
}

const positionForms = "expected latest, earliest, the offset of a message from 1 on, or an RFC 3339 time such as 2026-01-31T12:00:00Z"

// maxPositionBytes is the longest text of a Position.
const maxPositionBytes = 64

// ParsePosition reads a position; param names where it stands, for errors, which are *Error.
func ParsePosition(param, text string) (Position, error) {
	p := Position{param: param, text: text}
	switch {
	case text == "earliest" || text == "latest":
		return p, nil
	case text != "" && len(text) <= maxPositionBytes && strings.Trim(text, "0123456789") == "":
		n, ok := parseOffset(text)
		if !ok {
			return p, ParamErrorf(param, "is %s; offsets count from 1", quote(text))
		}
		p.offset = n
		return p, nil
	}
	at, err := time.Parse(time.RFC3339Nano, text)
	switch {
	case err != nil || len(text) > maxPositionBytes:
		return p, ParamErrorf(param, "is %s; %s", quote(text), positionForms)
	case at.Year() <= 1678 || at.Year() >= 2262: // does not fit into Unix nanoseconds
		return p, ParamErrorf(param, "is %s; expected a time of the years 1679 to 2261", quote(text))
	}
	p.at = at
	return p, nil
}

func parseOffset(digits string) (n uint64, ok bool) {
	for _, c := range digits {
		if n > 1<<60 {
			return 1 << 60, true // beyond every topic; the range is checked against the topic
		}
		n = n*10 + uint64(c-'0')
	}
	return n, n > 0
}

// String is the position as it was given.
func (p Position) String() string { return p.text }

// Offset is the offset that a position names, ok false when it is another kind of place.
func (p Position) Offset() (offset uint64, ok bool) { return p.offset, p.offset != 0 }

// Check refuses an offset outside of what the topic holds, and a time that has not come. A topic that does not
// exist yet is the zero Topic. Errors are *Error naming the parameter and the valid range.
func (p Position) Check(t Topic, now time.Time) error {
	first := max(t.First, 1)
	switch {
	case !p.at.IsZero() && p.at.After(now):
		return ParamErrorf(p.param, "%s lies in the future; expected a time up to now (%s)", p.text, now.UTC().Format(time.RFC3339))
	case p.offset == 0 || p.offset >= first && p.offset <= t.Head+1:
		return nil
	case p.offset < first:
		return ParamErrorf(p.param, "%s was dropped by retention; expected an offset from %d to %d", p.text, first, t.Head+1)
	}
	return ParamErrorf(p.param, "%s is behind the topic's end; expected an offset from %d to %d", p.text, first, t.Head+1)
}

// Resolve is the cursor of a reader that begins at p: the offset before the first message wanted. What lies
// outside of the topic is moved to its nearer end. The error is the index's.
func (p Position) Resolve(t Topic, times TimeIndex) (uint64, error) {
	first := max(t.First, 1)
	next := t.Head + 1
	switch {
	case p.offset != 0:
		next = p.offset
	case p.text == "earliest":
		next = first
	case !p.at.IsZero() && t.Head >= first:
		at, err := times.OffsetAt(t.ID, p.at)
		switch {
		case errors.Is(err, ErrUnknownTopic): // it went away meanwhile
		case err != nil:
			return 0, fmt.Errorf("look for the messages of %s: %w", p.text, err)
		default:
			next = at
		}
	}
	return min(max(next, first), t.Head+1) - 1, nil
}
