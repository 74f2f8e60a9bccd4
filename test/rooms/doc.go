// Package rooms checks the layout of the project: which room may import which, where echo, bbolt and net/http
// may be used, how long files and functions may be, what a package may not be called, that no production type
// has a switch for tests, and that the tests named in the documents exist (see ARCHITECTURE.md). It takes a
// few seconds: go test ./test/rooms.
package rooms
