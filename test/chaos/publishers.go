package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"quorumhub/test/hubtest"
)

// Publisher sends unique bodies to one topic, one after another.
type Publisher struct {
	Name  string
	Topic string // URL
	// Keyed publishers send every message with an Idempotency-Key and repeat it until it is acknowledged; now
	// and then they send a recent one again. Others send each message once, whatever the outcome.
	Keyed bool
	// Every is the time from one message to the next; 0 means as soon as the last one is answered.
	Every time.Duration
	// MaxSize is the size of the largest bodies in bytes; most bodies are much smaller.
	MaxSize int
}

// PublishClient is what a publisher sends through: a node, or a Roamer over several.
type PublishClient interface {
	// TryPublish is that of hubtest.Node.
	TryPublish(topic, contentType string, body []byte, more ...string) (hubtest.Ack, error)
}

// downPause is how long a publisher waits after an attempt without an acknowledgement.
const downPause = 10 * time.Millisecond

// Run publishes until ctx ends. A message in flight at that time is finished, but not repeated.
func (p Publisher) Run(ctx context.Context, client PublishClient, l *Ledger, r *rand.Rand) {
	var recent []message
	for n := 1; ctx.Err() == nil; n++ {
		m := newMessage(fmt.Sprintf("%s-%06d", p.Name, n), p.Keyed, fmt.Sprintf("k%d", r.IntN(orderKeys)), p.size(r))
		for {
			acknowledged := send(client, l, p.Topic, m)
			if !acknowledged {
				wait(ctx, downPause)
			}
			if acknowledged || !p.Keyed || ctx.Err() != nil {
				break
			}
		}
		if p.Keyed {
			recent = append(recent, m)
			if len(recent) > repeatable {
				recent = recent[1:]
			}
			if r.IntN(10) == 0 {
				send(client, l, p.Topic, recent[r.IntN(len(recent))])
			}
		}
		if p.Every > 0 {
			wait(ctx, p.Every)
		}
	}
}

// repeatable is how many of its last messages a keyed publisher may send again: enough to include some from
// before a crash.
const repeatable = 200

// size returns the size of the next body. Most are small.
func (p Publisher) size(r *rand.Rand) int {
	if r.IntN(50) == 0 {
		return r.IntN(max(p.MaxSize, 1))
	}
	return r.IntN(1024)
}

// orderKeys is how many order keys the messages of a topic have.
const orderKeys = 8

// The delivery keys of keyed subscriptions. Both find the same key in a message.
const (
	byHeader  = "header:X-Hub-Key"
	byPointer = "json:/key"
)

// message is a body with its name, its Idempotency-Key and its order key for keyed subscriptions; both keys
// may be empty.
type message struct {
	body, key, order string
	content          []byte
}

func newMessage(name string, idempotent bool, order string, size int) message {
	m := message{body: name, order: order, content: fmt.Appendf(nil, "{%q: %q,\n%q: %q, %q: %q}", "name", name, "key", order, "filler", strings.Repeat("x", size))}
	if idempotent {
		m.key = "key of " + name
	}
	return m
}

// nameOf returns the name of a message from its first line.
func nameOf(content []byte) string {
	line, _, _ := strings.Cut(string(content[:min(len(content), 100)]), "\n")
	if name, ok := strings.CutPrefix(line, `{"name": "`); ok {
		return strings.TrimSuffix(name, `",`)
	}
	return line
}

// send makes one attempt and records it.
func send(client PublishClient, l *Ledger, topic string, m message) (acknowledged bool) {
	more := []string{"X-Hub-Key", m.order}
	if m.key != "" {
		more = append(more, "Idempotency-Key", m.key)
	}
	p := l.Sending(Publish{Topic: topic, Body: m.body, Key: m.key, OrderKey: m.order}, m.content)
	ack, err := client.TryPublish(topic, "application/json", m.content, more...)
	var refused *hubtest.RefusedError
	switch {
	case err == nil:
		l.Sent(p, Acknowledged, ack.ID, ack.Offset)
		return true
	case errors.As(err, &refused) && refused.Reply.Status/100 == 4:
		l.Sent(p, Refused, "", 0)
	case errors.As(err, &refused) && refused.Reply.Status != http.StatusServiceUnavailable:
		l.violation(fmt.Errorf("%s: %w", m.body, err))
		l.Sent(p, Unknown, "", 0)
	default:
		l.Sent(p, Unknown, "", 0)
	}
	return false
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
