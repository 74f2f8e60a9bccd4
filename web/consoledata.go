package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"quorumhub/auth"
	"quorumhub/configs/quantity"
	"quorumhub/hub"
	"quorumhub/web/console"
	"quorumhub/web/gateway"
	"quorumhub/web/problem"
	"quorumhub/web/view"
)

// dataRoutes are the pages about topics, subscriptions, requests, messages and dead letters, and what is done on them.
func (s *Server) dataRoutes(page, act func(path string, a access, h http.HandlerFunc) *route) []*route {
	c := s.console
	own := access{own: true}
	subscriptions := access{changes: auth.ActionSubscriptions, own: true}
	letters := access{reads: auth.ActionDeadLetters, changes: auth.ActionDeadLetters}
	ownLetters := letters
	ownLetters.ownReads = true
	topic := page("/topics/*", access{changes: auth.ActionTopics, ownTopic: true}, c.Topic)
	topic.methods[http.MethodPost] = c.ChangeTopic
	return []*route{
		page("/topics", own, c.Topics), topic,
		act("/register", access{byTopic: true}, c.RegisterTopic),
		act("/deregister", access{byTopic: true}, c.DeregisterTopic),
		act("/publish", access{byTopic: true}, c.PublishMessage),

		page("/subscriptions", own, c.Subscriptions),
		page("/subscriptions/:id", own, c.Subscription),
		act("/subscriptions/:id/pause", subscriptions, c.PauseSubscription),
		act("/subscriptions/:id/resume", subscriptions, c.ResumeSubscription),
		act("/subscriptions/:id/rewind", subscriptions, c.RewindSubscription),
		act("/subscriptions/:id/end", subscriptions, c.EndSubscription),
		act("/subscriptions/:id/test", subscriptions, c.TestSubscription),
		act("/subscriptions/:id/redeliver", subscriptions, c.RedeliverMessage),
		act("/subscriptions/:id/signature", access{changes: auth.ActionSubscriptions}, c.SignSubscription),
		act("/subscriptions/:id/headers", access{changes: auth.ActionSubscriptions}, c.SetHeaders),

		page("/requests", own, c.Requests),
		act("/requests/:id/ask", subscriptions, c.AskAgain),
		page("/messages", own, c.SearchMessages),
		page("/messages/:id", own, c.Message),

		page("/dead-letters", ownLetters, c.Letters),
		page("/dead-letters/export", letters, s.exportDeadLetters),
		act("/dead-letters/replay", letters, c.ReplayLetters),
		act("/dead-letters/drop", letters, c.DropLetters),
		page("/dead-letters/:id", ownLetters, c.Letter),
		act("/dead-letters/:id/replay", letters, c.ReplayLetter),
		act("/dead-letters/:id/drop", letters, c.DropLetter),
	}
}

// Owns implements console.DataPorts.
func (p consolePorts) Owns(ctx context.Context, owner string) bool { return p.owns(ctx, owner) }

// MayRead implements console.DataPorts.
func (p consolePorts) MayRead(r *http.Request, topic string) error {
	if !p.mayRead(r.Context(), topic) {
		return &problem.Details{Status: http.StatusForbidden, Code: "forbidden", Param: "topic", Detail: "may not be read by you: no access rule allows it (read)"}
	}
	return p.byReferenceOnly(r, topic)
}

// Messages implements console.DataPorts.
func (p consolePorts) Messages(ctx context.Context, q console.MessageQuery) ([]view.Message, uint64, error) {
	found, err := p.findMessages(ctx, messageQuery{topic: q.Topic, key: q.Key, since: q.Since, until: q.Until, before: q.Before, limit: q.Limit})
	return found.items, found.next, err
}

// Message implements console.DataPorts.
func (p consolePorts) Message(ctx context.Context, id string) (*hub.Message, hub.Topic, error) {
	return p.messageByID(ctx, id)
}

// Content implements console.DataPorts.
func (p consolePorts) Content(w http.ResponseWriter, m *hub.Message, limit int) (body []byte, release func(), err error) {
	size, caller := min(m.Size(), int64(limit)), callerAt(w)
	if err := p.budget.take(caller, 4*size); err != nil { // as it is, and as the page shows it
		return nil, nil, err
	}
	release = func() { p.budget.give(caller, 4*size) }
	if !m.IsBlob() {
		return m.Body[:size], release, nil
	}
	body = make([]byte, size)
	n, err := io.ReadFull(hub.NewBodyReader(p.Parts, m), body)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		release()
		return nil, nil, fmt.Errorf("read message %s: %w", m.ID(), err)
	}
	return body[:n], release, nil
}

