// Package configs holds the configuration of a hub: its type, its defaults, where it may come from and
// what it must satisfy.
//
// A value comes from one of four places, the later one winning: the built-in default, the YAML file, the
// environment (QUORUMHUB_DELIVERY_TIMEOUT) and --set key=value. Every key is declared once, in keys.go; the
// documentation, the sample file, the names in the environment and the checks are made from that one list.
//
// Nothing here is read again after the start, and nothing here reaches the replicated state by itself: what
// matters to it is stamped into an event by the node that proposes it.
package configs
