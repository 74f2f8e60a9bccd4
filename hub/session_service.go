package hub

import (
	"context"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"quorumhub/hub/hubpb"
)

// loginsPerMinute is how many logins of one network may be continued in a minute.
const loginsPerMinute = 300

// MaxEndedSessions bounds the IDs that one call of EndSessions takes.
const MaxEndedSessions = 1000

// NewSession describes a login that has succeeded.
type NewSession struct {
	// Session is what is recorded. Started is the log's time, or that of the session it continues, which also bounds Ends.
	Session
	// Replaces is the browser's former session, which ends at the same moment; zero: none.
	Replaces SessionID
	// Continues: Replaces goes on under the new ID, because more steps were passed. If it has ended the result is
	// CodeNotFound.
	Continues bool
	// MaxOfPrincipal is how many sessions the principal may have; past it the oldest ends. 0: no limit.
	MaxOfPrincipal int
}

// StartSession records a login, so that every node knows the session once it has applied the event. It returns how many
// older sessions of the principal have ended for it. Every member of the cluster must know feature level 4
// (CodeUnavailable). A full table is CodeLimited. CodeUnavailable, too, if the sealing key of the cookie has been retired
// meanwhile: seal it again and repeat.
func (s *Service) StartSession(ctx context.Context, n *NewSession) (ended int, err error) {
	if err := n.check(); err != nil {
		return 0, err
	}
	ev := &hubpb.SessionStarted{Id: n.ID[:], Continues: n.Continues, Principal: n.Principal, Name: n.Name, Client: n.Client,
		Ends: n.Ends.UnixNano(), SealedWith: keyNumber(n.SealedWith), MaxSessions: limit(n.MaxOfPrincipal)}
	if n.Replaces != (SessionID{}) {
		ev.Replaces = n.Replaces[:]
	}
	for i := range n.Passed {
		p := &n.Passed[i]
		step := &hubpb.PassedStep{Authenticator: p.Authenticator, At: p.At.UnixNano()}
		if p.Key != [16]byte{} {
			step.Key = p.Key[:]
		}
		ev.Passed = append(ev.Passed, step)
	}
	res, err := s.proposeOne(ctx, &hubpb.Event{Kind: &hubpb.Event_SessionStarted{SessionStarted: ev}})
	if err != nil {
		return 0, err
	}
	switch res.Outcome { //nolint:exhaustive // the others need no words of their own
	case OutcomeNotFound:
		return 0, Errorf(CodeNotFound, "the session has ended; log in again")
	case OutcomeFull:
		return 0, &Error{Code: CodeLimited, RetryAfter: time.Minute, Message: "as many sessions as this hub keeps have not ended; try again later, or ask an operator to end some (quorumhub auth end-session)"}
	}
	return int(res.ID), res.Err("session")
}

func (n *NewSession) check() error {
	if err := checkPrincipal("principal", n.Principal); err != nil {
		return err
	}
	for param, text := range map[string]string{"name": n.Name, "client": n.Client} {
		if len(text) > MaxSessionText || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
			return ParamErrorf(param, "has %d bytes, or characters that no list could show; expected at most %d bytes of text", len(text), MaxSessionText)
		}
	}
	if len(n.Passed) == 0 || len(n.Passed) > MaxPassedSteps {
		return ParamErrorf("passed", "has %d steps; expected 1 to %d", len(n.Passed), MaxPassedSteps)
	}
	for i := range n.Passed {
		if a := n.Passed[i].Authenticator; a == "" || len(a) > maxAuthenticatorBytes || !utf8.ValidString(a) {
			return ParamErrorf("passed", "names an authenticator by %d bytes; expected 1 to %d", len(a), maxAuthenticatorBytes)
		}
	}
	return nil
}

const maxAuthenticatorBytes = 64

// SessionEnd is why sessions end before their time.
type SessionEnd = hubpb.SessionEnd

// Reasons for ending sessions.
const (
	SessionLogout   = hubpb.SessionEnd_SESSION_END_LOGOUT
	SessionOperator = hubpb.SessionEnd_SESSION_END_OPERATOR
	SessionProvider = hubpb.SessionEnd_SESSION_END_PROVIDER // the identity provider has ended it
)

// EndingSessions says which sessions to end: those of IDs (at most MaxEndedSessions), or those of a filter, of which one
// field is given, or all.
type EndingSessions struct {
	IDs    []SessionID
	Filter SessionFilter // Principal, or Authenticator with or without Key
	All    bool
	Owner  string // only sessions of this principal; empty: anybody's
	Reason SessionEnd
	By     string // principal who decides it
}

// EndSessions ends sessions and returns their number: each node takes their cookies no more once it has applied the event.
// None at all is CodeNotFound. Authorisation is up to the caller.
func (s *Service) EndSessions(ctx context.Context, e *EndingSessions) (ended int, err error) {
	ev := &hubpb.SessionsEnded{Principal: e.Filter.Principal, Authenticator: e.Filter.Authenticator, All: e.All, Owner: e.Owner, Reason: e.Reason, By: e.By}
	if e.Filter.Key != [16]byte{} {
		ev.Key = e.Filter.Key[:]
	}
	for i := range e.IDs {
		ev.Ids = append(ev.Ids, e.IDs[i][:])
	}
	given := 0
	for _, is := range []bool{len(e.IDs) > 0, e.Filter.Principal != "", e.Filter.Authenticator != "", e.All} {
		if is {
			given++
		}
	}
	switch {
	case given != 1:
		return 0, ParamErrorf("sessions", "are selected in %d ways; expected exactly one of IDs, a principal, an authenticator, or all", given)
	case len(e.IDs) > MaxEndedSessions:
		return 0, ParamErrorf("ids", "are %d; expected at most %d", len(e.IDs), MaxEndedSessions)
	}
	res, err := s.proposeOne(ctx, &hubpb.Event{Kind: &hubpb.Event_SessionsEnded{SessionsEnded: ev}})
	switch {
	case err != nil:
		return 0, err
	case res.Outcome == OutcomeNotFound:
		return 0, Errorf(CodeNotFound, "there is no such session, or it has ended")
	}
	return int(res.ID), res.Err("session")
}

// ClaimLogin consumes the state of a login through the log, before the login is continued: of all claims of one state, on
// any node at any time, exactly one is fresh. After until the login is too old to be continued. client is the network that
// the claim comes from, such as 192.0.2.1 or 2001:db8:1:2::/64: nobody can keep others from logging in, as each network has
// its share (CodeLimited).
func (s *Service) ClaimLogin(ctx context.Context, state [32]byte, client string, until time.Time) (fresh bool, err error) {
	if len(client) > maxAuthenticatorBytes || !utf8.ValidString(client) {
		return false, ParamErrorf("client", "has %d bytes; expected at most %d", len(client), maxAuthenticatorBytes)
	}
	c := &hubpb.Caller{Principal: "network/" + client, MaxNonces: loginsPerMinute}
	return s.claim(ctx, &hubpb.NonceClaimed{Nonce: state[:], Until: until.UnixNano(), Caller: c, Login: true}, QuotaLogins)
}
