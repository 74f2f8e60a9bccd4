package delivery

import "math"

// window is how many messages a lane of a flow may have in flight: its subscription's window, halved by every
// overload (429, or no answer in time) down to one, and one more after as many successes as it is wide. It is local
// to this node: another owner starts with the whole window. All fields are guarded by Dispatcher.mu.
type window struct {
	closed     uint16 // places of the subscription's window that are closed
	credit     uint16 // successes since it last grew or shrank
	narrowings uint32 // overloads that narrowed it
}

// standing is a lane's failure counts when an attempt began. A failure counts only if no other was counted meanwhile.
type standing struct {
	failures   uint64
	narrowings uint32
}

// room returns the current width of the lane's window.
func (l *lane) room() int { return max(l.flow.window-int(l.closed), 1) }

// width returns how many workers may serve the lane of a flow now. A sick endpoint is probed with one message.
func (l *lane) width() int {
	if l.sick {
		return 1
	}
	return l.room()
}

// countOverload updates the count of overloads in a row after a failure.
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

// widen records a success. A success that began before the last overload says nothing about the narrower window.
func (l *lane) widen(begun standing) {
	if l.closed == 0 || l.narrowings != begun.narrowings {
		return
	}
	if l.credit++; int(l.credit) >= l.room() {
		l.closed, l.credit = l.closed-1, 0
	}
}
