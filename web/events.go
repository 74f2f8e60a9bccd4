package web

import (
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
	var t hub.Topic
	known := false
	s.State.View(func(st *hub.State) { t, known = st.TopicByName(hub.EventsTopic) })
	from := t.First
	if after := values.Get("cursor"); err == nil && after != "" {
		offset, ok := offsetOfEvent(t.ID, after)
		if !ok {
			err = hub.ParamErrorf("cursor", "is %s; expected the ID of an event, such as the next of an earlier page", problem.Quote(after))
		}
		from = max(offset+1, from)
	}
	out := page[json.RawMessage]{Items: []json.RawMessage{}}
	if err == nil && known { // it exists once it is registered or subscribed to
		owner, all := s.onlyOwner(r.Context())
		err = s.readEvents(t, from, limit, func(owned string) bool { return all || owned != "" && owned == owner }, &out)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, out)
}

// readEvents adds to a page the events from an offset on of which match, given their owner, is true. The page has a next one if there
// may be more.
func (s *Server) readEvents(t hub.Topic, from uint64, limit int, match func(owner string) bool, out *page[json.RawMessage]) error {
	for end := from + maxEventsRead; from <= t.Head; {
		msgs, err := s.Messages.Read(t.ID, from, eventsPerRead, eventReadBytes)
		if errors.Is(err, hub.ErrTrimmed) {
			s.State.View(func(st *hub.State) { t, _ = st.TopicByID(t.ID) })
			if from < t.First {
				from = t.First // retention has dropped some since the topic was looked up
				continue
			}
		}
		if err != nil {
			return fmt.Errorf("read the events: %w", err)
		}
		if len(msgs) == 0 {
			return nil
		}
		for i := range msgs {
			var e struct {
				Owner string `json:"owner"`
			}
			if json.Unmarshal(msgs[i].Body, &e) == nil && match(e.Owner) {
				out.Items = append(out.Items, msgs[i].Body)
			}
			from = msgs[i].Offset + 1
			if len(out.Items) == limit || from >= end {
				if from <= t.Head {
					out.Next = strconv.FormatUint(uint64(t.ID), 10) + "-" + strconv.FormatUint(msgs[i].Offset, 10)
				}
				return nil
			}
		}
	}
	return nil
}
