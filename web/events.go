package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"quorumhub/hub"
	"quorumhub/web/problem"
)

// Bounds of one look at the events.
const (
	maxEventsRead  = 10_000 // messages
	eventsPerRead  = 1000
	eventReadBytes = 1 << 20
)

// listEvents lists what has happened to subscriptions, as hub.events has it: all of it to operators, and to other principals what is
// about their own. The cursor is the ID of the last event that the caller has.
func (s *Server) listEvents(w http.ResponseWriter, r *http.Request) {
	values, err := parseURLQuery(r.URL.RawQuery)
	if err == nil {
		err = onlyParams(values, "limit", "cursor")
	}
	limit := defaultLimit
	if err == nil {
		limit, err = limitOf(values)
	}
	out := page[json.RawMessage]{Items: []json.RawMessage{}}
	if err == nil {
		var found eventsFound
		found, err = s.eventsAfter(values.Get("cursor"), limit, s.eventsOf(r.Context()))
		if found.more {
			out.Next = found.last
		}
		out.Items = append(out.Items, found.items...)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, out)
}

// eventHead is what events are chosen by.
type eventHead struct {
	Type         string `json:"type"`
	Topic        string `json:"topic"`
	Subscription string `json:"subscription"`
	Owner        string `json:"owner"`
}

// eventsFound are events in order of time.
type eventsFound struct {
	items []json.RawMessage
	// last is the ID of the last event that was looked at: those after it have not been. more says that there are some.
	last    string
	more    bool
	dropped bool // by retention, of those that were asked for
	first   uint64
}

// eventsOf returns what says whether the caller may see an event.
func (s *Server) eventsOf(ctx context.Context) func(*eventHead) bool {
	owner, all := s.onlyOwner(ctx)
	return func(e *eventHead) bool { return all || e.Owner != "" && e.Owner == owner }
}

// eventsAfter returns at most limit events after one with an ID, or all that are kept if it is empty. None is no error: the topic exists
// once it is registered or subscribed to.
func (s *Server) eventsAfter(after string, limit int, match func(*eventHead) bool) (out eventsFound, err error) {
	t, known := s.eventsTopic()
	from := max(t.First, 1)
	if after != "" {
		offset, ok := offsetOfEvent(t.ID, after)
		if !ok {
			return out, hub.ParamErrorf("cursor", "is %s; expected the ID of an event, such as the next of an earlier page", problem.Quote(after))
		}
		out.dropped = known && offset > 0 && offset+1 < t.First
		from = max(offset+1, from)
	}
	if !known {
		out.last = after
		return out, nil
	}
	out.items, from, err = s.readEvents(t, from, limit, match)
	out.last, out.more = eventID(t.ID, from-1), from <= t.Head
	return out, err
}

// newestEvents returns limit events, or up to twice as many, the latest before an offset, or of all if it is 0. first is the offset of
// the earliest that was looked at; 0: there are no earlier ones.
func (s *Server) newestEvents(before uint64, limit int, match func(*eventHead) bool) (out eventsFound, err error) {
	t, known := s.eventsTopic()
	if !known {
		return out, nil
	}
	out.last = eventID(t.ID, t.Head)
	if before == 0 || before > t.Head+1 {
		before = t.Head + 1
	}
	first := max(t.First, 1)
	for end := before; end > first && len(out.items) < limit && before-end < maxEventsRead; {
		part, from := t, first
		if end > first+uint64(limit) {
			from = end - uint64(limit)
		}
		part.Head = end - 1
		items, _, err := s.readEvents(part, from, limit, match)
		if err != nil {
			return out, err
		}
		out.items = append(items, out.items...)
		if end, out.first = from, from; from == first {
			out.first = 0
		}
	}
	return out, nil
}

func (s *Server) eventsTopic() (t hub.Topic, known bool) {
	s.State.View(func(st *hub.State) { t, known = st.TopicByName(hub.EventsTopic) })
	return t, known
}

func eventID(topic hub.TopicID, offset uint64) string {
	return strconv.FormatUint(uint64(topic), 10) + "-" + strconv.FormatUint(offset, 10)
}

// readEvents returns the events from an offset on for which match is true, at most limit, and the offset after the last that was looked
// at.
func (s *Server) readEvents(t hub.Topic, from uint64, limit int, match func(*eventHead) bool) (found []json.RawMessage, next uint64, err error) {
	for end := from + maxEventsRead; from <= t.Head; {
		msgs, err := s.Messages.Read(t.ID, from, int(min(eventsPerRead, t.Head-from+1)), eventReadBytes)
		if errors.Is(err, hub.ErrTrimmed) {
			head := t.Head
			s.State.View(func(st *hub.State) { t, _ = st.TopicByID(t.ID) })
			t.Head = min(t.Head, head)
			if from < t.First {
				from = t.First // retention has dropped some since the topic was looked up
				continue
			}
		}
		if err != nil {
			return found, from, fmt.Errorf("read the events: %w", err)
		}
		if len(msgs) == 0 {
			return found, from, nil
		}
		for i := range msgs {
			var e eventHead
			if json.Unmarshal(msgs[i].Body, &e) == nil && match(&e) {
				found = append(found, msgs[i].Body)
			}
			from = msgs[i].Offset + 1
			if len(found) == limit || from >= end {
				return found, from, nil
			}
		}
	}
	return found, from, nil
}
