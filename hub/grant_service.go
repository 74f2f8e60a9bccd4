package hub

import (
	"context"
	"errors"
	"time"

	"quorumhub/hub/hubpb"
)

// Errors of grants and of programs that wait.
var (
	// ErrGrantEnded means that a grant, or its session, has ended, or that there never was one.
	ErrGrantEnded = errors.New("the grant has ended")
	// ErrTokenReused means that a token was used before. The grant has ended because of it.
	ErrTokenReused = errors.New("the token was used before, so its grant has ended")
	// ErrCodeTaken means that a user code is in use.
	ErrCodeTaken = errors.New("the user code is in use")
)

// GrantUse is the use of a token, of which each may be used once.
type GrantUse struct {
	Grant      GrantID
	Generation uint32 // of the token; 0: it is the code
	// The code also says what the grant is.
	Session SessionID
	Client  string
	Until   time.Time
	// SealedWith is the ID of the sealing key of the token that follows.
	SealedWith string
}

// UseGrant uses a token up through the log: of all uses on all nodes one succeeds. Errors are ErrGrantEnded and ErrTokenReused.
func (s *Service) UseGrant(ctx context.Context, u *GrantUse) error {
	e := &hubpb.GrantAdvanced{Grant: u.Grant[:], Generation: u.Generation, SealedWith: keyNumber(u.SealedWith)}
	if u.Generation == 0 {
		e.Session, e.Client, e.Until = u.Session[:], u.Client, nanos(u.Until)
	}
	res, err := s.proposer.Propose(ctx, &hubpb.Event{Kind: &hubpb.Event_GrantAdvanced{GrantAdvanced: e}})
	switch {
	case err != nil:
		return err
	case res[0].Outcome == OutcomeNotFound:
		return ErrGrantEnded
	case res[0].Outcome == OutcomeStale:
		return ErrTokenReused
	}
	return res[0].Err("grant")
}

// EndGrants ends grants. Unknown ones are ignored.
func (s *Service) EndGrants(ctx context.Context, ids ...GrantID) error {
	e := &hubpb.GrantsEnded{}
	for _, id := range ids {
		e.Grants = append(e.Grants, id[:])
	}
	_, err := s.propose(ctx, "grant", &hubpb.Event{Kind: &hubpb.Event_GrantsEnded{GrantsEnded: e}})
	return err
}

// RequestDevice records a program that waits for somebody to log in for it; network is whose share it takes. Errors are ErrCodeTaken, and
// CodeLimited for a network with too many of them.
func (s *Service) RequestDevice(ctx context.Context, d *Device, network string) error {
	limited := &Error{Code: CodeLimited, Message: "too many programs from your network wait for somebody to log in; try again in a few minutes", RetryAfter: time.Minute}
	full := false // then nothing is written to the log
	s.state.View(func(st *State) { full = st.devices.crowded(network, max(st.meta.Now, nanos(s.now()))) })
	if full {
		return limited
	}
	res, err := s.proposer.Propose(ctx, &hubpb.Event{Kind: &hubpb.Event_DeviceRequested{DeviceRequested: &hubpb.DeviceRequested{
		Device: d.ID[:], UserCode: d.UserCode, Client: d.Client, From: d.From, Network: network, Until: nanos(d.Until)}}})
	switch {
	case err != nil:
		return err
	case res[0].Outcome == OutcomeStale:
		return ErrCodeTaken
	case res[0].Outcome == OutcomeQuota:
		return limited
	}
	return res[0].Err("device")
}

// DecideDevice records what somebody decided about a program that waits: with a session, that it may have it. ErrGrantEnded means that
// it waits no more.
func (s *Service) DecideDevice(ctx context.Context, id DeviceID, session *SessionID, ticket []byte) error {
	e := &hubpb.DeviceDecided{Device: id[:], Denied: session == nil}
	if session != nil {
		e.Session, e.Ticket = session[:], ticket
	}
	res, err := s.proposer.Propose(ctx, &hubpb.Event{Kind: &hubpb.Event_DeviceDecided{DeviceDecided: e}})
	switch {
	case err != nil:
		return err
	case res[0].Outcome == OutcomeNotFound:
		return ErrGrantEnded
	}
	return res[0].Err("device")
}
