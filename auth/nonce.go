package auth

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"
)

// Nonces remembers used nonces, to detect replays. Safe for concurrent use; of several claims of one nonce, on any nodes at any
// time, exactly one is fresh.
type Nonces interface {
	// Claim records a nonce until a time after which the caller must not accept it any more. It is fresh unless it was
	// claimed before. On an error that is unknown.
	Claim(ctx context.Context, nonce [32]byte, until time.Time) (fresh bool, err error)
}

// claimNonce claims the nonce of a request with a valid signature. Call it last, so that nobody without a key can fill the
// memory of nonces or use up somebody else's.
func claimNonce(ctx context.Context, n Nonces, m Method, keyID, nonce string, until time.Time) error {
	h := sha256.New()
	fmt.Fprintf(h, "%s\x00%d\x00%s\x00%s", m, len(keyID), keyID, nonce)
	fresh, err := n.Claim(ctx, [32]byte(h.Sum(nil)), until)
	switch {
	case err != nil:
		return fmt.Errorf("%w: claim the nonce: %w", ErrUnavailable, err)
	case !fresh:
		return refuse(m, "nonce %q of key %q was already used", clip(nonce), keyID)
	}
	return nil
}
