// Package cli holds the commands of the quorumhub program, one file a command, and wires the other rooms together.
package cli
