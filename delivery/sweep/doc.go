// Package sweep proposes what is due with time: expired leases, retention of messages and dead letters, abandoned uploads.
//
// It promises that nothing is dropped but by an event, so that all nodes drop the same. Only the leader sweeps.
//
// It imports hub and delivery/retry, and never opens a connection.
package sweep
