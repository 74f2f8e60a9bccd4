// Package login tests logging in with real parts: the hub's binary, Debian's chromium, nginx and caddy, and real OpenID providers.
package login
