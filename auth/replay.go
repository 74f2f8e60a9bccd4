package auth

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"
)

// Nonces remembers what was used once. Safe for concurrent use; of several claims of one nonce, on any nodes at any
// time, exactly one is fresh.
type Nonces interface {
	// Claim takes a nonce until a time, after which its user must not accept it any more. It is not fresh when
	// somebody has it already. An error means that it is not known whether it is.
	Claim(ctx context.Context, nonce [32]byte, until time.Time) (fresh bool, err error)
}

// claim takes the nonce of a request whose signature holds. It comes last, so that nobody without a key can fill the
// memory of nonces or use up somebody else's.
func claim(ctx context.Context, n Nonces, m Method, keyID, nonce string, until time.Time) error {
	h := sha256.New()
	fmt.Fprintf(h, "%s\x00%d\x00%s\x00%s", m, len(keyID), keyID, nonce)
	fresh, err := n.Claim(ctx, [32]byte(h.Sum(nil)), until)
	switch {
	case err != nil:
		return fmt.Errorf("%w: claim the nonce: %w", ErrUnavailable, err)
	case !fresh:
		return refuse(m, "nonce %q of key %q was used before", clip(nonce), keyID)
	}
	return nil
}
