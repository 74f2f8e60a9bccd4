package console

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"quorumhub/hub"
	"quorumhub/web/problem"
	"quorumhub/web/view"
)

// SearchMessages finds messages: by ID, or of a topic by time or idempotency key.
func (c *Console) SearchMessages(w http.ResponseWriter, r *http.Request) {
	l, err := parseListing(r, nil, "id", "topic", "key", "since", "until", "before")
	var q MessageQuery
	if err == nil {
		q, err = c.messageQuery(l)
	}
	if err != nil {
		c.fail(w, r, err)
		return
	}
	if id := l.Filter("id"); id != "" {
		c.redirect(w, "/messages/"+url.PathEscape(id))
		return
	}
	if l.CSV && q.Topic != "" {
		c.messagesCSV(w, r, q)
		return
	}
	c.show(w, r, sheet{template: "messages", section: "messages", build: func(ctx context.Context) (*content, error) {
		var data struct {
			List  *listing
			Rows  []view.Message
			Older string
			Curl  string
		}
		data.List = l
		data.Curl = "curl -i " + c.Service.Namer().URL("news") + " -H 'Idempotency-Key: order-17' -d 'hello'"
		if q.Topic != "" {
			rows, next, err := c.Ports.Messages(ctx, q)
			if err != nil {
				return nil, err
			}
			if data.Rows = rows; next > 0 {
				data.Older = l.url("before", strconv.FormatUint(next, 10))
			}
		}
		return &content{Title: "Messages", Lead: "Find a message, and see its whole way: when it was committed, to whom it was delivered, and each attempt.", Data: data}, nil
	}})
}

func (c *Console) messageQuery(l *listing) (q MessageQuery, err error) {
	q = MessageQuery{Key: l.Filter("key"), Limit: perPage}
	if topic := l.Filter("topic"); topic != "" {
		if q.Topic, err = c.Ports.TopicName("topic", topic); err != nil {
			return q, err
		}
	} else if q.Key != "" {
		return q, hub.ParamErrorf("topic", "is missing; an idempotency key belongs to a topic")
	}
	for name, at := range map[string]*time.Time{"since": &q.Since, "until": &q.Until} {
		if *at, err = momentOf(name, l.Filter(name), c.now()); err != nil {
			return q, err
		}
	}
	if before := l.Filter("before"); before != "" {
		if q.Before, err = strconv.ParseUint(before, 10, 64); err != nil {
			return q, hub.ParamErrorf("before", "is %s; expected an offset", problem.Quote(before))
		}
	}
	return q, nil
}

// momentOf reads a time as people write it into a form: 2026-01-31T12:00, in UTC, or how long ago it was, such as 15m.
func momentOf(name, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", time.DateOnly} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, nil
		}
	}
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, hub.ParamErrorf(name, "is %s; expected a time such as 2026-01-31T12:00 (UTC), or how long ago, such as 15m", problem.Quote(text))
}

// maxMessagesCSV bounds the messages in a file.
const maxMessagesCSV = 100_000

func (c *Console) messagesCSV(w http.ResponseWriter, r *http.Request, q MessageQuery) {
	q.Limit = 1000
	rows, next, err := c.Ports.Messages(r.Context(), q)
	if err != nil {
		c.fail(w, r, err)
		return
	}
	i, written, head := 0, 0, false
	writeCSV(w, "messages", func() ([]string, bool) {
		if !head {
			head = true
			return []string{"id", "topic", "offset", "published_at", "content_type", "size", "publisher"}, true
		}
		if i == len(rows) {
			if next == 0 || written >= maxMessagesCSV {
				return nil, false
			}
			q.Before, i = next, 0
			if rows, next, err = c.Ports.Messages(r.Context(), q); err != nil || len(rows) == 0 {
				return nil, false
			}
		}
		m := &rows[i]
		i++
		written++
		return []string{m.ID, m.Topic, strconv.FormatUint(m.Offset, 10), m.PublishedAt.Format(time.RFC3339Nano), m.ContentType, strconv.FormatInt(m.Size, 10), m.Publisher}, true
	})
}

