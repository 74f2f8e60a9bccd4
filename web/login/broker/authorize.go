package broker

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"quorumhub/auth"
	"quorumhub/auth/sequence"
	"quorumhub/auth/ticket"
	"quorumhub/web/login"
)

// asked is what an application has asked for: what is left of its request while somebody logs in. It travels as Request.Return in the
// sealed context of the login, whose cookie bounds its size.
type asked struct {
	Client    string   `json:"c"`
	Redirect  string   `json:"r"`
	State     string   `json:"s,omitempty"`
	Nonce     string   `json:"n,omitempty"`
	Challenge string   `json:"p,omitempty"`
	Scopes    []string `json:"o"`
	Subject   string   `json:"u,omitempty"` // whom the application expects; empty: anybody
	Silent    bool     `json:"q,omitempty"` // nobody may be asked anything
}

// Bounds of a request. maxAsked leaves room in a cookie for what identity providers need.
const (
	maxQuery     = 8 << 10
	maxAsked     = 1600
	challengeLen = 43 // of a SHA-256 in base64url (RFC 7636 section 4.2)
)

// unregistered is the one answer for a client_id that is unknown and a redirect_uri that is another's: there is nobody to send it to.
func unregistered() error {
	return login.Mistake("client_id", "and redirect_uri are not those of an application that is registered here (service_providers in auth.file)")
}

// told is an error that the application is told in its redirect URI (RFC 6749 section 4.1.2.1). It implements login.Answer.
type told struct {
	*Broker
	to   *asked
	what *oidc.Error
}

// Error implements error.
func (t *told) Error() string { return t.what.Error() }

// Answer implements login.Answer.
func (t *told) Answer(w http.ResponseWriter, r *http.Request) {
	t.send(w, r, t.to, &response{Error: string(t.what.ErrorType), Description: t.what.Description})
}

// response is what an application gets in its redirect URI, with RFC 9207's iss.
type response struct {
	Code        string `schema:"code,omitempty"`
	Error       string `schema:"error,omitempty"`
	Description string `schema:"error_description,omitempty"`
	State       string `schema:"state,omitempty"`
	Issuer      string `schema:"iss"`
}

// send sends a browser back to an application.
func (b *Broker) send(w http.ResponseWriter, r *http.Request, to *asked, what *response) {
	what.State, what.Issuer = to.State, b.Issuer
	at, err := op.AuthResponseURL(to.Redirect, oidc.ResponseTypeCode, oidc.ResponseModeQuery, what, b.encoder)
	if err != nil {
		login.Fail(w, r, err)
		return
	}
	login.Redirect(w, r, at)
}

// Request implements login.Protocol: an authentication request (OpenID Connect Core section 3.1.2.1).
func (b *Broker) Request(r *http.Request) (*sequence.Request, error) {
	if len(r.URL.RawQuery) > maxQuery {
		return nil, login.Mistake("query", "is too long")
	}
	in, err := op.ParseAuthorizeRequest(r, b.decoder)
	if err == nil {
		err = once(r.Form)
	}
	if err != nil {
		return nil, login.Mistake("query", "is not understood, or has a parameter twice; expected an authentication request of OpenID Connect")
	}
	a, ok := b.application(in.ClientID)
	if !ok || a.terminal || !slices.Contains(a.RedirectURIs(), in.RedirectURI) {
		return nil, unregistered()
	}
	to := &asked{Client: a.ClientID, Redirect: in.RedirectURI, State: in.State, Nonce: in.Nonce, Challenge: in.CodeChallenge,
		Silent: slices.Contains(in.Prompt, oidc.PromptNone)}
	if len(to.State) > maxAsked {
		to.State = "" // it would not fit into the answer either
		return nil, &told{b, to, oidc.ErrInvalidRequest().WithDescription("state is too long")}
	}
	if err := b.check(r, in, a, to); err != nil {
		return nil, &told{b, to, oidc.DefaultToServerError(err, "it cannot be checked")}
	}
	q := &sequence.Request{Interactive: !to.Silent, Hint: r.Form.Get("idp")}
	q.Anew = slices.Contains(in.Prompt, oidc.PromptLogin) || slices.Contains(in.Prompt, oidc.PromptSelectAccount)
	if in.MaxAge != nil {
		q.MaxAge = time.Duration(min(*in.MaxAge, maxMaxAge)) * time.Second
		q.Anew = q.Anew || *in.MaxAge == 0
	}
	kept, err := json.Marshal(to)
	if err != nil {
		return nil, err
	}
	if q.Return = string(kept); len(kept) > maxAsked {
		return nil, &told{b, to, oidc.ErrInvalidRequest().WithDescription("state, nonce and the others are too long together")}
	}
	return q, nil
}

// maxMaxAge is longer than any session, in seconds.
const maxMaxAge = 366 * 24 * 3600

