package delivery

import (
	"time"

	"quorumhub/hub"
)

// Switches that take one guard away each.

func (o *DispatcherOptions) WithoutOwnership() { o.without.ownership = true }
func (o *DispatcherOptions) WithoutLease()     { o.without.lease = true }
func (o *DispatcherOptions) WithoutCatchUp()   { o.without.catchUp = true }
func (o *DispatcherOptions) WithoutDrain()     { o.without.drain = true }
func (o *PlacerOptions) WithoutMoveAfter()     { o.without.moveAfter = true }

// Pointed is the key of a message by its body.
func Pointed(body []byte, key string) []byte { return pointed(body, newKeying(key).path) }

// DelayFor is the wait after the n-th failure in a row, the n-th refusal of its message too, of which the last were overloads.
func (p RetryPolicy) DelayFor(o *hub.Options, n int, overloads uint8, res PushResult) time.Duration {
	return p.with(o).delay(uint64(n), uint32(n), overloads, res)
}
