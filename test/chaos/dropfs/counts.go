package dropfs

// Syncs counts the syncs, and Dropped the pages that were lost so far.
func (d *Disk) Syncs() int   { return d.count(&d.syncs) }
func (d *Disk) Dropped() int { return d.count(&d.dropped) }

func (d *Disk) count(n *int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return *n
}

// Unsynced is how many pages a failure could take at this moment.
func (d *Disk) Unsynced() (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, img := range d.files {
		n += len(img.dirty)
	}
	return n
}
