package topics

import "quorumhub/hub"

// Remembered returns how many bodies a policy remembers, and their size.
func Remembered(p hub.DeliveryPolicy) (n, bytes int) {
	d := p.(*delivery) //nolint:forcetypeassert // there is no other
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.known), d.bytes
}
