package auth

import (
	"context"
	"net/http"
	"strings"
)

// TicketPrefix begins every access token of quorumhub login, so that secret scanners recognise one.
const TicketPrefix = "qht_"

// TicketLookup tells who has an access token that this hub has issued. Safe for concurrent use.
type TicketLookup interface {
	// Principal returns who has it, and what tells later whether the session goes on that it belongs to. The error says why it is not
	// good, for the log.
	Principal(ctx context.Context, text string) (p *Principal, lives func() bool, err error)
}

// Tickets authenticates the access tokens of quorumhub login, sent as bearer tokens. They end with the session that they belong to.
type Tickets struct{ lookup TicketLookup }

// NewTickets makes an Authenticator for access tokens that this hub has issued.
func NewTickets(lookup TicketLookup) *Tickets { return &Tickets{lookup} }

// OfSessions says that the principals have sessions.
func (*Tickets) OfSessions() {}

// Challenge is the one for bearer tokens.
func (t *Tickets) Challenge() string { return bearerChallenge }

// Authenticate checks a token.
func (t *Tickets) Authenticate(ctx context.Context, r *Request) (*Principal, error) {
	text, ok, err := presentedTicket(r.HTTP)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, ErrNotMine
	}
	p, lives, err := t.lookup.Principal(ctx, text)
	if err != nil {
		return nil, refuse(MethodSession, "access token: %v", err)
	}
	p.again = func(context.Context) (*Principal, error) {
		if !lives() {
			return nil, refuse(MethodSession, "access token: its session has ended, or it was revoked")
		}
		return p, nil
	}
	return p, nil
}

// presentedTicket returns the token of a request, and whether it has one.
func presentedTicket(r *http.Request) (text string, ok bool, err error) {
	given := r.Header["Authorization"]
	for _, line := range given {
		scheme, value, _ := strings.Cut(line, " ")
		if value = strings.TrimSpace(value); strings.EqualFold(scheme, "Bearer") && strings.HasPrefix(value, TicketPrefix) {
			text, ok = value, true
		}
	}
	if ok && len(given) > 1 {
		return "", false, refuse(MethodSession, "more than one Authorization header")
	}
	return text, ok, nil
}
