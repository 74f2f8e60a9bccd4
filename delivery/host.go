package delivery

import (
	"quorumhub/delivery/egress"
)

// mayStartLocked reports whether the lane's rate and its host allow another attempt now. If not, the lane waits for
// it.
func (d *Dispatcher) mayStartLocked(l *lane) bool {
	if l.pace != nil {
		if wait := l.pace.wait(d.now()); wait > 0 {
			d.waitLocked(l, wait)
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

// enterHostLocked takes a place for an attempt that mayStartLocked allowed.
func (d *Dispatcher) enterHostLocked(l *lane) {
	l.invited = false
	if l.pace != nil {
		l.pace.took(d.now())
	}
	if l.host != nil {
		l.host.busy++
	}
}

// exitHostLocked gives back the place at a host.
func (d *Dispatcher) exitHostLocked(h *host) {
	if h == nil {
		return
	}
	h.busy--
	d.inviteLocked(h)
	if h.lanes == 0 && h.busy == 0 {
		delete(d.hosts, h.name)
	}
}

// inviteLocked reserves a free place at the host for the next waiting lane. A lane with no more use for it passes it
// on in nextLocked.
func (d *Dispatcher) inviteLocked(h *host) {
	for len(h.waiting) > 0 && h.busy < d.o.PerHost {
		l := h.waiting[0]
		h.waiting[0] = nil
		if h.waiting = h.waiting[1:]; l.state == laneBlocked {
			l.invited = true
			d.readyLocked(l)
			return
		}
	}
	if len(h.waiting) == 0 {
		h.waiting = nil
	}
}

// joinHostLocked counts a lane at the host of its callback; leaveHostLocked takes it away.
func (d *Dispatcher) joinHostLocked(l *lane) {
	if d.o.PerHost <= 0 {
		return
	}
	name := egress.HostOf(l.callback)
	if l.host != nil && l.host.name == name {
		return
	}
	d.leaveHostLocked(l)
	h := d.hosts[name]
	if h == nil {
		h = &host{name: name}
		d.hosts[name] = h
	}
	h.lanes++
	l.host = h
}

func (d *Dispatcher) leaveHostLocked(l *lane) {
	h := l.host
	if h == nil {
		return
	}
	l.host = nil
	if h.lanes--; h.lanes == 0 && h.busy == 0 {
		delete(d.hosts, h.name)
	}
}
