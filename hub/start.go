package hub

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

// TimeIndex finds places in the message log by time. Safe for concurrent use.
type TimeIndex interface {
	// OffsetAt is the offset of the first retained message of a topic that is not older than at, one above the
	// head when there is none. An unknown topic is ErrUnknownTopic.
	OffsetAt(topic TopicID, at time.Time) (uint64, error)
}

// Start says where in a topic's log to begin. The zero value is StartLatest.
type Start struct {
	Kind   StartKind
	Offset uint64    // StartOffset
	Time   time.Time // StartTime
}

// StartKind is a way to name a place in a log.
type StartKind uint8

// Places to start from.
const (
	StartLatest   StartKind = iota // behind the newest message
	StartEarliest                  // at the oldest message that is still there
	StartOffset
	StartTime // at the first message that is not older
)

// ParseStart reads latest, earliest, an offset from 1, or an RFC 3339 time. Errors are *Error and name param.
func ParseStart(param, text string) (Start, error) {
	switch text {
	case "latest":
		return Start{}, nil
	case "earliest":
		return Start{Kind: StartEarliest}, nil
	}
	if n, err := strconv.ParseUint(text, 10, 64); err == nil && n > 0 {
		return Start{Kind: StartOffset, Offset: n}, nil
	}
	// Older than 1678 or later than 2261 does not fit into Unix nanoseconds.
	if t, err := time.Parse(time.RFC3339, text); err == nil && t.Year() > 1678 && t.Year() < 2262 {
		return Start{Kind: StartTime, Time: t}, nil
	}
	return Start{}, ParamErrorf(param, "is %s; expected latest, earliest, the offset of a message from 1 on, or an RFC 3339 time such as 2026-11-22T08:00:00Z", quote(text))
}

// Resolve is the offset of the first message to read of a topic that runs from first to head, from 1 to head+1.
// An offset outside of what is there is refused with a *Error that names param and the valid range.
func (s Start) Resolve(param string, t *Topic, times TimeIndex) (uint64, error) {
	switch s.Kind {
	case StartEarliest:
		return t.First, nil
	case StartOffset:
		if s.Offset < t.First || s.Offset > t.Head+1 {
			return 0, ParamErrorf(param, "is %d; the topic has messages %d to %d, expected %d to %d", s.Offset, t.First, t.Head, t.First, t.Head+1)
		}
		return s.Offset, nil
	case StartTime:
		at, err := times.OffsetAt(t.ID, s.Time)
		switch {
		case errors.Is(err, ErrUnknownTopic):
			return t.Head + 1, nil // no message was ever published
		case err != nil:
			return 0, fmt.Errorf("find the message at %s: %w", s.Time.Format(time.RFC3339), err)
		}
		return min(max(at, t.First), t.Head+1), nil
	case StartLatest:
	}
	return t.Head + 1, nil
}
