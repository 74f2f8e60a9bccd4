package session

import (
	"time"

	"quorumhub/auth"
)

// New is a login that a session is to begin with.
type New struct {
	Principal *auth.Principal
	Name      string
	Passed    []Passed
	IDToken   string
	// Former is the session whose place the new one takes, in one step; nil: none. Ends is when the new one ends in any case; zero: after
	// the absolute limit.
	Former *Session
	Ends   time.Time
	// Client describes the browser or program, for lists.
	Client string
}
