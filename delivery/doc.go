// Package delivery is everything that goes out over HTTP: content distribution, verification of intent,
// topic fetches, and the guarded client that all of them use.
//
// It acts on what was applied (hub.Observer), reads messages through hub.MessageReader, and writes what came of
// it back as events through hub.Proposer. It keeps no state of its own that a restart would miss: pending
// requests, pings, cursors and retry budgets all live in hub.State.
package delivery
