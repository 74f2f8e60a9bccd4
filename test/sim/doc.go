// Package sim runs whole clusters in a testing/synctest bubble: virtual time, a network in memory, real files that are
// kept in a memory file system, and subscribers that answer as a plan says. A minute of a cluster's life takes a
// second or less, so that a night covers ten thousand faults.
//
// A World is one run. Its plan follows from a seed: settings, load, faults. The Ledger compares what was acknowledged
// with what arrived, and checks the invariants I1 to I4 and I6 and that reads are linearizable. The same seed gives
// the same plan, not the same interleaving of goroutines; what a run finds becomes a directed scenario.
//
// Two rules keep virtual time moving. Nobody may wait for anything while holding a mutex, for a goroutine that waits for a
// mutex is not durably blocked. And nothing may wait for the outside: no real connections, no timers of the kernel.
package sim
