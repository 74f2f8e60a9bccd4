// Package form has the interactive authenticators that ask on a page of the hub itself: Local, accounts in the settings for when no
// identity provider answers, and Key, for hubs whose callers have only API keys and access tokens. Both implement sequence.Interactive.
package form
