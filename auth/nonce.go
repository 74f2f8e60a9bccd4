package auth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"quorumhub/hub"
)

// Nonces remembers used nonces, to detect replays. Safe for concurrent use; of several claims of one nonce, on any nodes at any
// time, exactly one is fresh.
type Nonces interface {
	// Claim records a nonce, as one of a principal's, until a time after which the caller must not accept it any more. It is fresh
	// unless it was claimed before. On an error that is unknown; a *hub.Error other than CodeUnavailable is the principal's own limit.
	Claim(ctx context.Context, principal string, nonce [32]byte, until time.Time) (fresh bool, err error)
}

// claimLater returns a Request.Settle that claims the nonce of a request with a valid signature, once. It comes after everything
// else, so that nobody without a key and the right to ask can fill the memory of nonces or use up somebody else's.
func claimLater(n Nonces, m Method, principal, keyID, nonce string, until time.Time) func(context.Context) error {
	var once sync.Once
	var result error
	return func(ctx context.Context) error {
		once.Do(func() {
			h := sha256.New()
			fmt.Fprintf(h, "%s\x00%d\x00%s\x00%s", m, len(keyID), keyID, nonce)
			fresh, err := n.Claim(ctx, principal, [32]byte(h.Sum(nil)), until)
			var told *hub.Error
			switch {
			case errors.As(err, &told) && told.Code != hub.CodeUnavailable:
				result = err // a limit of the caller's own
			case err != nil:
				result = fmt.Errorf("%w: claim the nonce: %w", ErrUnavailable, err)
			case !fresh:
				result = refuse(m, "nonce %q of key %q was already used", clip(nonce), keyID)
			}
		})
		return result
	}
}
