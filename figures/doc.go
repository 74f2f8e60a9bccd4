// Package figures keeps what a node has measured in the last hour, and adds up what all nodes have.
//
// A Recorder samples its node's counters every Step into a ring in memory. A Cluster asks the Recorders of all nodes when somebody
// looks, and remembers their samples, so that each look costs one small question to each node at most every other second. Nothing is
// stored: the long term is for a monitoring system, which reads the same counters as metrics.
package figures
