// Package memory keeps a hub's state and messages in memory, for tests of rooms that would otherwise need raft and a
// store: events go through the real hub.State, so only durability and replication are missing. It imports hub only.
package memory

import (
	"context"
	"sync"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// Log is the state and the message log of a single node. Its methods implement the read ports of package hub and are
// safe for concurrent use.
type Log struct {
	mu       sync.RWMutex
	state    *hub.State
	messages map[hub.TopicID][]hub.Message
	parts    map[uint64][]byte // of blobs
	batches  uint64
}

// NewLog returns an empty log.
func NewLog() *Log {
	return &Log{state: hub.NewState(), messages: map[hub.TopicID][]hub.Message{}, parts: map[uint64][]byte{}}
}

// Apply applies events as one batch with the leader's time now. It returns their results and effects.
func (l *Log) Apply(now time.Time, events ...*hubpb.Event) ([]hub.Result, *hub.Effects, error) {
	proposal, err := hub.EncodeProposal(events)
	if err != nil {
		return nil, nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.batches++
	var b hub.EntryBuilder
	b.AddBatch("test/1", l.batches, [][]byte{proposal})
	fx := new(hub.Effects)
	res, err := l.state.Apply(b.Encode(now.UnixNano()), fx)
	if err != nil {
		return nil, nil, err
	}
	for _, p := range fx.Parts {
		l.parts[p.Offset] = p.Body
	}
	for _, m := range fx.Messages {
		l.messages[m.Topic] = append(l.messages[m.Topic], m)
	}
	for _, t := range fx.RemovedTopics {
		delete(l.messages, t)
	}
	return res[0].Proposals[0], fx, nil
}

// Batches returns how many batches were applied.
func (l *Log) Batches() uint64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.batches
}

// DropPart forgets the content of a part, for tests that upload more than memory should hold.
func (l *Log) DropPart(part uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.parts, part)
}

// State returns the state itself. Use it only while nothing is applied; otherwise use View.
func (l *Log) State() *hub.State { return l.state }

// View calls f with the state, which does not change until f returns.
func (l *Log) View(f func(*hub.State)) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	f(l.state)
}

// Read returns up to limit messages of a topic from an offset, and no more than maxBytes unless the first message
// alone is larger.
func (l *Log) Read(topic hub.TopicID, from uint64, limit, maxBytes int) ([]hub.Message, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	t, ok := l.state.TopicByID(topic)
	switch {
	case !ok:
		return nil, hub.ErrUnknownTopic
	case from < t.First:
		return nil, hub.ErrTrimmed
	case from > t.Head:
		return nil, nil
	}
	msgs := l.messages[topic][from-1:]
	n, size := 0, 0
	for n < len(msgs) && n < limit && (n == 0 || size+len(msgs[n].Body) <= maxBytes) {
		size += len(msgs[n].Body)
		n++
	}
	return msgs[:n:n], nil
}

// OffsetAt returns the offset of a topic's first message at or after a time, or the offset after its head.
func (l *Log) OffsetAt(topic hub.TopicID, at time.Time) (uint64, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	t, ok := l.state.TopicByID(topic)
	if !ok {
		return 0, hub.ErrUnknownTopic
	}
	n := t.First
	for n <= t.Head && l.messages[topic][n-1].Time < at.UnixNano() {
		n++
	}
	return n, nil
}

// ReadLetter returns the message of a dead letter, even if retention has dropped it.
func (l *Log) ReadLetter(ctx context.Context, d *hub.DeadLetter) (hub.Message, error) {
	if err := ctx.Err(); err != nil {
		return hub.Message{}, err
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	if _, ok := l.state.DeadLetter(d.ID); !ok {
		return hub.Message{}, hub.ErrTrimmed
	}
	return l.messages[d.Topic][d.Offset-1], nil
}

// ReadPart reads a part of a blob as long as the state retains it.
func (l *Log) ReadPart(part uint64, at int, p []byte) (int, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if first, last := l.state.RetainedParts(); part < first || part > last {
		return 0, hub.ErrTrimmed
	}
	return copy(p, l.parts[part][at:]), nil
}
