// Package intent verifies that callbacks want what was requested for them (WebSub section 5.3), and keeps the hub from being
// used to flood them.
//
// It promises that every pending request in hub.State is settled by an event: confirmed, refused, or given up after its
// attempts. Requests outlive restarts and changes of leadership; only the leader works on them.
//
// It imports hub, delivery/egress and delivery/retry.
package intent
