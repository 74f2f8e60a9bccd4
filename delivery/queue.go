package delivery

import (
	"container/heap"
	"time"
)

// fairQueue holds ready lanes, those of each topic in order of arrival, and serves the topics in turn: however many
// lanes one topic has, another topic waits for one of them at most.
type fairQueue struct {
	head, tail *topicQueue
	len        int // lanes
}

// push appends a lane. A lane that is still linked keeps its place, even if it was elsewhere meanwhile.
func (q *fairQueue) push(l *lane, t *topicQueue) {
	l.state = laneReady
	if l.queued {
		return
	}
	l.queued, l.next = true, nil
	if t.tail == nil {
		t.head = l
	} else {
		t.tail.next = l
	}
	t.tail = l
	q.len++
	if !t.queued {
		q.enqueue(t)
	}
}

func (q *fairQueue) enqueue(t *topicQueue) {
	t.queued, t.next = true, nil
	if q.tail == nil {
		q.head = t
	} else {
		q.tail.next = t
	}
	q.tail = t
}

// pop takes the first lane of the topic whose turn it is, skipping lanes that are no longer ready. It returns nil if
// none is left.
func (q *fairQueue) pop() *lane {
	for q.head != nil {
		t := q.head
		l := t.head
		if t.head, l.next = l.next, nil; t.head == nil {
			t.tail = nil
		}
		l.queued = false
		q.len--
		ready := l.state == laneReady
		if !ready && t.head != nil {
			continue
		}
		if q.head, t.next, t.queued = t.next, nil, false; q.head == nil {
			q.tail = nil
		}
		if t.head != nil {
			q.enqueue(t)
		}
		if ready {
			return l
		}
	}
	return nil
}

// retryHeap holds waiting lanes, the one due first on top.
type retryHeap []*lane

func (h retryHeap) Len() int { return len(h) }

func (h retryHeap) Less(i, j int) bool { return h[i].due < h[j].due }

func (h retryHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].slot, h[j].slot = int32(i), int32(j)
}

func (h *retryHeap) Push(x any) {
	l := x.(*lane)
	l.slot = int32(len(*h))
	*h = append(*h, l)
}

func (h *retryHeap) Pop() any {
	old := *h
	l := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return l
}

func (h *retryHeap) add(l *lane, due time.Duration) {
	l.state, l.due = laneWaiting, due
	heap.Push(h, l)
}

func (h *retryHeap) remove(l *lane) { heap.Remove(h, int(l.slot)) }
