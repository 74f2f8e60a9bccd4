// Package hubtest runs a real quorumhub process with real HTTP endpoints around it, for tests that see the
// product only from the outside: what goes over the wire, what the process prints, what is on disk.
//
// A Node is one hub process with its own data directory. A Subscriber and an Origin are HTTP servers on
// loopback; a test scripts their answers, and they record every request as it arrived. A Ledger records what
// clients were told and what subscribers received, and checks the delivery guarantees from that alone.
//
// Tests wait for conditions with a deadline (Eventually, Wait...). Only three functions let time pass: Quiet,
// where nothing else can show that something does not happen; Until, for a moment the hub has announced; and
// Pause, in clients and servers that are slow on purpose.
//
// The package imports nothing of the product. Its own tests take less than a second: go test ./test/hubtest.
package hubtest
