package topics

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"quorumhub/hub"
	"quorumhub/web/gateway/protect"
	"quorumhub/web/gateway/registry"
)

const (
	// maxRecipients bounds the keys of subscriptions that are kept ready.
	maxRecipients = 1000
	// recheckAfter is how long a certificate that was found good is not checked again, unless the registry changes.
	recheckAfter = time.Minute
	// maxSealed and maxSealedBytes bound the encrypted messages that are remembered, and each of them.
	maxSealed      = 256
	maxSealedBytes = 64 << 10
)

// recipients are the keys of subscriptions, and what was encrypted to them lately. Safe for concurrent use.
type recipients struct {
	mu    sync.Mutex
	ready map[recipientKey]*recipient

	sealed map[sealedKey][]byte
	order  []sealedKey // of sealed, as a ring
	next   int
}

// recipientKey is a key as a subscription gave it, under the authorities that it must satisfy.
type recipientKey struct {
	text  string
	trust *protect.Trust
}

type recipient struct {
	*protect.Recipient
	checked time.Time
}

// sealedKey is a message for a recipient.
type sealedKey struct{ key, content [sha256.Size]byte }

// trustOf returns the authorities that the keys of subscriptions must satisfy; nil: none in particular.
func trustOf(reg *registry.Registry, p *registry.Protect) (*protect.Trust, error) {
	if p == nil || p.Trust == "" {
		return nil, nil //nolint:nilnil // nil means none
	}
	t, ok := reg.Trust[p.Trust]
	if !ok {
		return nil, fmt.Errorf("%s is not in the registry", p.Trust)
	}
	return protect.NewTrust(t.Roots, t.CRL)
}

// recipient returns a key to which a topic's messages may be encrypted now.
func (p *Policies) recipient(topic, text string) (*protect.Recipient, error) {
	var trust *protect.Trust
	if one := p.of(topic); one != nil && one.broken != nil {
		return nil, errors.New("cannot be checked by this node; tell its operators")
	} else if one != nil && one.deliver != nil {
		trust = one.deliver.trust
	}
	k, id, now := &p.keys, recipientKey{text, trust}, p.o.Clock()
	k.mu.Lock()
	r := k.ready[id]
	fresh := r != nil && now.Sub(r.checked) < recheckAfter && (r.Ends().IsZero() || now.Before(r.Ends()))
	k.mu.Unlock()
	if fresh {
		return r.Recipient, nil
	}
	parsed, err := protect.ParseRecipient([]byte(text), trust, now)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil {
		delete(k.ready, id)
		return nil, err
	}
	if k.ready == nil || len(k.ready) >= maxRecipients {
		k.ready = map[recipientKey]*recipient{} // whoever is still sent to comes back
	}
	k.ready[id] = &recipient{parsed, now}
	return parsed, nil
}

// Encrypt implements hub.DeliveryPolicies. A message is encrypted once for a key, as long as it is remembered.
func (p *Policies) Encrypt(topic string, body []byte, contentType, key string) ([]byte, string, error) {
	to, err := p.recipient(topic, key)
	if err != nil {
		var refused *protect.Error
		if errors.As(err, &refused) {
			return nil, "", fmt.Errorf("the subscription's key: %s", refused.Detail)
		}
		return nil, "", err
	}
	id := sealedKey{sha256.Sum256([]byte(contentType + "\x00" + key)), sha256.Sum256(body)}
	if known := p.keys.known(id); known != nil {
		return known, protect.ContentType, nil
	}
	encrypted, err := protect.Encrypt(body, contentType, to)
	if err == nil && len(encrypted) <= maxSealedBytes {
		p.keys.remember(id, encrypted)
	}
	return encrypted, protect.ContentType, err
}

func (k *recipients) known(id sealedKey) []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.sealed[id]
}

// remember keeps an encrypted message; the oldest makes room.
func (k *recipients) remember(id sealedKey, encrypted []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.sealed == nil {
		k.sealed = make(map[sealedKey][]byte)
	}
	if k.sealed[id] != nil {
		return
	}
	if len(k.order) < maxSealed {
		k.order = append(k.order, id)
	} else {
		delete(k.sealed, k.order[k.next])
		k.order[k.next] = id
		k.next = (k.next + 1) % maxSealed
	}
	k.sealed[id] = encrypted
}

// KeyNotice returns how near the end of a subscription's key is: the first end in its chain of certificates. One that cannot be encrypted
// to, because it was revoked, say, has ended.
func (p *Policies) KeyNotice(topic, key string) (hub.KeyNotice, time.Time) {
	if one := p.of(topic); one != nil && one.broken != nil {
		return hub.KeyNotSoon, time.Time{} // that is not the subscriber's to mend
	}
	r, err := p.recipient(topic, key)
	if err != nil {
		return hub.KeyEnded, time.Time{}
	}
	switch protect.NoticeOf(r.Ends(), p.o.Clock()) {
	case protect.WithinMonth:
		return hub.KeyWithinMonth, r.Ends()
	case protect.WithinWeek:
		return hub.KeyWithinWeek, r.Ends()
	case protect.WithinDay:
		return hub.KeyWithinDay, r.Ends()
	case protect.Ended:
		return hub.KeyEnded, r.Ends()
	default:
		return hub.KeyNotSoon, r.Ends()
	}
}
