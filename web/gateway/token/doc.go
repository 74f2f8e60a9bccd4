// Package token mints the tokens by which services behind the gateway know whom a request is for, and finds out whether a caller has an
// account there at all.
//
// A token is a JWT access token as in RFC 9068: signed with ES256 by a key that all nodes hold, for one audience, and valid for a short
// time. Its issuer is the hub's public URL, and Set is what services verify it with. The package knows nothing of requests: the gateway
// tells it who calls.
package token
