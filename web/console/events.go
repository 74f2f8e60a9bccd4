package console

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"quorumhub/hub"
	"quorumhub/web/problem"
)

// EventPorts is what the page about events needs of the server.
type EventPorts interface {
	// Events returns those events of hub.events that the viewer may see, the newest first.
	Events(ctx context.Context, q EventQuery) (EventsFound, error)
}

// EventQuery chooses events: those after a cursor, or else the latest before an offset; 0: of all.
type EventQuery struct {
	After  string
	Before uint64
	Type   string // or the beginning of one
	Topic  string
	// Subscription is its ID, such as s-17.
	Subscription string
	Limit        int
}

// EventsFound are events, the newest first.
type EventsFound struct {
	Items []json.RawMessage
	// Cursor is that after which the events follow that have not been looked at, and More says that there are some already.
	Cursor  string
	More    bool
	Dropped bool   // by retention, of those after the cursor
	Older   uint64 // earlier ones are before this offset; 0: none
	Known   bool   // the topic exists
}

// eventRow is an event in the list.
type eventRow struct {
	ID           string    `json:"id"`
	Type         string    `json:"type"`
	Time         time.Time `json:"time"`
	Topic        string    `json:"topic"`
	Subscription string    `json:"subscription"`
	Session      string    `json:"session"`
	Callback     string    `json:"callback"`
	Owner        string    `json:"owner"`
	Reason       string    `json:"reason"`
	All          string    `json:"-"` // all of it
}

type eventsData struct {
	List  *listing
	Rows  []eventRow
	Tail  bool // newer ones follow in the browser
	Older string
	EventsFound
}

// eventsPerTurn bounds the events of one answer to a page that follows them.
const eventsPerTurn = 200

// Events lists what has happened, as hub.events has it. With rows in the URL it answers only with the rows after a cursor: the script
// asks for those again and again. It keeps the cursor, so that a reader who stops and goes on misses nothing.
func (c *Console) Events(w http.ResponseWriter, r *http.Request) {
	l, err := parseListing(r, []string{"time"}, "type", "topic", "subscription", "before", "after", "rows")
	q := EventQuery{Limit: perPage}
	if err == nil {
		q.Type, q.Topic, q.Subscription, q.After = l.Filter("type"), l.Filter("topic"), l.Filter("subscription"), l.Filter("after")
		if text := l.Filter("before"); text != "" {
			if q.Before, err = strconv.ParseUint(text, 10, 64); err != nil {
				err = hub.ParamErrorf("before", "is %s; expected an offset", problem.Quote(text))
			}
		}
	}
	rows := err == nil && l.Filter("rows") != ""
	if rows {
		q.Limit = eventsPerTurn
	}
	if err == nil && rows != (q.After != "") {
		err = hub.ParamErrorf("after", "and rows are for the script of this page; expected both or neither")
	}
	if err != nil {
		c.fail(w, r, err)
		return
	}
	s := sheet{template: "events", section: "events", build: func(ctx context.Context) (*content, error) { return c.buildEvents(ctx, l, q) }}
	if !rows {
		c.show(w, r, s)
		return
	}
	in, err := s.build(r.Context())
	if err != nil {
		c.fail(w, r, err)
		return
	}
	c.writePart(w, r, http.StatusOK, "events", "events-rows", &frame{content: *in})
}

func (c *Console) buildEvents(ctx context.Context, l *listing, q EventQuery) (*content, error) {
	found, err := c.Ports.Events(ctx, q)
	if err != nil {
		return nil, err
	}
	d := eventsData{List: l, EventsFound: found, Tail: q.Before == 0}
	for _, raw := range found.Items {
		var row eventRow
		if err := json.Unmarshal(raw, &row); err != nil {
			return nil, err
		}
		row.All = showContent("application/json", raw, int64(len(raw))).Text
		d.Rows = append(d.Rows, row)
	}
	if found.Older > 0 {
		d.Older = l.url("before", strconv.FormatUint(found.Older, 10))
	}
	return &content{Title: "Events", Lead: "What has happened to subscriptions, topics and sessions, as the topic hub.events has it.", Data: d}, nil
}

// TryStream reads a topic's stream in the browser, with the viewer's own rights: the script opens the stream as any reader does.
func (c *Console) TryStream(w http.ResponseWriter, r *http.Request) {
	l, err := parseListing(r, []string{"topic"}, "topic", "start")
	if err != nil {
		c.fail(w, r, err)
		return
	}
	topic := l.Filter("topic")
	data := struct{ Topic, Base, Curl string }{topic, c.Base + "/topics/", "curl -N -H 'Accept: text/event-stream' " + c.publicURL() + "/topics/news"}
	c.show(w, r, sheet{template: "streams", section: "streams", build: func(context.Context) (*content, error) {
		return &content{Title: "Streams", Lead: "Try how a topic reads as an event stream, with your own rights.", Data: data}, nil
	}})
}
