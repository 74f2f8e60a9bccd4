package hub

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
)

// TopicContents knows the topics whose content is not simply delivered. It is a hub.Observer; Reload it when the state is replaced.
// Looking one up takes no lock and, while there is no such topic, no time. Safe for concurrent use.
type TopicContents struct {
	state StateReader
	mu    sync.Mutex                                // one change at a time
	now   atomic.Pointer[map[TopicID]*TopicContent] // nil: none; the map is immutable
}

// NewTopicContents returns those of a state.
func NewTopicContents(state StateReader) *TopicContents {
	c := &TopicContents{state: state}
	c.Reload()
	return c
}

// Of returns how subscriptions get the content of a topic; nil: in the deliveries, in the clear. It may be called on nil.
func (c *TopicContents) Of(id TopicID) *TopicContent {
	if c == nil {
		return nil
	}
	all := c.now.Load()
	if all == nil {
		return nil
	}
	return (*all)[id]
}

// Applied implements Observer.
func (c *TopicContents) Applied(fx *Effects) {
	if len(fx.Content) > 0 || len(fx.RemovedTopics) > 0 && c.now.Load() != nil {
		c.look(slices.Concat(fx.Content, fx.RemovedTopics), false)
	}
}

// Reload reads all again.
func (c *TopicContents) Reload() {
	var all []TopicID
	c.state.View(func(s *State) { all = slices.Collect(maps.Keys(s.contents)) })
	c.look(all, true)
}

func (c *TopicContents) look(topics []TopicID, anew bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[TopicID]*TopicContent{}
	if old := c.now.Load(); old != nil && !anew {
		maps.Copy(all, *old)
	}
	c.state.View(func(s *State) {
		for _, id := range topics {
			if t := s.topics[id]; t != nil && t.Content != nil {
				all[id] = t.Content
			} else {
				delete(all, id)
			}
		}
	})
	if len(all) == 0 {
		c.now.Store(nil)
		return
	}
	c.now.Store(&all)
}
