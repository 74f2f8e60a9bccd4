package web

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"

	"quorumhub/web/console"
)

// eventPages are the pages about events, and the one that tries a stream.
func (s *Server) eventPages(page func(path string, a access, h http.HandlerFunc) *route) []*route {
	c := s.console
	return []*route{page("/events", access{own: true}, c.Events), page("/streams", access{own: true}, c.TryStream)}
}

// Events implements console.EventPorts.
func (p consolePorts) Events(ctx context.Context, q console.EventQuery) (out console.EventsFound, err error) {
	may := p.eventsOf(ctx)
	match := func(e *eventHead) bool {
		return may(e) && strings.HasPrefix(e.Type, q.Type) && (q.Topic == "" || e.Topic == q.Topic) && (q.Subscription == "" || e.Subscription == q.Subscription)
	}
	var found eventsFound
	if q.After != "" {
		found, err = p.eventsAfter(q.After, q.Limit, match)
	} else {
		found, err = p.newestEvents(q.Before, q.Limit, match)
	}
	slices.Reverse(found.items)
	out.Items = append(out.Items, found.items...)
	out.Cursor, out.More, out.Dropped, out.Older = cmp.Or(found.last, "0"), found.more, found.dropped, found.first
	_, out.Known = p.eventsTopic()
	return out, err
}
