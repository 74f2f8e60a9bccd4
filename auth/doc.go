// Package auth answers two questions about each request: who calls (authenticate.go), and whether they may do what they ask
// (authorize.go).
//
// An Authenticator recognises one kind of credential: OAuth2 access tokens (token.go), tokens checked by a remote service
// (tokenservice.go), API keys (apikey.go), client certificates (certificate.go), and requests signed with RFC 9421
// (signature.go) or GEO-Auth (geo.go). A Gate tries them in order and returns a Principal with its scopes and roles.
//
// A Rule (rule.go) grants principals actions on topics; without a rule nothing is allowed. Decide (authorize.go) is where a role
// becomes a permission. A Guard (guard.go) combines the two and writes the audit log.
//
// To add a kind of credential, implement Authenticator in a file of its own and add it where the node is wired (cli). The
// package imports hub only; the keys that encrypt secrets at rest are in auth/keyring.
package auth
