package hub

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Position is a place in a topic's log as a user names it: "earliest" (the oldest retained message), "latest" (after
// the newest), the offset of the first message wanted, or an RFC 3339 time (the first message published then or
// later). The zero value is latest.
type Position struct {
	param  string    // parameter it was given in
	text   string    // empty: latest
	offset uint64    // 0: not an offset
	at     time.Time // zero: not a time
}

const positionForms = "expected latest, earliest, a message offset (from 1), or an RFC 3339 time such as 2026-01-31T12:00:00Z"

// maxPositionBytes is the longest text of a Position.
const maxPositionBytes = 64

// ParsePosition parses a position. param is the parameter it was given in; errors are *Error and name it.
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
		return p, ParamErrorf(param, "is %s; expected a time in the years 1679 to 2261", quote(text))
	}
	p.at = at
	return p, nil
}

func parseOffset(digits string) (n uint64, ok bool) {
	for _, c := range digits {
		if n > 1<<60 {
			return 1 << 60, true // larger than any topic; Check compares it with the topic
		}
		n = n*10 + uint64(c-'0')
	}
	return n, n > 0
}

// String returns the position as given.
func (p Position) String() string { return p.text }

// Offset returns the offset that a position names; ok is false for any other kind of position.
func (p Position) Offset() (offset uint64, ok bool) { return p.offset, p.offset != 0 }

// Check returns an error for an offset outside the topic's range or a time in the future. A topic that does not exist
// yet is the zero Topic. Errors are *Error and name the parameter and the valid range.
func (p Position) Check(t Topic, now time.Time) error {
	first := max(t.First, 1)
	switch {
	case !p.at.IsZero() && p.at.After(now):
		return ParamErrorf(p.param, "%s is in the future; expected a time no later than now (%s)", p.text, now.UTC().Format(time.RFC3339))
	case p.offset == 0 || p.offset >= first && p.offset <= t.Head+1:
		return nil
	case p.offset < first:
		return ParamErrorf(p.param, "%s was dropped by retention; expected an offset from %d to %d", p.text, first, t.Head+1)
	}
	return ParamErrorf(p.param, "%s is past the end of the topic; expected an offset from %d to %d", p.text, first, t.Head+1)
}

// Resolve returns the cursor of a reader that starts at p: the offset before the first message wanted. A position
// outside the topic's range is moved to the nearer end. The error is that of the index.
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
		case errors.Is(err, ErrUnknownTopic): // removed in the meantime
		case err != nil:
			return 0, fmt.Errorf("find the messages of %s: %w", p.text, err)
		default:
			next = at
		}
	}
	return min(max(next, first), t.Head+1) - 1, nil
}
