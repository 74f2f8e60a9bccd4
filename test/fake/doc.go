// Package fake provides the tests of delivery and its packages with a hub in memory, endpoints without sockets, and small
// servers. Only tests import it.
//
// It imports hub and delivery/egress.
package fake
