package credential

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"quorumhub/delivery/egress"
	"quorumhub/hub"
)

const (
	tokenTimeout  = 10 * time.Second
	maxTokenBytes = 64 << 10 // of a token service's answer
	// tokenPause is how long a token service is not asked again after it failed or after its token was refused.
	tokenPause = 5 * time.Second
	// tokenLife is how long a token is used whose answer does not say; tokenMargin is how long before its end it no longer is.
	tokenLife   = 5 * time.Minute
	tokenMargin = 30 * time.Second
)

// tokens obtains and keeps the access token of one client. Safe for concurrent use.
type tokens struct {
	of   hub.ClientCredentials
	book *Book
	busy chan struct{} // holds a value while a caller looks or asks; the fields below belong to that caller

	token   string
	until   time.Time
	askedAt time.Time
	failure error // of the last try
}

func newTokens(b *Book, of hub.ClientCredentials) *tokens {
	return &tokens{book: b, of: of, busy: make(chan struct{}, 1)}
}

// get returns a token. Only one caller at a time asks for one; the others wait for its result.
func (t *tokens) get(ctx context.Context) (string, error) {
	select {
	case t.busy <- struct{}{}:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	defer func() { <-t.busy }()
	now := t.book.o.Clock.Now()
	switch {
	case t.token != "" && now.Before(t.until):
		return t.token, nil
	case t.failure != nil && now.Before(t.askedAt.Add(tokenPause)):
		return "", t.failure
	}
	token, life, err := t.ask(ctx)
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	t.askedAt, t.failure, t.token = now, err, token
	t.until = now.Add(max(life-tokenMargin, life/2))
	return token, err
}

// drop makes the next caller ask for another token than this one, unless it was obtained just now: then the callback refuses
// the client, not the token.
func (t *tokens) drop(token string) {
	select {
	case t.busy <- struct{}{}:
	default:
		return // somebody is asking for one
	}
	defer func() { <-t.busy }()
	if t.token == token && !t.book.o.Clock.Now().Before(t.askedAt.Add(tokenPause)) {
		t.token = ""
	}
}

// ask requests a token (RFC 6749 section 4.4.2). Errors contain nothing of the request or the answer.
func (t *tokens) ask(ctx context.Context) (token string, life time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, tokenTimeout)
	defer cancel()
	form := url.Values{"grant_type": {"client_credentials"}}
	if t.of.Scope != "" {
		form.Set("scope", t.of.Scope)
	}
	if t.of.Audience != "" {
		form.Set("audience", t.of.Audience)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.of.TokenURL, strings.NewReader(form.Encode()))
	if err != nil {
		return "", 0, errors.New("the token service's URL cannot be used")
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", t.book.o.UserAgent)
	req.SetBasicAuth(url.QueryEscape(t.of.ClientID), url.QueryEscape(t.of.ClientSecret)) // section 2.3.1
	resp, err := t.book.o.Client.RoundTrip(req)
	if err != nil {
		return "", 0, fmt.Errorf("the token service cannot be reached (%s)", egress.Classify(ctx, err))
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		egress.Drain(resp.Body)
		return "", 0, fmt.Errorf("the token service answered %d", resp.StatusCode)
	}
	var answer struct {
		Token string  `json:"access_token"`
		Type  string  `json:"token_type"`
		Life  float64 `json:"expires_in"`
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxTokenBytes+1))
	if err != nil || len(body) > maxTokenBytes || json.Unmarshal(body, &answer) != nil || answer.Token == "" ||
		answer.Type != "" && !strings.EqualFold(answer.Type, "bearer") || strings.ContainsFunc(answer.Token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return "", 0, errors.New("the token service's answer has no usable bearer token")
	}
	life = tokenLife
	if answer.Life > 0 {
		life = time.Duration(min(answer.Life, 1e6) * float64(time.Second))
	}
	return answer.Token, life, nil
}
