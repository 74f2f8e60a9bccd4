package delivery

// markLocked has a lane's cursor written.
func (d *Dispatcher) markLocked(l *lane) {
	if l.dirty {
		return
	}
	l.dirty = true
	d.dirty = append(d.dirty, l)
	if len(d.dirty) == 1 {
		d.notify()
	}
}

// markFlowLocked has a flow's cursor written.
func (d *Dispatcher) markFlowLocked(f *flow) {
	if f.group == 0 {
		if len(f.members) > 0 {
			d.markLocked(f.members[0])
		}
		return
	}
	if f.dirty {
		return
	}
	f.dirty = true
	d.dirtyFlows = append(d.dirtyFlows, f)
	d.notify()
}

// settleLocked hands a settlement to the recorder. Its lane waits.
func (d *Dispatcher) settleLocked(s settlement) {
	s.lane.state = laneSettling
	d.settle = append(d.settle, s)
	d.notify()
}

// notify wakes the recorder.
func (d *Dispatcher) notify() {
	select {
	case d.note <- struct{}{}:
	default:
	}
}
