package broker

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"quorumhub/auth/ticket"
	"quorumhub/hub"
)

const (
	// codeTime is how long a code may be used (RFC 6749 section 4.1.2), and accessTime how long an access token and an ID token are good.
	codeTime   = time.Minute
	accessTime = 10 * time.Minute
)

// server makes the library ask the broker. It implements op.Server; the library reads requests and writes answers.
type server struct {
	op.UnimplementedServer
	*Broker
}

// attempt is what became of a request to the library, for the client's budget and for the log.
type attempt struct {
	reason error // why it was refused; nil: it was not, or it is no news
}

type attemptKey struct{}

// refuse notes why a request is refused, and returns the answer.
func refuse(ctx context.Context, answer *oidc.Error, reason error) error {
	if a, ok := ctx.Value(attemptKey{}).(*attempt); ok {
		a.reason = reason
	}
	if answer.ErrorType == oidc.InvalidClient {
		return op.NewStatusError(answer, http.StatusUnauthorized)
	}
	return answer
}

// badGrant is the one answer for whatever is wrong with a code or refresh token.
func badGrant(ctx context.Context, reason error) error {
	return refuse(ctx, oidc.ErrInvalidGrant().WithDescription("it is not valid, or not any more"), reason)
}

// discovery is the document of OpenID Connect Discovery 1.0 section 3, with what RFC 9207 section 3 adds.
type discovery struct {
	*oidc.DiscoveryConfiguration
	IssInResponse bool `json:"authorization_response_iss_parameter_supported"`
}

// Discovery implements op.Server.
func (s server) Discovery(context.Context, *op.Request[struct{}]) (*op.Response, error) {
	at := func(path string) string { return s.Issuer + path }
	methods := []oidc.AuthMethod{oidc.AuthMethodBasic, oidc.AuthMethodPost, oidc.AuthMethodNone}
	return op.NewResponse(&discovery{&oidc.DiscoveryConfiguration{
		Issuer:                           s.Issuer,
		AuthorizationEndpoint:            at("/authorize"),
		TokenEndpoint:                    at("/token"),
		UserinfoEndpoint:                 at("/userinfo"),
		RevocationEndpoint:               at("/revoke"),
		IntrospectionEndpoint:            at("/introspect"),
		EndSessionEndpoint:               at("/end_session"),
		JwksURI:                          at("/jwks"),
		DeviceAuthorizationEndpoint:      s.PublicURL + devicePath,
		ScopesSupported:                  []string{oidc.ScopeOpenID, oidc.ScopeProfile, oidc.ScopeEmail, oidc.ScopeOfflineAccess},
		ResponseTypesSupported:           []string{string(oidc.ResponseTypeCode)},
		ResponseModesSupported:           []string{string(oidc.ResponseModeQuery)},
		GrantTypesSupported:              []oidc.GrantType{oidc.GrantTypeCode, oidc.GrantTypeRefreshToken, oidc.GrantTypeDeviceCode},
		SubjectTypesSupported:            []string{"public"},
		IDTokenSigningAlgValuesSupported: []string{string(jose.ES256)},
		CodeChallengeMethodsSupported:    []oidc.CodeChallengeMethod{oidc.CodeChallengeMethodS256},
		ClaimsSupported:                  []string{"iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "amr", "azp"},

		TokenEndpointAuthMethodsSupported:         methods,
		RevocationEndpointAuthMethodsSupported:    methods,
		IntrospectionEndpointAuthMethodsSupported: methods[:2],
	}, true}), nil
}

// Keys implements op.Server.
func (s server) Keys(ctx context.Context, _ *op.Request[struct{}]) (*op.Response, error) {
	keys, err := storage{s.Broker}.KeySet(ctx)
	if err != nil {
		return nil, op.NewStatusError(err, http.StatusInternalServerError)
	}
	set := &jose.JSONWebKeySet{}
	for _, k := range keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{KeyID: k.ID(), Algorithm: string(k.Algorithm()), Use: k.Use(), Key: k.Key()})
	}
	return op.NewResponse(set), nil
}

// VerifyClient implements op.Server. All that is wrong gets one answer.
func (s server) VerifyClient(ctx context.Context, r *op.Request[op.ClientCredentials]) (op.Client, error) {
	a, known := s.application(r.Data.ClientID)
	given := r.Data.ClientSecret
	var reason error
	switch proven := a.proves(given); {
	case r.Data.ClientAssertion != "" || r.Data.ClientAssertionType != "":
		reason = errors.New("authenticates by an assertion")
	case r.Header.Get("Authorization") != "" && r.Form.Has("client_secret"):
		reason = errors.New("authenticates in two ways")
	case !known:
		reason = errors.New("is not registered")
	case a.public() && given != "":
		reason = errors.New("has no secret, and sent one")
	case !a.public() && !proven:
		reason = errors.New("sent a wrong secret")
	}
	if reason != nil {
		return nil, refuse(ctx, oidc.ErrInvalidClient().WithDescription("the application is unknown, or did not authenticate as it is registered"),
			fmt.Errorf("application %q %w", clip(r.Data.ClientID), reason))
	}
	return a, nil
}

