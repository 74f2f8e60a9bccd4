package sse

import (
	"sync"
	"sync/atomic"

	"quorumhub/hub"
)

// Feed wakes readers when their topic grows. It is a hub.Observer: register it before the log starts to move, and call Reload
// when a snapshot replaces the state. Topics without readers cost nothing. Safe for concurrent use.
type Feed struct {
	readers atomic.Int64
	mu      sync.Mutex
	topics  map[hub.TopicID]*topic
}

// topic is a topic with readers, who share it. Feed.mu guards it.
type topic struct {
	readers int
	head    uint64
	removed bool
	changed chan struct{} // closed and replaced when head or removed changes
}

// NewFeed makes a Feed without readers.
func NewFeed() *Feed { return &Feed{topics: map[hub.TopicID]*topic{}} }

// Applied implements hub.Observer.
func (f *Feed) Applied(fx *hub.Effects) {
	if f.readers.Load() == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range fx.Messages {
		m := &fx.Messages[i]
		if i+1 < len(fx.Messages) && fx.Messages[i+1].Topic == m.Topic {
			continue
		}
		if t := f.topics[m.Topic]; t != nil && m.Offset > t.head {
			t.head = m.Offset
			t.wakeLocked()
		}
	}
	for _, id := range fx.RemovedTopics {
		if t := f.topics[id]; t != nil {
			t.removed = true
			t.wakeLocked()
		}
	}
}

// Reload wakes all readers after a snapshot replaced the state.
func (f *Feed) Reload(state hub.StateReader) {
	f.mu.Lock()
	heads := make(map[hub.TopicID]uint64, len(f.topics))
	for id := range f.topics {
		heads[id] = 0
	}
	f.mu.Unlock()
	removed := map[hub.TopicID]bool{}
	state.View(func(s *hub.State) {
		for id := range heads {
			t, ok := s.TopicByID(id)
			heads[id], removed[id] = t.Head, !ok
		}
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, t := range f.topics {
		t.head = max(t.head, heads[id])
		t.removed = t.removed || removed[id]
		t.wakeLocked()
	}
}

func (t *topic) wakeLocked() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// Watch is one reader's view of a topic's progress. Close it once when done.
type Watch struct {
	feed  *Feed
	id    hub.TopicID
	topic *topic
}

// Watch starts to follow a topic. The Watch covers everything applied from here on and everything in state before.
func (f *Feed) Watch(id hub.TopicID, state hub.StateReader) *Watch {
	f.readers.Add(1)
	f.mu.Lock()
	t := f.topics[id]
	if t == nil {
		t = &topic{changed: make(chan struct{})}
		f.topics[id] = t
	}
	t.readers++
	f.mu.Unlock()

	var head uint64
	removed := false
	state.View(func(s *hub.State) {
		found, ok := s.TopicByID(id)
		head, removed = found.Head, !ok
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	t.head = max(t.head, head)
	t.removed = t.removed || removed
	return &Watch{f, id, t}
}

// Topic returns the ID of the topic.
func (w *Watch) Topic() hub.TopicID { return w.id }

// Progress returns the offset of the newest message, whether the topic was removed, and a channel that is closed when either
// changes.
func (w *Watch) Progress() (head uint64, removed bool, changed <-chan struct{}) {
	w.feed.mu.Lock()
	defer w.feed.mu.Unlock()
	return w.topic.head, w.topic.removed, w.topic.changed
}

// Close ends the Watch.
func (w *Watch) Close() {
	f := w.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	if w.topic.readers--; w.topic.readers == 0 {
		delete(f.topics, w.id)
	}
	f.readers.Add(-1)
}
