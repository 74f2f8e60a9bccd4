package dropfs

// Syncs returns the number of syncs, and Dropped the number of pages lost so far.
func (d *Disk) Syncs() int   { return d.count(&d.syncs) }
func (d *Disk) Dropped() int { return d.count(&d.dropped) }

func (d *Disk) count(n *int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return *n
}

// Unsynced returns how many pages a power failure could lose right now.
func (d *Disk) Unsynced() (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, img := range d.files {
		n += len(img.dirty)
	}
	return n
}
