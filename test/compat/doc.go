// Package compat replays what clients of Ballerina, WSO2 and MOSIP hubs send, and compares what the hub answers and sends
// with what those hubs do, byte for byte where their clients look.
package compat
