package console

import (
	"slices"
	"sync"
	"time"

	"quorumhub/hub"
)

// catalogAge is how old the rows of lists may be. What has just been done is read from the state itself, on the page of one thing.
const catalogAge = 2 * time.Second

// catalog holds what lists are sorted and filtered by. It is read from the state step by step, so that no page keeps others from it for
// long, and at most every catalogAge, whoever asks. Safe for concurrent use.
type catalog struct {
	subscriptions kept[subscriptionRow]
	topics        kept[topicRow]
	rates         rates
}

// kept are rows that are read again when they are too old. They are immutable.
type kept[T any] struct {
	mu   sync.Mutex
	at   time.Time
	rows []T
}

// get returns the rows, no older than catalogAge.
func (k *kept[T]) get(now time.Time, read func(room []T) []T) []T {
	k.mu.Lock()
	defer k.mu.Unlock()
	if age := now.Sub(k.at); k.at.IsZero() || age >= catalogAge || age < 0 {
		k.rows = read(make([]T, 0, len(k.rows)+len(k.rows)/16+16))
		k.at = now
	}
	return k.rows
}

// subscriptionRow is a subscription in a list.
type subscriptionRow struct {
	ID           hub.SubscriptionID
	Topic        string
	Callback     string
	Owner        string
	Node         string
	leaseEnds    int64 // Unix nanoseconds
	Lag          uint64
	Failures     uint64
	FailingSince int64 // Unix nanoseconds; 0: it does not fail
	Letters      uint64
	Paused       bool
	Expired      bool
}

// LeaseEnds returns when its lease ends.
func (r *subscriptionRow) LeaseEnds() time.Time { return time.Unix(0, r.leaseEnds) }

func (c *Console) subscriptionRows() []subscriptionRow {
	now := c.now()
	return c.catalog.subscriptions.get(now, func(rows []subscriptionRow) []subscriptionRow {
		var some []subscriptionRow // read under the state's lock, into memory that is there already
		hub.WalkSubscriptions(c.State, func(sub *hub.Subscription, head uint64) bool {
			some = append(some, subscriptionRow{ID: sub.ID, Topic: sub.TopicName, Callback: sub.Callback, Owner: sub.Owner, Node: sub.Assignment.Node,
				leaseEnds: sub.ExpiresAt.UnixNano(), Lag: sub.Cursor.Remaining(head), Failures: sub.Cursor.Failures, FailingSince: sub.Cursor.FailingSince,
				Letters: sub.Cursor.DeadLetters, Paused: sub.Paused, Expired: sub.Expired(now)})
			return true
		}, func() { rows, some = append(rows, some...), some[:0] })
		return rows
	})
}

// topicRow is a topic in a list.
type topicRow struct {
	ID            hub.TopicID
	Name          string
	Owner         string
	Head, First   uint64
	Stored        uint64 // bytes, of an owner's topic
	Subscriptions int
	PublishedAt   time.Time
	Rate          float64 // messages per second; negative: not known yet
	Limits        bool    // it has limits of its own
	Lifecycle     *hub.TopicLifecycle
	provisional   bool
}

// Kept returns how many messages are kept.
func (t *topicRow) Kept() uint64 { return t.Head + 1 - min(t.First, t.Head+1) }

// belongs reports whether the topic is a principal's.
func (t *topicRow) belongs(principal string) bool {
	return principal != "" && t.Owner == principal && !t.provisional
}

func rowOf(t *hub.Topic) topicRow {
	return topicRow{ID: t.ID, Name: t.Name, Owner: t.Owner, Head: t.Head, First: t.First, Stored: t.StoredBytes(), Subscriptions: t.Subscribers(),
		PublishedAt: t.PublishedAt, Limits: !t.Retention.IsDefault(), Lifecycle: t.Lifecycle, provisional: t.Provisional}
}

func (c *Console) topicRows() []topicRow {
	now := c.now()
	return c.catalog.topics.get(now, func(rows []topicRow) []topicRow {
		hub.WalkTopics(c.State, func(t *hub.Topic) bool {
			rows = append(rows, rowOf(t))
			return true
		})
		c.catalog.rates.measure(now, rows)
		return rows
	})
}

// rateSpan is over how long the rates of topics are measured, at least.
const rateSpan = 10 * time.Second

// rates measures how fast topics grow, from looks at their heads. It belongs to the rows of topics and shares their lock.
type rates struct {
	looks [2]look // an older one, from which rates count, and a newer one that takes its place
}

type look struct {
	at    time.Time
	heads map[hub.TopicID]uint64
}

// measure fills in the rates.
func (r *rates) measure(now time.Time, rows []topicRow) {
	if newer := &r.looks[1]; newer.at.IsZero() || now.Sub(newer.at) >= rateSpan || now.Before(newer.at) {
		heads := make(map[hub.TopicID]uint64, len(rows))
		for i := range rows {
			heads[rows[i].ID] = rows[i].Head
		}
		r.looks[0], r.looks[1] = r.looks[1], look{now, heads}
	}
	from := r.looks[0]
	if from.at.IsZero() || now.Sub(from.at) > 6*rateSpan { // nobody has looked for long: begin anew
		from = r.looks[1]
	}
	span := now.Sub(from.at).Seconds()
	for i := range rows {
		t := &rows[i]
		head, known := from.heads[t.ID]
		switch {
		case span < 1:
			t.Rate = -1
		case known:
			t.Rate = float64(t.Head-min(head, t.Head)) / span
		default:
			t.Rate = float64(t.Head) / span // made since
		}
	}
}

// maxDepth bounds how far into a sorted list its pages lead.
const maxDepth = 20_000

// pick returns the rows from one place to another among those that match, in the order of compare (nil: as they are), and how many match.
func pick[T any](rows []T, match func(*T) bool, compare func(a, b *T) int, from, to int) (out []*T, total int) {
	if compare == nil {
		for i := range rows {
			if r := &rows[i]; match(r) {
				if total >= from && total < to {
					out = append(out, r)
				}
				total++
			}
		}
		return out, total
	}
	best := make([]*T, 0, min(to, len(rows)))
	for i := range rows {
		r := &rows[i]
		if !match(r) {
			continue
		}
		total++
		switch {
		case len(best) < to:
			best = append(best, r)
			siftUp(best, compare)
		case to > 0 && compare(r, best[0]) < 0:
			best[0] = r
			siftDown(best, compare)
		}
	}
	slices.SortFunc(best, compare)
	return best[min(from, len(best)):], total
}

// siftUp and siftDown keep a heap whose first element is the last in order.
func siftUp[T any](h []*T, compare func(a, b *T) int) {
	for i := len(h) - 1; i > 0; {
		up := (i - 1) / 2
		if compare(h[i], h[up]) <= 0 {
			return
		}
		h[i], h[up] = h[up], h[i]
		i = up
	}
}

func siftDown[T any](h []*T, compare func(a, b *T) int) {
	for i := 0; ; {
		last := i
		for _, child := range [2]int{2*i + 1, 2*i + 2} {
			if child < len(h) && compare(h[child], h[last]) > 0 {
				last = child
			}
		}
		if last == i {
			return
		}
		h[i], h[last] = h[last], h[i]
		i = last
	}
}
