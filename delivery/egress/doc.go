// Package egress is the only way out of a node: a guard that decides which addresses may be called, and the HTTP client
// that obeys it. No other package of delivery opens sockets.
//
// It promises that every connection goes to an address that the Policy has allowed, judged on the concrete address right
// before the dial, so that neither redirects, proxies of the environment nor names that resolve differently the second time lead past it.
// Of failures it reveals no more than a Reason.
//
// It imports hub only.
package egress
