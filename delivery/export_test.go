package delivery

// HandOverAtOnce releases draining lanes without waiting for their attempts in flight, which are cut off.
func (d *Dispatcher) HandOverAtOnce() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, l := range d.lanes {
		if l.draining && l.state == laneRunning {
			l.worker.cutLocked(errMoved)
			d.releaseLocked(l)
		}
	}
}

// Pointed returns a message's key, given its body.
func Pointed(body []byte, key string) []byte { return pointed(body, newKeying(key).path) }
