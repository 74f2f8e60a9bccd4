// Package upstream calls the services behind the gateway: a Pool spreads the calls of one upstream over its addresses,
// takes out those that fail, repeats what may be repeated, and stops calling when nothing answers.
//
// It promises that bodies stream in both directions without being held, that no wait is unbounded, that hop-by-hop fields
// stay on their hop, and that what a client learns of a failure is its Class, never an address or a text of the service.
// Which addresses may be reached is decided by the http.RoundTripper that the Pool is given, not here.
//
// It imports web/problem only.
package upstream
