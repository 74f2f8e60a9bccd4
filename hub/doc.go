// Package hub is the domain of quorumhub: topics, subscriptions, leases, messages and the rules of a
// WebSub hub (W3C Recommendation of 2018-01-23).
//
// Everything that happens is an event (package hubpb). State is the fold of the events and nothing else;
// State.Apply is pure: no clock, no randomness, no map order, no local configuration, no I/O, so that all
// nodes that applied the same log hold the same state (invariant I6). Service turns requests into events.
//
// The package knows no technology: not raft, bbolt, echo or net/http. What it needs from outside stands in
// ports.go as small interfaces.
package hub
