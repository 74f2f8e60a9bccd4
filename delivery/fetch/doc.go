// Package fetch gets the content of foreign topics after thin pings.
//
// It promises that every ping in hub.State is answered by an event: new content, no change, a failure, or no subscribers.
// Pings outlive restarts and changes of leadership; only the leader fetches.
//
// It imports hub, delivery/egress and delivery/retry.
package fetch
