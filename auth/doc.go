// Package auth holds what proves identity and keeps secrets: at present the keyring that seals subscribers'
// secrets at rest.
package auth
