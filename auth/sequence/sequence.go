// Package sequence decides who somebody is, in steps: a service provider names a sequence, each of its steps has a strategy over
// named authenticators, and a Processor takes a request through them. It knows no transport: protocols make a Request, and turn the
// Result into an answer. So it can be called in process.
package sequence

import (
	"context"
	"errors"
	"net/url"
	"time"

	"quorumhub/auth"
	"quorumhub/auth/session"
)

// Status is how far a step, or a whole sequence, has come.
type Status = auth.Status

// Statuses.
const (
	// Initial: nothing has been asked for. For a request that nobody interacts with it is the last word: see Result.Challenges.
	Initial = auth.StatusInitial
	// Incomplete: somebody has to act first, see Result.Next.
	Incomplete = auth.StatusIncomplete
	// Authenticated: it is known who it is.
	Authenticated = auth.StatusAuthenticated
	// Failed: credentials were refused, or cannot be checked.
	Failed = auth.StatusFailed
)

// Request is what sequences see of a request. Protocols make it; it is not changed afterwards.
type Request struct {
	// Provider is the service provider that the protocol's validator has found. A callback need not name it.
	Provider string
	// Credentials are those that come with the request itself; nil: none.
	Credentials *auth.Request
	// Session is the one that the request came with; nil: none.
	Session *session.Session
	// Interactive: a person is there, who can be shown pages and be sent elsewhere.
	Interactive bool
	// Hint is the authenticator that the request asks for. It chooses in the first step that leaves a choice, and must be one of that
	// step's. Of a callback it is the authenticator at whose URL the callback arrived. Empty: none.
	Hint string
	// MaxAge is how long ago steps may have been passed; 0: as long as the session lives. Anew demands all steps again.
	MaxAge time.Duration
	Anew   bool
	// Return is where the request was going, for the protocol. It comes back in the Result of the last callback, or is empty there if it
	// was too long (MaxReturn).
	Return string

	// Callback: the request continues a sequence. Context is what Result.Context was, as the client gives it back, and Form the
	// parameters of the callback or of the form that was sent: FieldState, and FieldChoice if there was something to choose.
	Callback bool
	Context  string
	Form     url.Values
	// Client identifies where the request comes from, for the share of claims.
	Client string
	// Device is what lists of sessions call the browser or program; empty: Client.
	Device string
}

// Result is what a Processor made of a Request.
type Result struct {
	Status Status
	// Provider and Return are those of the request that began the sequence; empty if a callback's context could not be opened.
	Provider, Return string
	// Principal is who it is, if Status is Authenticated, and Session the session that the sequence began or went on with. Cookie is
	// the new content of the session's cookie; empty: unchanged.
	Principal *auth.Principal
	Session   *session.Session
	Cookie    string
	// Next is what somebody has to do, if Status is Incomplete. Context is what the client must give back with it, and State the 256 bits
	// that must come with it in FieldState.
	Next           *Interaction
	Context, State string
	// Challenges are the WWW-Authenticate values for a request that nobody interacts with.
	Challenges []string
	// Err says why Status is Failed: *auth.RefusalError, auth.ErrUnavailable (wrapped), ErrContext, ErrHint or ErrProvider (wrapped), or
	// what auth.Request.Afford returned. If Status is Incomplete it says why the attempt before was in vain; nil: there was none. Its
	// text is for the log.
	Err error
	// Trail is what each step did, for explain and for the audit log.
	Trail []Trace
}

// Trace is what one authenticator did in one step.
type Trace struct {
	Step          int // from 1
	Strategy      string
	Authenticator string
	Status        Status
	Reason        string
}

// Interaction is what somebody has to do; exactly one field is set.
type Interaction struct {
	// Redirect is the URL of an identity provider.
	Redirect string
	// Choose is the list of authenticators to choose from.
	Choose []Choice
	// Form is to be filled in here.
	Form *Form
}

// Choice is an authenticator that can be chosen.
type Choice struct{ Name, Label string }

// Form is what an authenticator asks for on a page of ours.
type Form struct {
	Authenticator, Label string
	Fields               []Field
	// Wrong: what was filled in before was refused. Left is how often it may still be tried; negative: without limit.
	Wrong bool
	Left  int
}

// Field is a field of a Form.
type Field struct {
	Name, Label  string
	Secret       bool
	Autocomplete string // as in HTML: username, current-password, one-time-code
}

// Errors of a Result.
var (
	// ErrContext: the callback's context is missing, foreign, expired, truncated, forged or used before.
	ErrContext = errors.New("the login cannot be continued")
	// ErrProvider: there is no service provider of this name.
	ErrProvider = errors.New("no such service provider")
	// ErrHint: the request asks for an authenticator that is none of the step's.
	ErrHint = errors.New("no such way to log in here")
)

// Fields of a callback's Form.
const (
	FieldState  = "state" // what Result.State was
	FieldChoice = "idp"   // the name of a Choice
)

// MaxReturn is the longest Request.Return that is kept, in bytes.
const MaxReturn = 1024

// Interactive is an authenticator that needs somebody to act: an identity provider, or a form. Safe for concurrent use.
type Interactive interface {
	Name() string
	Label() string
	// Ready returns nil if the authenticator can be used now, or auth.ErrUnavailable (wrapped). It answers at once or asks the identity
	// provider, until ctx ends.
	Ready(ctx context.Context) error
	// Start begins. Private, at most MaxPrivate bytes, is kept, sealed, in the context until Finish.
	Start(ctx context.Context, s *Start) (next *Interaction, private []byte, err error)
	// Finish takes what came back. Errors are *auth.RefusalError, or auth.ErrUnavailable (wrapped).
	Finish(ctx context.Context, f *Finish) (*Identity, error)
}

// MaxPrivate is how much an Interactive may keep, in bytes.
const MaxPrivate = 1024

// Start is what an Interactive needs to begin.
type Start struct {
	// State is the 256 bits that the callback must bring back.
	State string
	// Callback is the absolute URL at which the authenticator's answer is expected.
	Callback string
	MaxAge   time.Duration
	Anew     bool
}

// Finish is what came back to an Interactive.
type Finish struct {
	Form     url.Values
	Private  []byte
	Callback string
	// MaxAge and Anew are those of Start.
	MaxAge time.Duration
	Anew   bool
	Client string
}

// Identity is who an authenticator says somebody is.
type Identity struct {
	Principal *auth.Principal
	Name      string
	Passed    session.Passed
	IDToken   string
}