// Way implements console.DataPorts.
func (p consolePorts) Way(ctx context.Context, m *hub.Message, t *hub.Topic, after hub.SubscriptionID, limit int) (*view.MessageWay, error) {
	return p.way(ctx, m, t, after, limit)
}

// Delivery implements console.DataPorts.
func (p consolePorts) Delivery(ctx context.Context, id hub.SubscriptionID) (*view.Delivery, error) {
	return p.delivery(ctx, id)
}

// Redeliver implements console.DataPorts.
func (p consolePorts) Redeliver(ctx context.Context, id hub.SubscriptionID, message string) (*view.Sent, error) {
	return p.redeliver(ctx, id, message)
}

// Test implements console.DataPorts.
func (p consolePorts) Test(ctx context.Context, id hub.SubscriptionID, contentType, body string) (*view.Sent, error) {
	return p.sendTest(ctx, id, contentType, body)
}

// OffsetAt implements console.DataPorts.
func (p consolePorts) OffsetAt(topic hub.TopicID, at time.Time) (uint64, error) {
	return p.Times.OffsetAt(topic, at)
}

// Rewind implements console.DataPorts.
func (p consolePorts) Rewind(ctx context.Context, id hub.SubscriptionID, to hub.Position, dryRun bool) (hub.Rewind, error) {
	return p.Service.Rewind(ctx, p.Times, id, to, dryRun)
}

// Publish implements console.DataPorts. It is what a publish by a route of the gateway is, with the caller's own rights.
func (p consolePorts) Publish(w http.ResponseWriter, r *http.Request, topic, contentType, key string, body []byte) (id string, duplicate bool, err error) {
	pub := hub.Publication{ContentType: contentType, Body: body}
	if p.CompactJSON {
		if err := compact(&pub); err != nil {
			return "", false, err
		}
	}
	return gatewayPorts(p).Publish(w, r, topic, gateway.Publication{ContentType: pub.ContentType, Body: pub.Body, IdempotencyKey: key})
}

// MaxMessageBytes implements console.DataPorts.
func (p consolePorts) MaxMessageBytes() int64 { return p.Service.Policy().MaxMessageBytes }

// MayDeregister implements console.DataPorts.
func (p consolePorts) MayDeregister(ctx context.Context, topic string) bool {
	return p.Guard == nil || p.Service.OwnsTopic(ctx, topic) || p.Guard.Holds(ctx, auth.ActionDeregister, topic)
}

// TopicName implements console.DataPorts.
func (p consolePorts) TopicName(param, text string) (string, error) {
	return p.Service.Namer().HostedName(param, text)
}

// SetTopic implements console.DataPorts.
func (p consolePorts) SetTopic(r *http.Request, topic string, c console.TopicChange) error {
	if c.Status != "" {
		item := lifecycleItem{Status: c.Status, Successor: c.Successor}
		if c.Sunset != "" {
			at, err := time.Parse(time.RFC3339, c.Sunset)
			if err != nil {
				return hub.ParamErrorf("sunset", "is %s; expected a time such as 2026-01-31T12:00:00Z", problem.Quote(c.Sunset))
			}
			item.SunsetAt = &at
		}
		return p.setLifecycle(r, topic, &item)
	}
	var item retentionItem
	if c.MaxAge != "" {
		item.MaxAge = &c.MaxAge
	}
	if c.MaxBytes != "" {
		n, err := quantity.ParseBytes(c.MaxBytes)
		if err != nil {
			return hub.ParamErrorf("max_bytes", "is %s; expected a size such as 100MiB, or 0 for no limit", problem.Quote(c.MaxBytes))
		}
		item.MaxBytes = &n
	}
	return p.setRetention(r.Context(), topic, &item)
}

// LetterFilter implements console.DataPorts.
func (p consolePorts) LetterFilter(get func(string) string) (hub.DeadLetterFilter, error) {
	return p.letterFilter(get)
}

// Letter implements console.DataPorts.
func (p consolePorts) Letter(ctx context.Context, id string) (*hub.DeadLetter, *hub.Message, error) {
	kind, n, ok := parseID(id)
	var d hub.DeadLetter
	if ok = ok && kind == 'd'; ok {
		p.State.View(func(st *hub.State) { d, ok = st.DeadLetter(n) })
	}
	if !ok || !p.owns(ctx, d.Owner) {
		return nil, nil, noLetter(id)
	}
	m, err := p.Letters.ReadLetter(ctx, &d)
	switch {
	case errors.Is(err, hub.ErrTrimmed):
		return nil, nil, noLetter(id)
	case err != nil:
		return nil, nil, fmt.Errorf("read dead letter %s: %w", id, err)
	}
	return &d, &m, nil
}
