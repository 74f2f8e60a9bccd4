// Package interop runs programs of other people against the hub, as child processes on loopback: subscribers
// and publishers as they are used in the wild, and an independent check of signatures. The small drivers in
// clients/ start them and print what they report; `npm ci` in that directory installs the ones from npm.
//
// A program that is not installed skips its test; with CI=true it fails it.
package interop
