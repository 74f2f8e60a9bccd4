// Package interop runs third-party programs against the hub, as child processes on loopback: subscribers and
// publishers in actual use, an independent signature check, and the libraries that sign webhooks. The small drivers in
// clients/ start them and print what they report; `npm ci` in that directory installs those from npm (make deps).
//
// The tests take about ten seconds; single ones run with
//
//	go test ./test/interop -run TestNPMEventSource
//
// A test whose program is not installed is skipped; with CI=true it fails.
package interop
