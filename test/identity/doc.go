// Package identity tests logins with real OpenID providers: that the hub's authenticators understand them, alone and in a running hub.
package identity
