// Package chaos kills, starves and delays a real hub under load, and checks what its clients saw.
//
// Publishers and subscribers write a Ledger: what was sent and answered, what arrived and how it was
// answered, when the hub ran and how each of its runs ended. The checks read nothing else. What the hub
// reports about itself serves only to learn that a subscription began or ended, and then only to demand more
// of the hub.
//
// README.md lists the checks, the faults, the bugs found and how to run it. One test of it takes up to half a
// minute:
//
//	go test ./test/chaos -run TestI1CrashLoop -v
package chaos
