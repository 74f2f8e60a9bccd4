package session

import (
	"fmt"
	"strings"
	"time"

	"quorumhub/auth"
)

// Standing makes Options.Standing: a session goes on only while the settings in force have the authenticators that it has passed, while
// a local account is still one of them, and while an API key is valid.
func Standing(settings func() *auth.Settings, keys auth.APIKeyLookup, now func() time.Time) func(*Session) error {
	return func(s *Session) error {
		in := settings()
		for i := range s.Passed {
			if name := s.Passed[i].Authenticator; !in.HasAuthenticator(name) {
				return fmt.Errorf("auth.file has no authenticator %q any more", name)
			}
		}
		id := s.Principal.ID
		if name, ok := strings.CutPrefix(id, "local/"); ok && !in.HasLocalAccount(name) {
			return fmt.Errorf("auth.file has no enabled account %q any more", name)
		}
		if name, ok := strings.CutPrefix(id, "key/"); ok {
			k, known := keys.APIKey(name)
			if !known || !k.ExpiresAt.IsZero() && !now().Before(k.ExpiresAt) {
				return fmt.Errorf("the API key %s is revoked or has expired", name)
			}
		}
		return nil
	}
}
