// Package auth finds out who calls and decides what they may do, and keeps the keyring that seals secrets at rest.
//
// An Authenticator recognises one kind of credentials: OAuth2 tokens (token.go), tokens that a service
// is asked about (tokenservice.go), API keys (key.go), client certificates (certificate.go), signed requests of RFC 9421
// (signature.go) and of GEO-Auth (geo.go). A Gate asks them
// in turn. Rules say which principals may do what with which topics (rule.go, policy.go); nothing is allowed without
// one. A Guard is both, with the audit log. Adding a kind of credentials is one file with an Authenticator, and a line
// where the node is wired.
package auth