// messageView is what the page of one message shows.
type messageView struct {
	*view.MessageWay
	TopicPath string
	Headers   []hub.Header
	Content   shown
	Rows      []wayRow
	Older     string // URL of the next deliveries
	Path      string
}

// wayRow is what has become of a message with regard to one subscription.
type wayRow struct {
	*view.MessageDelivery
	Badge    badge
	Attempts []attemptRow
	Again    bool // it can be sent again
}

func wayRowOf(d *view.MessageDelivery, topic hub.TopicID) wayRow {
	row := wayRow{MessageDelivery: d, Attempts: attemptRows(topic, d.Attempts), Again: true}
	switch d.State {
	case view.MessageDelivered:
		row.Badge = badge{stateGood, "delivered"}
	case view.MessageDone:
		row.Badge = badge{stateGood, "done"}
	case view.MessagePending:
		row.Badge = badge{stateInfo, "waits"}
		for _, a := range d.Attempts {
			if a.Outcome != "delivered" && a.Outcome != "cancelled" && !a.Aside() {
				row.Badge = badge{stateBad, "failing"}
			}
		}
	case view.MessageLetter:
		row.Badge = badge{stateBad, "given up"}
	case view.MessageEarlier:
		row.Badge = badge{stateIdle, "before its time"}
	}
	return row
}

// Message shows the whole way of one message.
func (c *Console) Message(w http.ResponseWriter, r *http.Request) {
	id := idInPath(r, "/messages/")
	after := uint64(0)
	if v := r.URL.Query().Get("after"); v != "" {
		n, err := strconv.ParseUint(strings.TrimPrefix(v, "s-"), 10, 64)
		if err != nil {
			c.fail(w, r, hub.ParamErrorf("after", "is %s; expected a subscription such as s-17", problem.Quote(v)))
			return
		}
		after = n
	}
	c.show(w, r, sheet{template: "message", section: "messages", personal: true, fragments: []string{"message-way"}, build: func(ctx context.Context) (*content, error) {
		m, t, err := c.Ports.Message(ctx, id)
		if err != nil {
			return nil, err
		}
		way, err := c.Ports.Way(ctx, m, &t, hub.SubscriptionID(after), 20)
		if err != nil {
			return nil, err
		}
		v := &messageView{MessageWay: way, TopicPath: c.topicPath(t.Name), Headers: m.Headers, Path: "/messages/" + m.ID()}
		for i := range way.Deliveries {
			v.Rows = append(v.Rows, wayRowOf(&way.Deliveries[i], t.ID))
		}
		if way.Next != "" {
			v.Older = "?after=" + way.Next
		}
		if !r.URL.Query().Has(liveParam) { // it does not change, and live pages outlast the request of whoever was first
			v.Content = c.contentOf(w, r.WithContext(ctx), m, t.Name)
		}
		return &content{Title: "Message " + m.ID(), Crumbs: []crumb{{"/messages", "Messages"}, {c.topicPath(t.Name), t.Name}}, Data: v,
			Lead: "Published to " + t.Name + "; " + m.ContentType + "."}, nil
	}})
}

// contentOf returns a message's content for a page, if the viewer may read it.
func (c *Console) contentOf(w http.ResponseWriter, r *http.Request, m *hub.Message, topic string) shown {
	if err := c.Ports.MayRead(r, topic); err != nil {
		return shown{Size: m.Size(), Hidden: "The content " + strings.TrimPrefix(problem.OneLine(err.Error()), "topic: ") + "."}
	}
	return c.readContent(w, m)
}

func (c *Console) readContent(w http.ResponseWriter, m *hub.Message) shown {
	body, release, err := c.Ports.Content(w, m, maxShown)
	if err != nil {
		return shown{Size: m.Size(), Hidden: "The content cannot be shown now: " + problem.OneLine(err.Error())}
	}
	defer release()
	return showContent(m.ContentType, body, m.Size())
}
