package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"quorumhub/auth"
	"quorumhub/hub"
	"quorumhub/web/problem"
	"quorumhub/web/view"
)

const (
	// messageReadBytes bounds the content in memory while messages are listed without it.
	messageReadBytes = 1 << 20
	// Number of subscriptions on a page of a message's way, by default and at most.
	defaultWays = 20
	maxWays     = 100
	// waysAtOnce bounds the owners that are asked at the same time.
	waysAtOnce = 8
)

// messageRoutes are the routes about requests, attempts and messages, and those that ask or send something once more.
func (s *Server) messageRoutes() []*route {
	get := func(h http.HandlerFunc) map[string]http.HandlerFunc {
		return map[string]http.HandlerFunc{http.MethodGet: h, http.MethodHead: h}
	}
	post := func(h http.HandlerFunc) map[string]http.HandlerFunc {
		return map[string]http.HandlerFunc{http.MethodPost: h}
	}
	own := access{own: true}
	ownSubscriptions := access{changes: auth.ActionSubscriptions, own: true}
	return []*route{
		{name: "messages", paths: []string{"/v1/messages"}, methods: get(s.listMessages), access: own},
		{name: "message", paths: []string{"/v1/messages/:id"}, methods: get(s.getMessage), access: own},
		{name: "requests", paths: []string{"/v1/requests"}, methods: get(s.listRequests), access: own},
		{name: "attempts", paths: []string{"/v1/subscriptions/:id/attempts"}, methods: get(s.listAttempts), access: own},
		{name: "ask_again", paths: []string{"/v1/requests/:id/ask"}, methods: post(s.askAgain), access: ownSubscriptions},
		{name: "redeliver", paths: []string{"/v1/subscriptions/:id/redeliver"}, methods: post(s.redeliverMessage), access: ownSubscriptions},
		{name: "test_message", paths: []string{"/v1/subscriptions/:id/test"}, methods: post(s.testSubscription), access: ownSubscriptions},
	}
}

// messageQuery selects messages of a topic.
type messageQuery struct {
	topic        string
	key          string    // Idempotency-Key; empty: any
	since, until time.Time // published at or after, and before; zero: no bound
	before       uint64    // offset that none may reach; 0: none
	limit        int
}

// messagePage are messages, the newest first. Next is the offset before which there are more, 0: none.
type messagePage struct {
	items []view.Message
	next  uint64
}

// mayList returns an error unless the caller may learn which messages a topic has: it may read them, the topic is its own, or it is an
// operator.
func (s *Server) mayList(ctx context.Context, t *hub.Topic) error {
	if s.owns(ctx, "") || t.Belongs(auth.CallerOf(ctx).Principal.ID) {
		return nil
	}
	return s.Service.AuthorizeRead(ctx, t.Name)
}

// findMessages lists messages of a topic that the caller may know of.
func (s *Server) findMessages(ctx context.Context, q messageQuery) (messagePage, error) {
	var t hub.Topic
	known := false
	s.State.View(func(st *hub.State) { t, known = st.TopicByName(q.topic) })
	if err := s.mayList(ctx, &hub.Topic{Name: q.topic, Owner: t.Owner, Provisional: t.Provisional}); err != nil {
		return messagePage{}, err
	}
	if !known {
		return messagePage{}, noTopic(q.topic)
	}
	if q.key != "" {
		return s.messagesByKey(ctx, &t, q.key)
	}
	from, to := t.First, t.Head // inclusive
	for at, bound := range map[*time.Time]*uint64{&q.since: &from, &q.until: &to} {
		if at.IsZero() {
			continue
		}
		offset, err := s.Times.OffsetAt(t.ID, *at)
		if err != nil {
			return messagePage{}, fmt.Errorf("find the offset at %s: %w", *at, err)
		}
		if bound == &to {
			to = offset - 1
		} else {
			from = max(from, offset)
		}
	}
	if q.before > 0 {
		to = min(to, q.before-1)
	}
	if from > to {
		return messagePage{}, nil
	}
	first := from
	if n := uint64(q.limit); to-from >= n {
		first = to - n + 1
	}
	out := messagePage{}
	if err := s.readMessages(&t, first, to, &out); err != nil {
		return out, err
	}
	slices.Reverse(out.items)
	if first > from {
		out.next = first
	}
	return out, nil
}

