package gateway

import (
	"errors"
	"net/http"
	"time"

	"quorumhub/web/gateway/registry"
)

// verifier checks that a webhook comes from its sender.
type verifier interface {
	Verify(h http.Header, body []byte, now time.Time) (delivery, error)
}

// delivery is what a verified webhook says of itself.
type delivery struct {
	ID     string // the sender's; empty: none
	SentAt time.Time
}

func newVerifier(registry.Verifier) (verifier, error) {
	return nil, errors.New("this program does not know the senders of webhooks yet")
}
