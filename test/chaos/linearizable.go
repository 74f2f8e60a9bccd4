package chaos

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"github.com/anishathalye/porcupine"

	"quorumhub/test/hubtest"
)

// Read is a consistent read of a topic's newest message, through any node.
type Read struct {
	Topic        string
	Began, Ended time.Time
	Offset       uint64 // 0 if the topic was empty
	Body         string // the message's name
}

// reader reads the newest message of random topics until ctx ends. It records only reads that were answered.
func reader(ctx context.Context, r *Roamer, l *Ledger, topics []string, every time.Duration, choices *rand.Rand) {
	for ctx.Err() == nil {
		topic := topics[choices.IntN(len(topics))]
		u, err := url.Parse(topic)
		if err != nil {
			panic(err)
		}
		read := Read{Topic: topic, Began: time.Now()}
		reply, err := r.Send(http.MethodGet, u.EscapedPath()+"?consistent=true", nil, nil)
		read.Ended = time.Now()
		switch {
		case err != nil, reply.Status == http.StatusServiceUnavailable:
		case reply.Status == http.StatusOK:
			if read.Offset, err = hubtest.OffsetOf(reply.Header.Get("X-Hub-Message-Id")); err != nil {
				l.violation(fmt.Errorf("GET %s: %w", topic, err))
				break
			}
			read.Body = nameOf(reply.Body)
			l.RecordRead(read)
		case reply.Status == http.StatusNoContent:
			l.RecordRead(read)
		default:
			l.violation(fmt.Errorf("GET %s: got %v", topic, reply))
		}
		wait(ctx, every)
	}
}

// RecordRead records a read.
func (l *Ledger) RecordRead(r Read) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reads = append(l.reads, r)
}

// event is one step of a topic's history: a message appended, or read as the newest.
type event struct {
	read   bool
	offset uint64
	body   string
}

// topicLog is the sequential model of a topic: its length, and the body at each offset. The bodies are the
// same in all states of one history, because each offset has one body.
type topicLog struct {
	length uint64
	bodies map[uint64]string
}

// historyLimit limits the search for one topic.
const historyLimit = 30 * time.Second

var errHistory = errors.New("not linearizable")

// Linearizable checks with porcupine that publishes, reads of the newest message and first deliveries are
// consistent with one log per topic. There must be an order of all operations, each between its start and
// end, in which publishes get the next offset, a read returns the last message, and nothing is delivered
// before it was appended. A publish ends with its acknowledgement or with the first delivery, whichever comes
// first. One of unknown outcome that was seen only as the newest message happened at any time after its
// start; one that was never seen, after everything was delivered, did not happen.
func (l *Ledger) Linearizable() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := complaints{kind: "history"}
	for topic, ops := range l.histories(&c) {
		bodies := map[uint64]string{}
		for _, op := range ops {
			if e := op.Input.(event); !e.read {
				if old, ok := bodies[e.offset]; ok && old != e.body {
					c.add("%s: offset %d is %s and %s", topic, e.offset, old, e.body)
				}
				bodies[e.offset] = e.body
			}
		}
		model := porcupine.Model{
			Init:  func() any { return uint64(0) },
			Step:  func(state, input, _ any) (bool, any) { return topicLog{state.(uint64), bodies}.step(input.(event)) },
			Equal: func(a, b any) bool { return a == b },
		}
		switch porcupine.CheckOperationsTimeout(model, ops, historyLimit) {
		case porcupine.Illegal:
			c.add("%s: %w: %d operations", topic, errHistory, len(ops))
		case porcupine.Ok:
		case porcupine.Unknown:
			c.add("%s: no answer within %v for %d operations", topic, historyLimit, len(ops))
		}
	}
	return c.err()
}

func (t topicLog) step(e event) (bool, any) {
	switch {
	case !e.read && e.offset == t.length+1:
		return true, e.offset
	case e.read && e.offset == t.length && t.bodies[e.offset] == e.body:
		return true, t.length
	}
	return false, t.length
}

// histories returns the operations of each topic. The caller holds mu.
func (l *Ledger) histories(c *complaints) map[string][]porcupine.Operation {
	type message struct {
		topic        string
		began, ended time.Time
		offset       uint64
		known        bool
	}
	messages := map[string]*message{}
	for _, p := range l.publishes {
		m := messages[p.Body]
		if m == nil {
			m = &message{topic: p.Topic, began: p.Began}
			messages[p.Body] = m
		}
		if p.Began.Before(m.began) {
			m.began = p.Began
		}
		if p.Outcome == Acknowledged && (!m.known || p.Ended.Before(m.ended)) {
			m.known, m.ended, m.offset = true, p.Ended, p.Offset
		}
	}
	out := map[string][]porcupine.Operation{}
	client := 0
	add := func(topic string, e event, call, ret int64) {
		client++
		out[topic] = append(out[topic], porcupine.Operation{ClientId: client, Input: e, Call: call, Return: ret})
	}
	see := func(body string, offset uint64) {
		if m := messages[body]; m != nil && m.offset == 0 {
			m.offset = offset
		}
	}
	for _, d := range l.deliveries {
		see(d.Body, d.Offset)
		if m := messages[d.Body]; m != nil && (m.ended.IsZero() || d.At.Before(m.ended)) {
			m.ended = d.At
			if d.At.Before(m.began) {
				c.add("%s was delivered before it was sent", d.Body)
				m.ended = m.began
			}
		}
	}
	for _, r := range l.reads {
		see(r.Body, r.Offset)
		add(r.Topic, event{true, r.Offset, r.Body}, r.Began.UnixNano(), r.Ended.UnixNano())
	}
	for body, m := range messages {
		end := int64(math.MaxInt64)
		if !m.ended.IsZero() {
			end = m.ended.UnixNano()
		}
		if m.offset > 0 {
			add(m.topic, event{false, m.offset, body}, m.began.UnixNano(), end)
		}
	}
	return out
}
