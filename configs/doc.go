// Package configs defines the configuration of a hub: its type, its defaults, its sources and its validation. It
// imports no other package of this module.
//
// A value comes from one of four sources, in order of increasing precedence: the built-in default, the YAML file,
// the environment (QUORUMHUB_DELIVERY_TIMEOUT) and --set key=value. Every key is declared once, in keys.go; the
// documentation, the sample file, the environment variables and the validation all derive from that list.
//
// Configuration is read once, at startup, and does not reach the replicated state by itself: the node that proposes
// an event copies into it whatever matters to the state.
package configs