// readMessages adds the messages from one offset to another, without what retention drops meanwhile.
func (s *Server) readMessages(t *hub.Topic, from, to uint64, out *messagePage) error {
	for from <= to {
		list, err := s.Messages.Read(t.ID, from, int(to-from+1), messageReadBytes)
		if errors.Is(err, hub.ErrTrimmed) {
			s.State.View(func(st *hub.State) { *t, _ = st.TopicByID(t.ID) })
			if from = max(from+1, t.First); from <= to {
				continue
			}
			return nil
		}
		if err != nil && !errors.Is(err, hub.ErrUnknownTopic) {
			return fmt.Errorf("read messages of %s: %w", t.Name, err)
		}
		if len(list) == 0 {
			return nil
		}
		for i := range list {
			if m := &list[i]; m.Offset <= to {
				out.items = append(out.items, messageView(t.Name, m))
			}
		}
		from = list[len(list)-1].Offset + 1
	}
	return nil
}

func messageView(topic string, m *hub.Message) view.Message {
	return view.Message{ID: m.ID(), Topic: topic, Offset: m.Offset, PublishedAt: time.Unix(0, m.Time).UTC(), ContentType: m.ContentType, Size: m.Size()}
}

// messagesByKey finds what was published under an idempotency key.
func (s *Server) messagesByKey(ctx context.Context, t *hub.Topic, key string) (out messagePage, err error) {
	keyed, err := s.Service.ByKey(ctx, t.Name, key)
	if err != nil {
		return out, err
	}
	for _, k := range keyed {
		n := len(out.items)
		if err := s.readMessages(t, k.Offset, k.Offset, &out); err != nil {
			return out, err
		}
		if len(out.items) > n {
			out.items[n].Publisher = k.Owner
		}
	}
	slices.SortFunc(out.items, func(a, b view.Message) int { return cmp.Compare(b.Offset, a.Offset) })
	return out, nil
}

// parseMessageID parses the ID of a message, such as 3-17.
func parseMessageID(id string) (topic hub.TopicID, offset uint64, ok bool) {
	a, b, found := strings.Cut(id, "-")
	n, err := strconv.ParseUint(a, 10, 64)
	offset, err2 := strconv.ParseUint(b, 10, 64)
	ok = found && err == nil && err2 == nil && n > 0 && offset > 0 && a[0] != '0' && b[0] != '0' && a[0] != '+' && b[0] != '+'
	return hub.TopicID(n), offset, ok
}

func noMessage(id string) *problem.Details {
	return &problem.Details{Status: http.StatusNotFound, Code: "not_found", Param: "id",
		Detail: problem.Quote(id) + " is not a message of this hub; expected an ID such as 3-17"}
}

// messageByID returns a message that the caller may know of, with its topic. Whoever has a subscription to the topic may know of its
// messages; to all others who may not it is not there.
func (s *Server) messageByID(ctx context.Context, id string) (*hub.Message, hub.Topic, error) {
	topic, offset, ok := parseMessageID(id)
	var t hub.Topic
	if ok {
		s.State.View(func(st *hub.State) { t, ok = st.TopicByID(topic) })
	}
	if !ok {
		return nil, t, noMessage(id)
	}
	if !s.ownSubscription(ctx, topic) && !s.mayRead(ctx, t.Name) && s.mayListSilently(ctx, &t) != nil {
		return nil, t, noMessage(id)
	}
	m, err := s.message(t.Name, offset)
	return m, t, err
}

// mayListSilently is mayList for who is an operator or owns the topic.
func (s *Server) mayListSilently(ctx context.Context, t *hub.Topic) error {
	if s.owns(ctx, "") || t.Belongs(auth.CallerOf(ctx).Principal.ID) {
		return nil
	}
	return noTopic(t.Name)
}

