package broker

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"

	"quorumhub/auth/ticket"
	"quorumhub/hub"
)

// Keys are those that sign ID tokens, the same on all nodes. Safe for concurrent use.
type Keys interface {
	// TokenKeys returns the private keys (P-256), the one that signs first.
	TokenKeys() []*ecdsa.PrivateKey
	// FormerTokenKeys returns public keys (P-256, uncompressed points) that sign no more, but whose tokens may still be valid.
	FormerTokenKeys() [][]byte
}

// storage gives the library what it needs to make tokens: keys and claims. It stores nothing, since tickets say everything themselves.
// It implements op.Storage; what the broker does without the library's help is not there.
type storage struct{ *Broker }

// errElsewhere is what the library never gets to see, because the broker decides it itself.
var errElsewhere = errors.New("is not decided by the library")

// subject is what tokens are made for. It implements op.IDTokenRequest.
type subject struct {
	ticket *ticket.Ticket
	scopes []string // those asked for now
	renews bool     // a refresh token goes with it,
	// refresh, which was sealed before its predecessor was used up.
	refresh string
}

// GetAMR implements op.IDTokenRequest.
func (s *subject) GetAMR() []string { return s.ticket.AMR }

// GetAudience implements op.IDTokenRequest.
func (s *subject) GetAudience() []string { return []string{s.ticket.Client} }

// GetAuthTime implements op.IDTokenRequest.
func (s *subject) GetAuthTime() time.Time { return s.ticket.AuthTime }

// GetClientID implements op.IDTokenRequest.
func (s *subject) GetClientID() string { return s.ticket.Client }

// GetScopes implements op.IDTokenRequest.
func (s *subject) GetScopes() []string { return s.scopes }

// GetSubject implements op.IDTokenRequest.
func (s *subject) GetSubject() string { return s.ticket.Holder.ID }

// renewal is a subject whose tokens renew others. It implements op.RefreshTokenRequest.
type renewal struct{ *subject }

// SetCurrentScopes implements op.RefreshTokenRequest.
func (r renewal) SetCurrentScopes(scopes []string) { r.scopes = scopes }

// redeemed is a subject whose tokens follow from a code. It implements op.AuthRequest.
type redeemed struct{ *subject }

// GetID implements op.AuthRequest.
func (l redeemed) GetID() string { return "" }

// GetACR implements op.AuthRequest.
func (l redeemed) GetACR() string { return "" }

// GetCodeChallenge implements op.AuthRequest.
func (l redeemed) GetCodeChallenge() *oidc.CodeChallenge { return challenge(l.ticket.Challenge) }

// GetNonce implements op.AuthRequest.
func (l redeemed) GetNonce() string { return l.ticket.Nonce }

// GetRedirectURI implements op.AuthRequest.
func (l redeemed) GetRedirectURI() string { return l.ticket.Redirect }

// GetResponseType implements op.AuthRequest.
func (l redeemed) GetResponseType() oidc.ResponseType { return oidc.ResponseTypeCode }

// GetResponseMode implements op.AuthRequest.
func (l redeemed) GetResponseMode() oidc.ResponseMode { return oidc.ResponseModeQuery }

// GetState implements op.AuthRequest.
func (l redeemed) GetState() string { return "" }

// Done implements op.AuthRequest.
func (l redeemed) Done() bool { return true }

// subjectOf returns the subject of a request for tokens.
func subjectOf(r op.TokenRequest) (*subject, bool) {
	switch r := r.(type) {
	case redeemed:
		return r.subject, true
	case renewal:
		return r.subject, true
	}
	return nil, false
}

// CreateAccessToken implements op.AuthStorage.
func (s storage) CreateAccessToken(_ context.Context, r op.TokenRequest) (id string, expires time.Time, err error) {
	of, ok := subjectOf(r)
	if !ok {
		return "", time.Time{}, errElsewhere
	}
	t := *of.ticket
	t.Redirect, t.Challenge, t.Nonce, t.Generation, t.Scopes = "", "", "", 0, of.scopes
	t.Expires, t.Session, t.Written = s.until(accessTime, t.Ends), hub.SessionID{}, s.Reads.Written()
	id, _, err = s.Verifier.Seal(ticket.Access, &t)
	return id, t.Expires, err
}

