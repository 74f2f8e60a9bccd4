// Package delivery distributes content (WebSub section 7). It promises every message of a topic to each of its
// subscriptions at least once and in the order its delivery mode asks for, from exactly one node at a time.
//
// The Dispatcher does the work. It learns what was applied as a hub.Observer, reads messages through
// hub.MessageReader, and records cursors, dead letters and ended subscriptions as events through hub.Proposer. The
// Replayer sends dead letters again. Neither keeps state that a restart would lose: cursors and retry budgets live in
// hub.State.
//
// One mutex, Dispatcher.mu, guards the dispatcher and its lanes, flows, hosts and queues. Methods of Dispatcher that
// need it held end in Locked; those that release and retake it midway end in Unlocks. Methods of the other types need
// it held.
//
// The package imports hub, delivery/egress for connections, and delivery/retry for schedules. It knows none of its
// siblings: intent, fetch, placement and sweep.
package delivery