// mayRead reports whether the caller may read a topic's messages, without asking anything of anybody.
func (s *Server) mayRead(ctx context.Context, topic string) bool {
	return s.Guard == nil || s.Guard.Holds(ctx, auth.ActionRead, topic)
}

// ownSubscription reports whether the caller owns a subscription to a topic.
func (s *Server) ownSubscription(ctx context.Context, topic hub.TopicID) (own bool) {
	owner, _ := s.onlyOwner(ctx)
	if owner == "" {
		return false
	}
	for after := hub.SubscriptionID(0); ; {
		n := 0
		s.State.View(func(st *hub.State) {
			for _, sub := range st.OwnedBy(owner, after, 200) {
				after = sub.ID
				own = own || sub.Topic == topic
				n++
			}
		})
		if own || n < 200 {
			return own
		}
	}
}

// way returns what has become of a message: with regard to at most limit subscriptions after one, of those that the caller may see.
func (s *Server) way(ctx context.Context, m *hub.Message, t *hub.Topic, after hub.SubscriptionID, limit int) (*view.MessageWay, error) {
	out := &view.MessageWay{Message: messageView(t.Name, m), Deliveries: []view.MessageDelivery{}}
	var ids []hub.SubscriptionID
	owner, all := s.onlyOwner(ctx)
	hub.WalkSubscriptionsOf(s.State, t.ID, func(sub *hub.Subscription, _ uint64) bool {
		if sub.ID <= after || !all && (owner == "" || sub.Owner != owner) {
			return true
		}
		if len(ids) == limit {
			out.Next = ids[limit-1].String()
			return false
		}
		d := view.MessageDelivery{Subscription: sub.ID.String(), Callback: sub.Callback, Owner: sub.Owner, Node: sub.Assignment.Node, Attempts: []view.Attempt{}}
		switch {
		case sub.CreatedAt().UnixNano() > m.Time && !sub.Cursor.Remains(m.Offset):
			d.State = view.MessageEarlier
		case sub.Cursor.Remains(m.Offset):
			d.State = view.MessagePending
		default:
			d.State = view.MessageDone
		}
		ids = append(ids, sub.ID)
		out.Deliveries = append(out.Deliveries, d)
		return true
	})
	s.addLetters(ctx, m, out)
	s.addAttempts(ctx, ids, m.Offset, out)
	return out, nil
}

// addLetters adds the dead letters of a message, also of subscriptions that have ended.
func (s *Server) addLetters(ctx context.Context, m *hub.Message, out *view.MessageWay) {
	at := map[string]int{}
	for i := range out.Deliveries {
		at[out.Deliveries[i].Subscription] = i
	}
	owner, all := s.onlyOwner(ctx)
	published := time.Unix(0, m.Time)
	hub.WalkLetters(s.State, func(d *hub.DeadLetter) bool {
		if d.Topic != m.Topic || d.Offset != m.Offset || d.At.Before(published) || !all && (owner == "" || d.Owner != owner) {
			return true
		}
		id := d.Subscription.String()
		i, there := at[id]
		if !there {
			return true
		}
		w := &out.Deliveries[i]
		w.State, w.DeadLetter, w.Attempts = view.MessageLetter, hub.DeadLetterID(d.ID), letterAttempts(d)
		return true
	}, nil)
}

// letterAttempts returns the attempts that a dead letter keeps, newest first.
func letterAttempts(d *hub.DeadLetter) []view.Attempt {
	out := []view.Attempt{}
	for _, a := range slices.Backward(d.Tries) {
		out = append(out, view.Attempt{At: a.At.UTC(), Offset: d.Offset, Outcome: "failed", Status: int(a.Status),
			LatencyMS: float64(a.Latency.Microseconds()) / 1000, Reason: a.Reason})
	}
	return out
}

