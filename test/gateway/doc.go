// Package gateway tests the gateway from outside: three nodes, services behind it, and callers in front.
package gateway
