// Package hubtest runs a real quorumhub process and real HTTP endpoints around it, for tests that look
// at the product from outside only: what goes over the wire, what the process prints, what is on disk.
//
// A Node is one hub process with its own data directory. A Subscriber and an Origin are HTTP servers on
// loopback whose answers a test scripts and whose requests are recorded as they came. A Ledger keeps what
// clients were told and what subscribers got, and judges the promises of delivery from that alone.
//
// Waiting is always for a condition with a deadline (Eventually, Wait...). Quiet is the one place that lets
// time pass, for the cases where nothing else can show that something does not happen.
package hubtest
