// Package chaos kills, starves and delays a real hub under load and judges what its clients saw.
//
// Publishers and subscribers write a Ledger: what was sent and answered, what arrived and how it was answered,
// when the hub ran and how each life of it ended. The checks read nothing else; what the hub says about
// itself is used only to learn that a subscription has begun or ended, and then only to ask more of the hub.
package chaos
