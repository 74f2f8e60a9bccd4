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

// Publisher sends bodies that nobody else sends to one topic, one after another.
type Publisher struct {
	Name  string
	Topic string // URL
	// Keyed: every message has an Idempotency-Key and is repeated until it is acknowledged; now and then one of the
	// last is sent once more. Else a message is sent once, whatever comes of it.
	Keyed bool
	// Every is the time from one message to the next; 0: as soon as the last one is answered.
	Every time.Duration
	// MaxSize is the size of the largest bodies in bytes; most are much smaller.
	MaxSize int
}

// Door is where a publisher sends to: a node, or a Roamer among several.
type Door interface {
	// TryPublish is as in hubtest.Node.
	TryPublish(topic, contentType string, body []byte, more ...string) (hubtest.Ack, error)
}

// downPause is how long a publisher waits after an attempt without an acknowledgement.
const downPause = 10 * time.Millisecond

// Run publishes until ctx ends. A message that is under way then is finished, but not repeated.
func (p Publisher) Run(ctx context.Context, door Door, l *Ledger, r *rand.Rand) {
	type message struct {
		body, key string
		content   []byte
	}
	var recent []message
	for n := 1; ctx.Err() == nil; n++ {
		body := fmt.Sprintf("%s-%06d", p.Name, n)
		key := ""
		if p.Keyed {
			key = "key of " + body
		}
		content := p.content(body, r)
		for {
			acknowledged := send(door, l, p.Topic, body, key, content)
			if !acknowledged {
				wait(ctx, downPause)
			}
			if acknowledged || !p.Keyed || ctx.Err() != nil {
				break
			}
		}
		if p.Keyed {
			recent = append(recent, message{body, key, content})
			if len(recent) > repeatable {
				recent = recent[1:]
			}
			if r.IntN(10) == 0 {
				again := recent[r.IntN(len(recent))]
				send(door, l, p.Topic, again.body, again.key, again.content)
			}
		}
		if p.Every > 0 {
			wait(ctx, p.Every)
		}
	}
}

// repeatable is how many of its last messages a keyed publisher may send again: enough to reach behind a crash.
const repeatable = 200

// content is the body's name, and mostly little more.
func (p Publisher) content(name string, r *rand.Rand) []byte {
	size := r.IntN(1024)
	if r.IntN(50) == 0 {
		size = r.IntN(max(p.MaxSize, 1))
	}
	return []byte(name + "\n" + strings.Repeat("x", size))
}

// send makes one attempt and books it.
func send(door Door, l *Ledger, topic, body, key string, content []byte) (acknowledged bool) {
	var more []string
	if key != "" {
		more = []string{"Idempotency-Key", key}
	}
	p := l.Sending(Publish{Topic: topic, Body: body, Key: key}, content)
	ack, err := door.TryPublish(topic, "text/plain", content, more...)
	var refused *hubtest.RefusedError
	switch {
	case err == nil:
		l.Sent(p, Acknowledged, ack.ID, ack.Offset)
		return true
	case errors.As(err, &refused) && refused.Reply.Status/100 == 4:
		l.Sent(p, Refused, "", 0)
	case errors.As(err, &refused) && refused.Reply.Status != http.StatusServiceUnavailable:
		l.odd(fmt.Errorf("%s: %w", body, err))
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
