package delivery

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"quorumhub/delivery/egress"
	"quorumhub/hub"
)

// keptEndpoints is how many lanes keep their endpoint between messages. An endpoint takes about 1 KiB.
const keptEndpoints = 4096

// newEndpointUnlocks builds an endpoint for a lane. If it returns none, a non-zero result is a failed attempt; a zero
// one means that the lane was renewed meanwhile and must be looked at again.
func (d *Dispatcher) newEndpointUnlocks(l *lane) (*Endpoint, PushResult) {
	callback, gen, id, reference := l.callback, l.gen, l.id, l.options != nil && l.options.Reference
	c := credentials{sealed: l.sealed, signature: l.signature, bound: hub.SecretBinding(l.topic.name, l.callbackKey), webhooks: l.webhooks}
	if l.wishes != nil {
		c.headers, c.key = l.wishes.headers, l.wishes.key
		c.headersBound = headersBound(c.headers, l.topic.name, l.callbackKey)
	}
	d.mu.Unlock()
	e, res, err := d.newEndpoint(callback, c)
	d.mu.Lock()
	switch {
	case l.gen != gen:
		return nil, PushResult{}
	case err != nil:
		d.o.Log.Error("cannot prepare delivery", "subscription", l.id.String(), "topic", l.topic.name, "error", err)
		return nil, res
	}
	e.subscription, e.reference = id, reference
	return e, PushResult{}
}

// warmUnlocks gives a running lane its endpoint. A result other than zero is a failed attempt; after zero, the lane must
// be looked at again.
func (d *Dispatcher) warmUnlocks(l *lane) PushResult {
	e, failed := d.newEndpointUnlocks(l)
	switch {
	case l.state != laneRunning:
		return PushResult{}
	case e == nil:
		return failed
	}
	l.endpoint = e
	d.keepWarmLocked(l)
	return PushResult{}
}

// signatureFor returns the signature method for a callback whose subscription names none.
func (o *DispatcherOptions) signatureFor(callback string) string {
	if u, err := url.Parse(callback); err == nil && o.SignatureFor != nil {
		return o.SignatureFor(strings.ToLower(u.Hostname()))
	}
	return o.Signature
}

func (d *Dispatcher) newEndpoint(callback string, c credentials) (*Endpoint, PushResult, error) {
	var signer *Signer
	var webhooks *WebhookSigner
	if len(c.sealed) > 0 {
		// Without the secret nothing may go out: this subscriber discards unsigned messages.
		secret, err := d.o.Secrets.Open(c.sealed, c.bound)
		if err == nil && c.webhooks != nil {
			webhooks, err = d.webhookSigner(secret, c.webhooks.former, c.bound)
		}
		if err != nil {
			return nil, PushResult{Outcome: PushDown, Reason: egress.ReasonSecret}, fmt.Errorf("open the subscription's secret: %w", err)
		}
		if c.signature == "" {
			c.signature = d.o.signatureFor(callback)
		}
		if signer, err = NewSigner(c.signature, secret); err != nil {
			return nil, PushResult{Outcome: PushDown, Reason: egress.ReasonSecret}, err
		}
	}
	e, err := d.o.Pusher.NewEndpoint(callback, signer)
	if err != nil {
		return nil, PushResult{Outcome: PushRefused, Reason: egress.ReasonURL}, err
	}
	e.webhooks, e.key = webhooks, c.key
	e.page = d.o.Credentials.For(callback, c.headers, c.headersBound)
	return e, PushResult{}, nil
}

// keepWarmLocked lets the lane keep its endpoint. The lane that has kept one for longest makes room.
func (d *Dispatcher) keepWarmLocked(l *lane) {
	if l.warm {
		return
	}
	l.warm = true
	if len(d.warmEndpoints) < keptEndpoints {
		d.warmEndpoints = append(d.warmEndpoints, l)
		return
	}
	old := d.warmEndpoints[d.nextWarm]
	old.warm, old.endpoint = false, nil
	d.warmEndpoints[d.nextWarm] = l
	d.nextWarm = (d.nextWarm + 1) % len(d.warmEndpoints)
}

// credentials holds what signs a subscription's messages.
type credentials struct {
	sealed       []byte
	signature    string
	bound        string
	webhooks     *webhookSecrets
	headers      string // sealed
	headersBound string
	key          string // to which messages are encrypted; empty: none
}

func webhooksOf(s *hub.Subscription) *webhookSecrets {
	if s.Scheme != hub.SchemeStandardWebhooks {
		return nil
	}
	return &webhookSecrets{s.Former}
}

// webhookSigner opens the secrets for Standard Webhooks signatures. A secret that occurs twice, after a renewal that
// did not change it, signs once.
func (d *Dispatcher) webhookSigner(present []byte, former []hub.FormerSecret, bound string) (*WebhookSigner, error) {
	s := &WebhookSigner{}
	s.Add(present, time.Time{})
	known := map[string]bool{string(present): true}
	for _, f := range former {
		secret, err := d.o.Secrets.Open(f.Sealed, bound)
		if err != nil {
			return nil, err
		}
		if !known[string(secret)] {
			known[string(secret)] = true
			s.Add(secret, f.Until)
		}
	}
	return s, nil
}

func headersBound(sealed, topic, callbackKey string) string {
	if sealed == "" {
		return ""
	}
	return hub.HeadersBinding(topic, callbackKey)
}
