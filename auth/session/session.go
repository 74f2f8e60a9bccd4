// Package session keeps who has logged in: the secret in the browser's cookie, and what the cluster knows of it.
//
// A session is one row in the replicated state, so that every node can list it and end it, and a sealed cookie that holds what only
// this browser's requests need. The row has the hash of the cookie's secret, never the secret.
package session

import (
	"time"

	"quorumhub/auth"
)

// Session is a login. Treat it as immutable.
type Session struct {
	// ID is the SHA-256 of the secret in the cookie; lists show its first 12 hexadecimal digits.
	ID [32]byte
	// Principal is who has logged in.
	Principal *auth.Principal
	// Name is what pages call the principal.
	Name string
	// Passed are the steps that were passed, in the order of time.
	Passed []Passed
	// Started is the login, Seen the last request that counts as use, and Ends the moment after which the session is over in any case.
	Started, Seen, Ends time.Time
	// IDToken is what the identity provider wants to see at a logout that begins here; empty: not kept.
	IDToken string
}

// Passed is a step of a sequence that succeeded.
type Passed struct {
	// Authenticator is the name under which auth.file has it: an identity provider's, or one that Gate.Way knows.
	Authenticator string
	// Method says how, as in RFC 8176: pwd, otp, hwk. Empty: the identity provider did not say.
	Method []string
	At     time.Time
	// Key is whom the provider calls what (sub) in which session of its own (sid), hashed, by which a back-channel logout ends this
	// session, see KeyMatches; zero: none.
	Key [16]byte
}

// Fresh reports whether an authenticator was passed since a moment.
func (s *Session) Fresh(authenticator string, since time.Time) bool {
	for i := range s.Passed {
		if s.Passed[i].Authenticator == authenticator && !s.Passed[i].At.Before(since) {
			return true
		}
	}
	return false
}
