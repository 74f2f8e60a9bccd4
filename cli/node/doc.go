// Package node wires the rooms into one running hub: it opens the files, the log, the outbound clients, access control and the
// HTTP server, and closes them in the order in which work flows. It is the composition root: it may import every room, and only
// commands of cli import it.
package node