// CreateAccessAndRefreshTokens implements op.AuthStorage. The ticket before is used up already.
func (s storage) CreateAccessAndRefreshTokens(ctx context.Context, r op.TokenRequest, _ string) (id, refresh string, expires time.Time, err error) {
	of, ok := subjectOf(r)
	if !ok {
		return "", "", time.Time{}, errElsewhere
	}
	id, expires, err = s.CreateAccessToken(ctx, r)
	return id, of.refresh, expires, err
}

// Encrypt implements op.Crypto. The library asks for the text of an access token and its subject; the text is sealed already.
func (b *Broker) Encrypt(text string) (string, error) {
	token, _, _ := strings.Cut(text, ":")
	return token, nil
}

// Decrypt implements op.Crypto.
func (b *Broker) Decrypt(string) (string, error) { return "", errElsewhere }

// Crypto implements op.TokenCreator.
func (b *Broker) Crypto() op.Crypto { return b }

// Storage implements op.TokenCreator.
func (b *Broker) Storage() op.Storage { return storage{b} }

// SetUserinfoFromRequest implements op.CanSetUserinfoFromRequest: what goes into an ID token.
func (s storage) SetUserinfoFromRequest(_ context.Context, info *oidc.UserInfo, r op.IDTokenRequest, _ []string) error {
	of, ok := subjectOf(r)
	if !ok {
		return errElsewhere
	}
	setUserInfo(info, of.ticket)
	return nil
}

// setUserInfo tells an application about somebody, to the extent of its claims in auth.file.
func setUserInfo(info *oidc.UserInfo, t *ticket.Ticket) {
	info.Subject = t.Holder.ID
	for _, claim := range slices.Sorted(maps.Keys(t.Claims)) {
		info.AppendClaims(claim, t.Claims[claim])
	}
}

// signingKey implements op.SigningKey.
type signingKey struct {
	id  string
	key *ecdsa.PrivateKey
}

// SignatureAlgorithm implements op.SigningKey.
func (k signingKey) SignatureAlgorithm() jose.SignatureAlgorithm { return jose.ES256 }

// Key implements op.SigningKey.
func (k signingKey) Key() any { return k.key }

// ID implements op.SigningKey.
func (k signingKey) ID() string { return k.id }

// publicKey implements op.Key.
type publicKey struct {
	id  string
	key *ecdsa.PublicKey
}

// Algorithm implements op.Key.
func (k publicKey) Algorithm() jose.SignatureAlgorithm { return jose.ES256 }

// Use implements op.Key.
func (k publicKey) Use() string { return oidc.KeyUseSignature }

// Key implements op.Key.
func (k publicKey) Key() any { return k.key }

// ID implements op.Key.
func (k publicKey) ID() string { return k.id }

// keyID names a key by its thumbprint (RFC 7638), which is the same on all nodes.
func keyID(key *ecdsa.PublicKey) (string, error) {
	sum, err := (&jose.JSONWebKey{Key: key}).Thumbprint(crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("the key of ID tokens: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(sum), nil
}

// SigningKey implements op.AuthStorage.
func (s storage) SigningKey(context.Context) (op.SigningKey, error) {
	keys := s.Keys.TokenKeys()
	if len(keys) == 0 {
		return nil, errors.New("this node has no key for ID tokens")
	}
	id, err := keyID(&keys[0].PublicKey)
	return signingKey{id, keys[0]}, err
}

// SignatureAlgorithms implements op.AuthStorage.
func (s storage) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{jose.ES256}, nil
}

// KeySet implements op.AuthStorage: the keys of all ID tokens that may be valid, the one that signs first.
func (s storage) KeySet(context.Context) (out []op.Key, err error) {
	var public []*ecdsa.PublicKey
	for _, key := range s.Keys.TokenKeys() {
		public = append(public, &key.PublicKey)
	}
	for _, point := range s.Keys.FormerTokenKeys() {
		if key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point); err == nil {
			public = append(public, key)
		}
	}
	for _, key := range public {
		id, err := keyID(key)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(out, func(k op.Key) bool { return k.ID() == id }) {
			out = append(out, publicKey{id, key})
		}
	}
	return out, nil
}

// GetClientByClientID implements op.OPStorage.
func (s storage) GetClientByClientID(_ context.Context, id string) (op.Client, error) {
	if a, ok := s.application(id); ok {
		return a, nil
	}
	return nil, oidc.ErrInvalidClient()
}

// AuthorizeClientIDSecret implements op.OPStorage.
func (s storage) AuthorizeClientIDSecret(_ context.Context, id, secret string) error {
	if a, _ := s.application(id); !a.proves(secret) {
		return oidc.ErrInvalidClient()
	}
	return nil
}
