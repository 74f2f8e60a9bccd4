// Package oidc lets people log in with an identity provider: OpenID Connect Core 1.0, authorization code flow with PKCE (RFC 7636), and
// the issuer in the callback (RFC 9207). A Provider is an interactive authenticator of auth/sequence; it also builds the URL of a logout
// at the provider (RP-Initiated Logout 1.0) and checks its logout tokens (Back-Channel Logout 1.0).
//
// What goes wrong is either a refusal (*auth.RefusalError), after which no other provider may be tried, or trouble at the provider
// (auth.ErrUnavailable), after which the next of a failover is asked:
//
//	discovery: does not connect, is slow, 3xx, 4xx, 5xx, no JSON, over 256 KiB      unavailable
//	discovery names another issuer, or endpoints that are no https URLs             unavailable
//	callback: temporarily_unavailable, server_error                                 unavailable
//	callback: any other error (access_denied, login_required, …)                    refused
//	callback: no code, several codes, iss that is another's or is missing           refused
//	token endpoint: does not connect, is slow, 3xx, 5xx, 429, no JSON, over 256 KiB unavailable
//	token endpoint: invalid_client, unauthorized_client (the hub's own credentials) unavailable
//	token endpoint: temporarily_unavailable, server_error                           unavailable
//	token endpoint: any other error, with 4xx or with 200 (invalid_grant, …)        refused
//	token endpoint: an answer without an ID token                                   unavailable
//	keys: never read, stale for a day, or the ID token's is unknown and none come   unavailable
//	ID token: algorithm, key, signature, iss, aud, azp, exp, iat, nbf, nonce, at_hash, auth_time  refused
//	userinfo: does not answer with claims                                           unavailable
//	userinfo: of another subject                                                    refused
//	email: not verified, or of a domain that is not allowed                         refused
package oidc
