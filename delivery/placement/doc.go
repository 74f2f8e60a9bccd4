// Package placement chooses the owner of each subscription.
//
// It promises even shares by weight with as few moves as possible, and that a subscription whose owner may still deliver it
// is not given to another node (invariant I4). It only proposes assignments; nodes act on those that come back from the log.
//
// It imports hub and delivery/retry, and never opens a connection.
package placement