// check checks what an application asks for, and completes to. Errors are *oidc.Error.
func (b *Broker) check(r *http.Request, in *oidc.AuthRequest, a *application, to *asked) (err error) {
	for _, name := range []string{"request", "request_uri", "registration", "claims"} {
		if r.Form.Has(name) {
			return oidc.ErrRequestNotSupported().WithDescription("%s is not supported", name)
		}
	}
	ctx := op.ContextWithIssuer(r.Context(), b.Issuer)
	if to.Subject, err = op.ValidateAuthRequestClient(ctx, in, a, b.IDTokenHintVerifier(ctx)); err != nil {
		return err
	}
	switch {
	case in.ResponseMode != "" && in.ResponseMode != oidc.ResponseModeQuery:
		return oidc.ErrInvalidRequest().WithDescription("response_mode: expected query")
	case !slices.Contains(in.Scopes, oidc.ScopeOpenID):
		return oidc.ErrInvalidScope().WithDescription("scope: expected openid among others")
	case in.CodeChallenge == "" && in.CodeChallengeMethod != "":
		return oidc.ErrInvalidRequest().WithDescription("code_challenge_method without a code_challenge")
	case in.CodeChallenge == "" && a.public():
		return oidc.ErrInvalidRequest().WithDescription("code_challenge is missing, which an application without a secret must send (RFC 7636)")
	case in.CodeChallenge != "" && (in.CodeChallengeMethod != oidc.CodeChallengeMethodS256 || len(in.CodeChallenge) != challengeLen):
		return oidc.ErrInvalidRequest().WithDescription("code_challenge_method: expected S256, and a code_challenge of %d characters", challengeLen)
	}
	for _, scope := range in.Scopes {
		if !slices.Contains(to.Scopes, scope) {
			to.Scopes = append(to.Scopes, scope)
		}
	}
	return nil
}

// Provider implements login.Protocol.
func (b *Broker) Provider(_ *http.Request, q *sequence.Request) (string, error) {
	_, a, err := b.asker(q.Return)
	if err != nil {
		return "", err
	}
	return a.Name, nil
}

// asker returns who asks, and for what. It is registered as it was when it asked.
func (b *Broker) asker(kept string) (*asked, *application, error) {
	to := new(asked)
	if err := json.Unmarshal([]byte(kept), to); err != nil {
		return nil, nil, unregistered()
	}
	a, ok := b.application(to.Client)
	if !ok || !slices.Contains(a.RedirectURIs(), to.Redirect) {
		return nil, nil, unregistered()
	}
	return to, a, nil
}

// Respond implements login.Protocol: the application gets a code, or is told why there is none.
func (b *Broker) Respond(w http.ResponseWriter, r *http.Request, res *sequence.Result) {
	to, a, err := b.asker(res.Return)
	switch {
	case errors.Is(res.Err, sequence.ErrContext):
		login.Stop(w, r, res.Err, b.base+"/login")
		return
	case err != nil:
		login.Fail(w, r, err)
		return
	}
	if why := refusal(to, res); why != nil {
		(&told{b, to, why}).Answer(w, r)
		return
	}
	code, err := b.code(to, a, res)
	if err != nil {
		login.PeerOf(r.Context()).Refused(r.Context(), err)
		(&told{b, to, oidc.ErrServerError().WithDescription("no code can be issued")}).Answer(w, r)
		return
	}
	b.send(w, r, to, &response{Code: code})
}

// refusal returns why an application gets no code; nil: it gets one.
func refusal(to *asked, res *sequence.Result) *oidc.Error {
	switch {
	case res.Status == sequence.Authenticated && res.Session == nil:
		return oidc.ErrAccessDenied().WithDescription("its sequence begins no session that tokens could belong to")
	case res.Status == sequence.Authenticated && to.Subject != "" && res.Principal.ID != to.Subject:
		return oidc.ErrLoginRequired().WithDescription("somebody else is logged in than the id_token_hint names")
	case res.Status == sequence.Authenticated:
		return nil
	case errors.Is(res.Err, auth.ErrUnavailable):
		return &oidc.Error{ErrorType: "temporarily_unavailable", Description: "logging in is not possible at the moment"}
	case to.Silent:
		return oidc.ErrLoginRequired().WithDescription("nobody is logged in")
	case errors.Is(res.Err, sequence.ErrHint):
		return oidc.ErrInvalidRequest().WithDescription("idp: there is no such way to log in to the application")
	}
	return oidc.ErrAccessDenied()
}

// code returns the code for a login. It is sealed, so that any node can redeem it.
func (b *Broker) code(to *asked, a *application, res *sequence.Result) (string, error) {
	t := &ticket.Ticket{Client: a.ClientID, Expires: b.until(codeTime, res.Session.Ends), Holder: ticket.Holder{ID: res.Principal.ID}, Scopes: to.Scopes,
		Session: res.Session.ID, Ends: res.Session.Ends, Redirect: to.Redirect, Challenge: to.Challenge, Nonce: to.Nonce}
	_, _ = rand.Read(t.Grant[:]) // never fails
	for i := range res.Session.Passed {
		p := &res.Session.Passed[i]
		if p.At.After(t.AuthTime) {
			t.AuthTime = p.At
		}
		for _, how := range p.Method {
			if !slices.Contains(t.AMR, how) {
				t.AMR = append(t.AMR, how)
			}
		}
	}
	t.Claims = a.release(res.Principal, res.Session.Name, t.AMR)
	text, _, err := b.Verifier.Seal(ticket.Code, t)
	return text, err
}