// addAttempts asks the owners of the subscriptions for the attempts at a message.
func (s *Server) addAttempts(ctx context.Context, ids []hub.SubscriptionID, offset uint64, out *view.MessageWay) {
	var wg sync.WaitGroup
	room := make(chan struct{}, waysAtOnce)
	for i := range ids {
		d := &out.Deliveries[i]
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			v, err := s.delivery(ctx, ids[i])
			if err != nil {
				d.Unknown = problem.OneLine(err.Error())
				return
			}
			kept := d.Attempts
			if d.DeadLetter != "" {
				kept = nil
			}
			for _, a := range v.Attempts {
				if a.Offset != offset || d.DeadLetter != "" && !a.Aside() {
					continue // a dead letter has its own attempts
				}
				kept = append(kept, a)
				if a.Outcome == "delivered" && d.DeadLetter == "" {
					d.State = view.MessageDelivered
				}
			}
			if d.DeadLetter != "" {
				kept = append(kept, d.Attempts...)
				slices.SortStableFunc(kept, func(a, b view.Attempt) int { return b.At.Compare(a.At) })
			}
			if kept != nil {
				d.Attempts = kept
			}
		})
	}
	wg.Wait()
}

// listMessages lists the messages of a topic, the newest first, by time or by idempotency key.
func (s *Server) listMessages(w http.ResponseWriter, r *http.Request) {
	values, err := parseURLQuery(r.URL.RawQuery)
	if err == nil {
		err = onlyParams(values, "limit", "cursor", "topic", "idempotency_key", "since", "until")
	}
	var q messageQuery
	if err == nil {
		q, err = s.messageQueryOf(values)
	}
	if err == nil {
		q.limit, err = limitOf(values)
	}
	var found messagePage
	if err == nil {
		found, err = s.findMessages(r.Context(), q)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	out := page[view.Message]{Items: append([]view.Message{}, found.items...)}
	if found.next > 0 {
		out.Next = strconv.FormatUint(found.next, 10)
	}
	writeJSON(w, http.StatusOK, out)
}

// messageQueryOf parses what selects messages. The cursor is an offset.
func (s *Server) messageQueryOf(values url.Values) (q messageQuery, err error) {
	if q.topic, err = s.Service.Namer().HostedName("topic", values.Get("topic")); err != nil {
		return q, err
	}
	if q.key = values.Get("idempotency_key"); q.key == "" && values.Has("idempotency_key") {
		return q, hub.ParamErrorf("idempotency_key", "is empty; expected the Idempotency-Key of a publication")
	}
	for param, at := range map[string]*time.Time{"since": &q.since, "until": &q.until} {
		if v := values.Get(param); v != "" {
			if *at, err = time.Parse(time.RFC3339, v); err != nil {
				return q, hub.ParamErrorf(param, "is %s; expected a time such as 2026-01-31T12:00:00Z", problem.Quote(v))
			}
		}
	}
	if v := values.Get("cursor"); v != "" {
		if q.before, err = strconv.ParseUint(v, 10, 64); err != nil || q.before == 0 {
			return q, hub.ParamErrorf("cursor", "is %s; expected the next of an earlier page", problem.Quote(v))
		}
	}
	return q, nil
}

// getMessage shows the whole way of one message.
func (s *Server) getMessage(w http.ResponseWriter, r *http.Request) {
	id := strings.TrimPrefix(r.URL.Path, "/v1/messages/")
	values, err := parseURLQuery(r.URL.RawQuery)
	if err == nil {
		err = onlyParams(values, "limit", "cursor")
	}
	limit, after := defaultWays, uint64(0)
	if v := values.Get("limit"); err == nil && v != "" {
		if limit, err = strconv.Atoi(v); err != nil || limit < 1 || limit > maxWays {
			err = hub.ParamErrorf("limit", "is %s; expected a number from 1 to %d", problem.Quote(v), maxWays)
		}
	}
	if v := values.Get("cursor"); err == nil && v != "" {
		kind, n, ok := parseID(v)
		if after = n; !ok || kind != 's' {
			err = hub.ParamErrorf("cursor", "is %s; expected the next of an earlier page", problem.Quote(v))
		}
	}
	var m *hub.Message
	var t hub.Topic
	if err == nil {
		m, t, err = s.messageByID(r.Context(), id)
	}
	var out *view.MessageWay
	if err == nil {
		out, err = s.way(r.Context(), m, &t, hub.SubscriptionID(after), limit)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, out)
}