// CodeExchange implements op.Server.
func (s server) CodeExchange(ctx context.Context, r *op.ClientRequest[oidc.AccessTokenRequest]) (*op.Response, error) {
	t, err := s.Verifier.Open(ticket.Code, r.Data.Code)
	if err == nil {
		err = checkCode(t, r)
	}
	if err != nil {
		return nil, badGrant(ctx, fmt.Errorf("code of application %q: %w", r.Client.GetID(), err))
	}
	renews := slices.Contains(t.Scopes, oidc.ScopeOfflineAccess)
	of := &subject{ticket: t, scopes: t.Scopes, renews: renews}
	until := t.Ends
	if !renews {
		until = s.until(accessTime+codeTime, t.Ends)
	}
	if err := s.use(ctx, of, &hub.GrantUse{Grant: t.Grant, Session: t.Session, Client: t.Client, Until: until}); err != nil {
		return nil, err
	}
	return answer(op.CreateTokenResponse(s.issuing(ctx), redeemed{of}, r.Client, s, true, r.Data.Code, ""))
}

// checkCode checks that a code is used by whom it is for, with the proof of RFC 7636. A proof that nobody asked for is a sign that the
// challenge was taken out on the way (RFC 9700 section 4.8.2).
func checkCode(t *ticket.Ticket, r *op.ClientRequest[oidc.AccessTokenRequest]) error {
	a, ok := r.Client.(*application)
	switch {
	case !ok || t.Client != a.ClientID || a.terminal:
		return fmt.Errorf("is for %q", t.Client)
	case t.Redirect != r.Data.RedirectURI:
		return errors.New("the redirect_uri is another one than at the start")
	case t.Challenge == "" && r.Data.CodeVerifier != "":
		return errors.New("has a code_verifier, but began without a code_challenge")
	case t.Challenge == "" && a.public():
		return errors.New("has no code_challenge, which is required of an application without a secret")
	case t.Challenge == "":
		return nil
	case len(r.Data.CodeVerifier) < minVerifier || len(r.Data.CodeVerifier) > maxVerifier:
		return fmt.Errorf("the code_verifier has %d characters", len(r.Data.CodeVerifier))
	}
	return op.AuthorizeCodeChallenge(r.Data.CodeVerifier, challenge(t.Challenge))
}

// The lengths of a code_verifier (RFC 7636 section 4.1).
const minVerifier, maxVerifier = 43, 128

// challenge returns what the library compares a code_verifier with.
func challenge(text string) *oidc.CodeChallenge {
	if text == "" {
		return nil
	}
	return &oidc.CodeChallenge{Challenge: text, Method: oidc.CodeChallengeMethodS256}
}

// RefreshToken implements op.Server.
func (s server) RefreshToken(ctx context.Context, r *op.ClientRequest[oidc.RefreshTokenRequest]) (*op.Response, error) {
	t, err := s.Verifier.Open(ticket.Refresh, r.Data.RefreshToken)
	switch {
	case err != nil:
	case t.Client != r.Client.GetID():
		err = fmt.Errorf("is for %q", t.Client)
	case !s.Verifier.Renewable(t):
		err = errors.New("its session has ended")
	}
	if err != nil {
		return nil, badGrant(ctx, fmt.Errorf("refresh token of application %q: %w", r.Client.GetID(), err))
	}
	t.Ends = t.Expires
	of := &subject{ticket: t, scopes: t.Scopes, renews: true}
	if err := op.ValidateRefreshTokenScopes(r.Data.Scopes, renewal{of}); err != nil {
		return nil, err
	}
	if err := s.use(ctx, of, &hub.GrantUse{Grant: t.Grant, Generation: t.Generation}); err != nil {
		return nil, err
	}
	if t.Client == ticket.Terminal {
		return answer(op.CreateDeviceTokenResponse(s.issuing(ctx), renewal{of}, s, r.Client))
	}
	return answer(op.CreateTokenResponse(s.issuing(ctx), renewal{of}, r.Client, s, true, "", r.Data.RefreshToken))
}

