package delivery

import (
	"time"

	"quorumhub/delivery/egress"
)

// fairQueue holds lanes that are ready, those of each topic in order of arrival, and serves the topics in turn: however
// many lanes one topic has, another's wait for one of them at most.
type fairQueue struct {
	head, tail *topicQueue
	len        int // lanes
}

// topicQueue is the part of a fairQueue that belongs to one topic.
type topicQueue struct {
	head, tail *lane
	next       *topicQueue
	queued     bool
}

// push appends a lane. One that is still linked, although it has been elsewhere meanwhile, keeps its place.
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

// pop takes the first lane of the topic whose turn it is. It skips lanes that are not ready any more; nil when there is
// none left.
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

// pace is a subscription's rate of messages: one every interval, with as many at once as a tenth of a second allows.
type pace struct {
	interval, burst time.Duration
	next            time.Duration // when the next one is due on the dispatcher's own clock
}

func newPace(rate float64) *pace {
	if rate <= 0 {
		return nil
	}
	interval := time.Duration(float64(time.Second) / rate)
	return &pace{interval: interval, burst: max(100*time.Millisecond-interval, 0)}
}

// wait is how long to wait before the next message.
func (p *pace) wait(now time.Duration) time.Duration { return max(p.next-p.burst-now, 0) }

func (p *pace) took(now time.Duration) { p.next = max(p.next, now) + p.interval }

// host is an address that callbacks lie at, with what is under way to it.
type host struct {
	name    string
	lanes   int
	busy    int
	waiting []*lane // for one of the attempts to end
}

// mayStart tells whether the lane's rate and its host allow another attempt now; otherwise the lane waits for it.
// Callers hold mu.
func (d *Dispatcher) mayStart(l *lane) bool {
	if l.pace != nil {
		if wait := l.pace.wait(d.now()); wait > 0 {
			d.wait(l, wait)
			return false
		}
	}
	if h := l.host; h != nil && h.busy >= d.o.PerHost {
		l.state = laneBlocked
		h.waiting = append(h.waiting, l)
		return false
	}
	return true
}

// enter takes a place for an attempt that mayStart. Callers hold mu.
func (d *Dispatcher) enter(l *lane) {
	l.invited = false
	if l.pace != nil {
		l.pace.took(d.now())
	}
	if l.host != nil {
		l.host.busy++
	}
}

// exit gives the place at a host back. Callers hold mu.
func (d *Dispatcher) exit(h *host) {
	if h == nil {
		return
	}
	h.busy--
	d.invite(h)
	if h.lanes == 0 && h.busy == 0 {
		delete(d.hosts, h.name)
	}
}

// invite lets the next lane that waits for a place at the host have it. One that has no use for it any more passes it
// on (see next). Callers hold mu.
func (d *Dispatcher) invite(h *host) {
	for len(h.waiting) > 0 && h.busy < d.o.PerHost {
		l := h.waiting[0]
		h.waiting[0] = nil
		if h.waiting = h.waiting[1:]; l.state == laneBlocked {
			l.invited = true
			d.ready(l)
			return
		}
	}
	if len(h.waiting) == 0 {
		h.waiting = nil
	}
}

// visit counts a lane at the host of its callback, and leave takes it away. Callers hold mu.
func (d *Dispatcher) visit(l *lane) {
	if d.o.PerHost <= 0 {
		return
	}
	name := egress.HostOf(l.callback)
	if l.host != nil && l.host.name == name {
		return
	}
	d.leave(l)
	h := d.hosts[name]
	if h == nil {
		h = &host{name: name}
		d.hosts[name] = h
	}
	h.lanes++
	l.host = h
}

func (d *Dispatcher) leave(l *lane) {
	h := l.host
	if h == nil {
		return
	}
	l.host = nil
	if h.lanes--; h.lanes == 0 && h.busy == 0 {
		delete(d.hosts, h.name)
	}
}
