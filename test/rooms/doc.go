// Package rooms checks the layout of the project: which room may import which, where echo, bbolt and net/http
// may be used, how long a file may be and what a package may not be called (see ARCHITECTURE.md).
package rooms
