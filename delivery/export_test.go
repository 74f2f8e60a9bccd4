package delivery

// HandOverAtOnce releases draining lanes without waiting for the attempts in flight, which are cut off.
func (d *Dispatcher) HandOverAtOnce() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, l := range d.lanes {
		if l.draining && l.state == laneRunning {
			l.worker.cut(errMoved)
			d.release(l)
		}
	}
}

// Pointed is the key of a message by its body.
func Pointed(body []byte, key string) []byte { return pointed(body, newKeying(key).path) }
