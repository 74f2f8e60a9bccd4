package delivery

import "math"

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
