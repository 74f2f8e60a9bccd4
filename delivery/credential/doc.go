// Package credential makes callbacks accept the hub's requests: it opens the headers that a subscriber asked for and the
// credentials that an operator has set for a callback, and obtains access tokens (RFC 6749 section 4.4).
//
// It promises that what it opens goes to matching callbacks only, that it appears in no error and no log, that a change in the
// log applies to the next request, and that a token service that fails is not asked more often than every few seconds.
//
// It imports delivery/egress and hub.
package credential
