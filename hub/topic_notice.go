package hub

import (
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
)

// TopicNotice tells those who use a topic that it is deprecated, in the values of header fields. Immutable.
type TopicNotice struct {
	Deprecation string // RFC 9745
	Sunset      string // RFC 8594; empty: not decided
	Link        string // with rel=successor-version (RFC 5829); empty: the topic has no successor
}

// httpDate is the format of dates in header fields (RFC 9110 section 5.6.7), of times in UTC.
const httpDate = "Mon, 02 Jan 2006 15:04:05 GMT"

func (l *TopicLifecycle) notice(namer *TopicNamer) *TopicNotice {
	n := &TopicNotice{Deprecation: "@" + strconv.FormatInt(l.DeprecatedAt.Unix(), 10)}
	end := l.SunsetAt
	if l.Retired() && (end.IsZero() || l.RetiredAt.Before(end)) {
		end = l.RetiredAt
	}
	if !end.IsZero() {
		n.Sunset = end.UTC().Format(httpDate)
	}
	if l.Successor != "" {
		n.Link = "<" + namer.URL(l.Successor) + `>; rel="successor-version"`
	}
	return n
}

// TopicNotices knows the notices of all topics that are deprecated or retired. It is a hub.Observer; Reload it when the state
// is replaced. Looking one up takes no lock and, while no topic is deprecated, no time. Safe for concurrent use.
type TopicNotices struct {
	state StateReader
	namer *TopicNamer
	mu    sync.Mutex                               // one change at a time
	now   atomic.Pointer[map[TopicID]*TopicNotice] // nil: none; the map is immutable
}

// NewTopicNotices returns the notices of a state.
func NewTopicNotices(state StateReader, namer *TopicNamer) *TopicNotices {
	n := &TopicNotices{state: state, namer: namer}
	n.Reload()
	return n
}

// Of returns the notice of a topic; nil: it is not deprecated. It may be called on nil.
func (n *TopicNotices) Of(id TopicID) *TopicNotice {
	if n == nil {
		return nil
	}
	all := n.now.Load()
	if all == nil {
		return nil
	}
	return (*all)[id]
}

// Applied implements Observer.
func (n *TopicNotices) Applied(fx *Effects) {
	if len(fx.Marked) == 0 && len(fx.RemovedTopics) == 0 {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	all := map[TopicID]*TopicNotice{}
	if old := n.now.Load(); old != nil {
		maps.Copy(all, *old)
	}
	n.state.View(func(s *State) {
		for _, id := range slices.Concat(fx.Marked, fx.RemovedTopics) {
			n.look(s, id, all)
		}
	})
	n.set(all)
}

// Reload reads all notices again.
func (n *TopicNotices) Reload() {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := map[TopicID]*TopicNotice{}
	n.state.View(func(s *State) {
		for id := range s.marked {
			n.look(s, id, all)
		}
	})
	n.set(all)
}

func (n *TopicNotices) look(s *State, id TopicID, all map[TopicID]*TopicNotice) {
	if t := s.topics[id]; t != nil && t.Lifecycle != nil {
		all[id] = t.Lifecycle.notice(n.namer)
		return
	}
	delete(all, id)
}

func (n *TopicNotices) set(all map[TopicID]*TopicNotice) {
	if len(all) == 0 {
		n.now.Store(nil)
		return
	}
	n.now.Store(&all)
}

// Any reports whether any topic has a notice. It may be called on nil.
func (n *TopicNotices) Any() bool { return n != nil && n.now.Load() != nil }