// use uses up the ticket of a subject and keeps the next one, which renews it.
func (s server) use(ctx context.Context, of *subject, u *hub.GrantUse) (err error) {
	if of.renews {
		if of.refresh, u.SealedWith, err = s.Verifier.Seal(ticket.Refresh, next(of.ticket)); err != nil {
			return op.NewStatusError(err, http.StatusInternalServerError)
		}
	}
	switch err := s.Service().UseGrant(ctx, u); {
	case errors.Is(err, hub.ErrTokenReused), errors.Is(err, hub.ErrGrantEnded):
		return badGrant(ctx, fmt.Errorf("application %q, grant %x of %s: %w", of.ticket.Client, of.ticket.Grant, of.ticket.Holder.ID, err))
	case err != nil:
		return op.NewStatusError(oidc.ErrServerError().WithParent(err).WithDescription("the hub cannot record it now; try again shortly"), http.StatusServiceUnavailable)
	}
	return nil
}

// next returns the refresh token that follows a ticket.
func next(t *ticket.Ticket) *ticket.Ticket {
	n := *t
	n.Redirect, n.Challenge, n.Nonce, n.Session = "", "", "", hub.SessionID{}
	n.Generation, n.Expires = t.Generation+1, t.Ends
	return &n
}

// UserInfo implements op.Server.
func (s server) UserInfo(ctx context.Context, r *op.Request[oidc.UserInfoRequest]) (*op.Response, error) {
	t, err := s.Verifier.Access(ctx, r.Data.AccessToken)
	if err == nil {
		if a, ok := s.application(t.Client); !ok || a.terminal {
			err = fmt.Errorf("is for %q, which is no application", t.Client)
		}
	}
	if err != nil {
		e := refuse(ctx, oidc.ErrAccessDenied().WithDescription("the access token is not valid, or not any more"), fmt.Errorf("userinfo: access token: %w", err))
		return nil, op.NewStatusError(e, http.StatusUnauthorized)
	}
	info := new(oidc.UserInfo)
	setUserInfo(info, t)
	return op.NewResponse(info), nil
}

// Introspect implements op.Server. An application learns about its own tokens only (RFC 7662 section 2.2).
func (s server) Introspect(ctx context.Context, r *op.Request[op.IntrospectionRequest]) (*op.Response, error) {
	client, err := s.VerifyClient(ctx, &op.Request[op.ClientCredentials]{Method: r.Method, URL: r.URL, Header: r.Header, Form: r.Form, Data: r.Data.ClientCredentials})
	if err != nil {
		return nil, err
	}
	out := new(oidc.IntrospectionResponse)
	t, err := s.Verifier.Access(ctx, r.Data.Token)
	if err != nil || t.Client != client.GetID() {
		return op.NewResponse(out), nil //nolint:nilerr // what is not valid is not active
	}
	out.Active, out.Scope, out.ClientID, out.TokenType = true, t.Scopes, t.Client, oidc.BearerToken
	out.Subject, out.Issuer, out.Audience = t.Holder.ID, s.Issuer, []string{t.Client}
	out.Expiration, out.AuthTime, out.AuthenticationMethodsReferences = oidc.FromTime(t.Expires), oidc.FromTime(t.AuthTime), t.AMR
	return op.NewResponse(out), nil
}

// Revocation implements op.Server. What is no ticket of the application's gets the same answer (RFC 7009 section 2.2).
func (s server) Revocation(ctx context.Context, r *op.ClientRequest[oidc.RevocationRequest]) (*op.Response, error) {
	for _, k := range []ticket.Kind{ticket.Refresh, ticket.Access} {
		t, err := s.Verifier.Open(k, r.Data.Token)
		if err != nil || t.Client != r.Client.GetID() {
			continue
		}
		if err := s.end(ctx, t); err != nil {
			return nil, op.NewStatusError(oidc.ErrServerError().WithParent(err).WithDescription("the hub cannot record it now; try again shortly"), http.StatusServiceUnavailable)
		}
	}
	return op.NewResponse(nil), nil
}

// issuing tells the library who issues.
func (s server) issuing(ctx context.Context) context.Context {
	return op.ContextWithIssuer(ctx, s.Issuer)
}

func answer(tokens *oidc.AccessTokenResponse, err error) (*op.Response, error) {
	if err != nil {
		return nil, op.NewStatusError(oidc.ErrServerError().WithParent(err), http.StatusInternalServerError)
	}
	return op.NewResponse(tokens), nil
}

// clip shortens untrusted text for a log line.
func clip(s string) string {
	if len(s) > 80 {
		return s[:77] + "..."
	}
	return s
}

// tokenText is random text of 128 bits.
func tokenText(raw []byte) string { return base64.RawURLEncoding.EncodeToString(raw) }
