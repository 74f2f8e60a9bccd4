// Package hub is the domain of quorumhub: topics, subscriptions, leases, messages and the rules of a
// WebSub hub (W3C Recommendation of 2018-01-23).
//
// Every change is an event (package hubpb), and State is nothing but the fold of the events. State.Apply is pure:
// no clock, no randomness, no map order, no local configuration, no I/O. All nodes that have applied the same log
// therefore hold the same state (invariant I6). Service turns requests into events.
//
// The package depends on no technology: not on raft, bbolt, echo or net/http. It imports nothing of this module
// but hubpb; what it needs from outside is declared in ports.go as small interfaces.
package hub
