package web

import (
	"sync"
	"sync/atomic"

	"quorumhub/hub"
)

// Feed tells streams that their topic has grown. It is a hub.Observer: register it before the log starts to move, and
// its Reload for states that did not come about entry by entry. Topics that nobody reads cost nothing. Safe for
// concurrent use.
type Feed struct {
	readers atomic.Int64
	mu      sync.Mutex
	topics  map[hub.TopicID]*watched
}

// watched is a topic with readers, who share it.
type watched struct {
	id hub.TopicID

	// Guarded by Feed.mu.
	readers int
	head    uint64
	gone    bool          // the topic was removed
	changed chan struct{} // closed and replaced when head or gone change
}

// NewFeed makes a feed without readers.
func NewFeed() *Feed { return &Feed{topics: map[hub.TopicID]*watched{}} }

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
		if w := f.topics[m.Topic]; w != nil && m.Offset > w.head {
			w.head = m.Offset
			w.tell()
		}
	}
	for _, id := range fx.RemovedTopics {
		if w := f.topics[id]; w != nil {
			w.gone = true
			w.tell()
		}
	}
}

// Reload brings all readers up to a state that was replaced by a snapshot.
func (f *Feed) Reload(state hub.StateReader) {
	f.mu.Lock()
	heads := make(map[hub.TopicID]uint64, len(f.topics))
	for id := range f.topics {
		heads[id] = 0
	}
	f.mu.Unlock()
	gone := map[hub.TopicID]bool{}
	state.View(func(s *hub.State) {
		for id := range heads {
			t, ok := s.TopicByID(id)
			heads[id], gone[id] = t.Head, !ok
		}
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, w := range f.topics {
		w.head = max(w.head, heads[id])
		w.gone = w.gone || gone[id]
		w.tell()
	}
}

func (w *watched) tell() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// watch makes the caller a reader of a topic. It sees everything applied from now on, and everything before is in
// the state; leave ends it.
func (f *Feed) watch(id hub.TopicID, state hub.StateReader) *watched {
	f.readers.Add(1)
	f.mu.Lock()
	w := f.topics[id]
	if w == nil {
		w = &watched{id: id, changed: make(chan struct{})}
		f.topics[id] = w
	}
	w.readers++
	f.mu.Unlock()

	var head uint64
	gone := false
	state.View(func(s *hub.State) {
		t, ok := s.TopicByID(id)
		head, gone = t.Head, !ok
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	w.head = max(w.head, head)
	w.gone = w.gone || gone
	return w
}

func (f *Feed) leave(w *watched) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if w.readers--; w.readers == 0 {
		delete(f.topics, w.id)
	}
	f.readers.Add(-1)
}

// at is how far the topic has come, and a channel that is closed when that changes.
func (f *Feed) at(w *watched) (head uint64, gone bool, changed <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return w.head, w.gone, w.changed
}
