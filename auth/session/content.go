package session

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"quorumhub/auth"
	"quorumhub/hub"
)

const (
	// maxCookie is how many bytes a cookie may have with its name and attributes (RFC 6265 section 6.1): browsers drop longer ones.
	maxCookie = 4096
	// cookieBinding separates the contents of cookies from other sealed text.
	cookieBinding = "session-cookie"
	secretBytes   = 32
)

// content is what a cookie says, sealed: the secret of the session, and what only this browser's requests need.
type content struct {
	Secret []byte `json:"s"`
	// Seen is the last use that the cookie records, and Issued when the session got its secret, both in Unix nanoseconds.
	Seen   int64 `json:"t"`
	Issued int64 `json:"i"`

	ID        string     `json:"p"`
	Authority string     `json:"a,omitempty"`
	Subject   string     `json:"b,omitempty"`
	Client    string     `json:"c,omitempty"`
	User      string     `json:"u,omitempty"`
	Scopes    []string   `json:"o,omitempty"`
	Roles     []string   `json:"r,omitempty"`
	Methods   [][]string `json:"m,omitempty"` // of each step
	IDToken   string     `json:"h,omitempty"`
}

func contentOf(secret []byte, n *New, now time.Time) *content {
	p := n.Principal
	c := &content{Secret: secret, Seen: now.UnixNano(), Issued: now.UnixNano(), ID: p.ID, Authority: p.Authority, Subject: p.Subject, Client: p.Client, User: p.User,
		Scopes: p.Scopes, Roles: p.Roles, IDToken: n.IDToken}
	for i := range n.Passed {
		c.Methods = append(c.Methods, n.Passed[i].Method)
	}
	return c
}

func (c *content) id() hub.SessionID { return sha256.Sum256(c.Secret) }

// principal returns who has logged in.
func (c *content) principal() *auth.Principal {
	return &auth.Principal{Method: auth.MethodSession, ID: c.ID, Authority: c.Authority, Subject: c.Subject, Client: c.Client, User: c.User, Scopes: c.Scopes, Roles: c.Roles}
}

// TooLargeError is the error for a login of whom the identity provider says more than a cookie holds.
type TooLargeError struct {
	Principal     string
	Bytes         int // of the cookie without what can be dropped
	Roles, Scopes int // how many
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("%s has %d roles and %d scopes, which make a cookie of %d bytes; at most %d are possible: map fewer (claims of the identity provider in auth.file)",
		e.Principal, e.Roles, e.Scopes, e.Bytes, maxCookie)
}

// Unwrap says that it is a refusal: to try again is in vain.
func (e *TooLargeError) Unwrap() error {
	return &auth.RefusalError{Method: auth.MethodSession, Reason: e.Error()}
}

// seal returns the content of the cookie. What does not fit is dropped: at first the ID token, so that a logout cannot be told to the
// identity provider with it, and then how the steps were passed. Roles and scopes are never dropped, since whoever lacks some could not
// tell why: the error is a *TooLargeError.
func (c *content) seal(box hub.SecretBox) (text, sealedWith string, err error) {
	for _, less := range []func(){func() {}, func() { c.IDToken = "" }, func() { c.Methods = nil }} {
		less()
		plain, err := json.Marshal(c) //nolint:gosec // sealed at once
		if err != nil {
			return "", "", fmt.Errorf("encode a session's cookie: %w", err)
		}
		sealed, err := box.Seal(plain, cookieBinding)
		if err != nil {
			return "", "", fmt.Errorf("seal a session's cookie: %w", err)
		}
		text = base64.RawURLEncoding.EncodeToString(sealed)
		if len(Cookie(text).String()) <= maxCookie {
			return text, hub.SealedWith(sealed), nil
		}
	}
	return "", "", &TooLargeError{Principal: c.ID, Bytes: len(Cookie(text).String()), Roles: len(c.Roles), Scopes: len(c.Scopes)}
}

// openContent is the inverse of seal. No error tells what was sealed. key is the ID of the sealing key that the text needs, if it is
// one that was sealed.
func openContent(box hub.SecretBox, text string) (c *content, key string, err error) {
	if len(text) > maxCookie {
		return nil, "", errors.New("it is longer than any that the hub makes")
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, "", errors.New("it is not base64url")
	}
	key = hub.SealedWith(sealed)
	plain, err := box.Open(sealed, cookieBinding)
	if err != nil {
		return nil, key, err
	}
	c = new(content)
	if err := json.Unmarshal(plain, c); err != nil || len(c.Secret) != secretBytes || c.ID == "" {
		return nil, key, errors.New("it holds no session")
	}
	return c, key, nil
}
