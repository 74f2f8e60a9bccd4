package broker

import (
	"context"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// What follows completes op.Storage. The library calls none of it: requests to log in and codes are sealed instead of stored, and
// userinfo, introspection, revocation and logout are the broker's own.

// Health implements op.Storage.
func (storage) Health(context.Context) error { return nil }

// CreateAuthRequest implements op.AuthStorage.
func (storage) CreateAuthRequest(context.Context, *oidc.AuthRequest, string) (op.AuthRequest, error) {
	return nil, errElsewhere
}

// AuthRequestByID implements op.AuthStorage.
func (storage) AuthRequestByID(context.Context, string) (op.AuthRequest, error) {
	return nil, errElsewhere
}

// AuthRequestByCode implements op.AuthStorage.
func (storage) AuthRequestByCode(context.Context, string) (op.AuthRequest, error) {
	return nil, errElsewhere
}

// SaveAuthCode implements op.AuthStorage.
func (storage) SaveAuthCode(context.Context, string, string) error { return errElsewhere }

// DeleteAuthRequest implements op.AuthStorage. The library calls it once a code has become tokens; the grant knows that already.
func (storage) DeleteAuthRequest(context.Context, string) error { return nil }

// TokenRequestByRefreshToken implements op.AuthStorage.
func (storage) TokenRequestByRefreshToken(context.Context, string) (op.RefreshTokenRequest, error) {
	return nil, errElsewhere
}

// TerminateSession implements op.AuthStorage.
func (storage) TerminateSession(context.Context, string, string) error { return errElsewhere }

// RevokeToken implements op.AuthStorage.
func (storage) RevokeToken(context.Context, string, string, string) *oidc.Error {
	return oidc.ErrServerError().WithParent(errElsewhere)
}

// GetRefreshTokenInfo implements op.AuthStorage.
func (storage) GetRefreshTokenInfo(context.Context, string, string) (string, string, error) {
	return "", "", errElsewhere
}

// SetUserinfoFromScopes implements op.OPStorage; SetUserinfoFromRequest does it all.
func (storage) SetUserinfoFromScopes(context.Context, *oidc.UserInfo, string, string, []string) error {
	return nil
}

// SetUserinfoFromToken implements op.OPStorage.
func (storage) SetUserinfoFromToken(context.Context, *oidc.UserInfo, string, string, string) error {
	return errElsewhere
}

// SetIntrospectionFromToken implements op.OPStorage.
func (storage) SetIntrospectionFromToken(context.Context, *oidc.IntrospectionResponse, string, string, string) error {
	return errElsewhere
}

// GetPrivateClaimsFromScopes implements op.OPStorage.
func (storage) GetPrivateClaimsFromScopes(context.Context, string, string, []string) (map[string]any, error) {
	return nil, errElsewhere
}

// GetKeyByIDAndClientID implements op.OPStorage.
func (storage) GetKeyByIDAndClientID(context.Context, string, string) (*jose.JSONWebKey, error) {
	return nil, errElsewhere
}

// ValidateJWTProfileScopes implements op.OPStorage.
func (storage) ValidateJWTProfileScopes(context.Context, string, []string) ([]string, error) {
	return nil, errElsewhere
}
