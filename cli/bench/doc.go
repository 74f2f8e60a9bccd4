// Package bench measures a running hub as its clients see it and prints each figure as a ratio to what the
// machine can do without a hub.
//
// The hub is a child process of its own. Publishers and subscribers live in the measuring process. Subscribers are
// plain net/http; publishers use the client that the hub delivers with, since net/http's costs three times as much, and a
// raw limit measured with it would flatter the hub. The raw limit is measured with the same publishers and the same sink, wired directly to
// each other, immediately before and after each phase, because machines drift; the ratio uses the median and
// the report shows the spread.
//
// Every delivery is counted by (message, callback), from a number inside the body and not from what the hub
// says about it, so that a lost or doubled message shows. Latency counts from the moment a message was
// scheduled, not from the moment a publisher got around to sending it.
package bench
