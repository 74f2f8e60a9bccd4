package delivery

import "math"

// window is how many messages a lane of a flow may have under way at a time: that of its subscription, halved by every
// overload (429, or no answer in time), down to one, and one more with as many successes as it is wide. It is this node's
// alone: another owner begins with the whole window. All fields are guarded by Dispatcher.mu.
type window struct {
	closed     uint16 // places of the subscription's window that are not used
	credit     uint16 // successes since it last grew or shrank
	narrowings uint32 // overloads that counted
}

// standing is how a lane stood when an attempt began. A failure counts when none was counted meanwhile.
type standing struct {
	failures   uint64
	narrowings uint32
}

// room is how wide the lane's window is now.
func (l *lane) room() int { return max(l.flow.window-int(l.closed), 1) }

// width is how many workers may serve a lane of a flow now: a sick endpoint is probed with one message.
func (l *lane) width() int {
	if l.sick {
		return 1
	}
	return l.room()
}

// countOverload takes a failure into the count of overloads in a row.
func (l *lane) countOverload(res PushResult) {
	switch {
	case !res.overloaded():
		l.overloads = 0
	case l.overloads < math.MaxUint8:
		l.overloads++
	}
}

// narrow halves the window after an overload.
func (l *lane) narrow(res PushResult) {
	if !res.overloaded() {
		return
	}
	l.narrowings++
	l.closed, l.credit = uint16(l.flow.window-max(l.room()/2, 1)), 0
}

// widen books a success. One from before the last overload says nothing about the narrower window.
func (l *lane) widen(begun standing) {
	if l.closed == 0 || l.narrowings != begun.narrowings {
		return
	}
	if l.credit++; int(l.credit) >= l.room() {
		l.closed, l.credit = l.closed-1, 0
	}
}
