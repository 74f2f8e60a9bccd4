package topics

import (
	"errors"
	"fmt"
	"sync"

	"quorumhub/web/gateway/protect"
)

// maxRecipients bounds the keys of subscriptions that are kept ready.
const maxRecipients = 1000

// recipients are the keys of subscriptions, by their text. Safe for concurrent use.
type recipients struct {
	mu    sync.Mutex
	ready map[string]*protect.Recipient
}

// recipient returns a subscription's key, unless its certificate has ended.
func (p *Policies) recipient(text string) (*protect.Recipient, error) {
	k := &p.keys
	k.mu.Lock()
	r := k.ready[text]
	k.mu.Unlock()
	now := p.o.Clock()
	if r != nil {
		return r, r.Check(nil, now)
	}
	r, err := protect.ParseRecipient([]byte(text), nil, now)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ready == nil || len(k.ready) >= maxRecipients {
		k.ready = map[string]*protect.Recipient{} // whoever is still sent to comes back
	}
	k.ready[text] = r
	return r, nil
}

// Encrypt implements hub.DeliveryPolicies.
func (p *Policies) Encrypt(body []byte, contentType, key string) ([]byte, string, error) {
	to, err := p.recipient(key)
	if err != nil {
		var refused *protect.Error
		if errors.As(err, &refused) {
			return nil, "", fmt.Errorf("the subscription's key: %s", refused.Detail)
		}
		return nil, "", err
	}
	encrypted, err := protect.Encrypt(body, contentType, to)
	return encrypted, protect.ContentType, err
}
