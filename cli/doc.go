// Package cli implements the commands of the quorumhub program: one file for each command, plus what several commands share (flags,
// streams, calls of the admin API). What is more than a command lives in a package below: cli/node is the composition root, cli/client
// the hub's HTTP API, cli/subscriber the receiving side, cli/local a cluster of child processes. Packages below never import cli.
package cli
