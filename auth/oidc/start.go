package oidc

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"quorumhub/auth/sequence"
)

// kept is what one login keeps, sealed, until its callback.
type kept struct {
	Verifier string `json:"v"` // of PKCE
	Nonce    string `json:"n"`
	Started  int64  `json:"t"` // in seconds
}

// Start implements sequence.Interactive: it returns the URL of the provider at which the login goes on.
func (p *Provider) Start(ctx context.Context, s *sequence.Start) (*sequence.Interaction, []byte, error) {
	d, err := p.known(ctx)
	if err != nil {
		return nil, nil, err
	}
	raw := make([]byte, 32)
	if _, err := rand.Read(raw); err != nil {
		return nil, nil, fmt.Errorf("make a nonce: %w", err)
	}
	k := kept{oauth2.GenerateVerifier(), base64.RawURLEncoding.EncodeToString(raw), p.o.Now().Unix()}
	options := []oauth2.AuthCodeOption{oauth2.S256ChallengeOption(k.Verifier), oidc.Nonce(k.Nonce)}
	switch {
	case s.Anew:
		options = append(options, oauth2.SetAuthURLParam("prompt", "login"), oauth2.SetAuthURLParam("max_age", "0"))
	case s.MaxAge > 0:
		options = append(options, oauth2.SetAuthURLParam("max_age", strconv.FormatInt(int64(s.MaxAge/time.Second), 10)))
	}
	private, err := json.Marshal(k)
	if err != nil {
		return nil, nil, err
	}
	return &sequence.Interaction{Redirect: p.flow(d, s.Callback).AuthCodeURL(s.State, options...)}, private, nil
}

func (p *Provider) flow(d *discovery, callback string) *oauth2.Config {
	return &oauth2.Config{ClientID: p.o.ClientID, Endpoint: d.Endpoint, RedirectURL: callback, Scopes: p.o.Scopes}
}

// maxHint is the longest ID token that is put into a URL.
const maxHint = 6 << 10

// EndSession returns the URL at the provider that ends a login there and comes back to returnTo with state (OpenID Connect RP-Initiated
// Logout 1.0); empty if the settings do not ask for that or the provider has none. idToken may be empty; then some providers ask the
// person. returnTo must be registered at the provider.
func (p *Provider) EndSession(idToken, returnTo, state string) string {
	p.mu.Lock()
	d := p.found
	p.mu.Unlock()
	if !p.o.EndSession || d == nil || d.endSession == "" {
		return ""
	}
	u, err := url.Parse(d.endSession)
	if err != nil {
		return ""
	}
	q := u.Query()
	q.Set("client_id", p.o.ClientID)
	if idToken != "" && len(idToken) <= maxHint {
		q.Set("id_token_hint", idToken)
	}
	if returnTo != "" {
		q.Set("post_logout_redirect_uri", returnTo)
		if state != "" {
			q.Set("state", state)
		}
	}
	u.RawQuery = q.Encode()
	return u.String()
}
