package delivery

import (
	"context"
	"errors"

	"quorumhub/delivery/egress"
	"quorumhub/hub"
)

// push sends a message as its topic's policy asks.
func (o *DispatcherOptions) push(ctx context.Context, e *Endpoint, m *hub.Message, topic, link string) PushResult {
	c := contentOf(m, o.Parts, link, o.Notices)
	if e.test != "" {
		c.MessageID = e.test
	}
	encrypts := e.key != "" || o.Contents.Of(m.Topic).Encrypts()
	if o.Policies != nil {
		if p, ok := o.Policies.DeliveryPolicy(topic); ok {
			if err := c.dress(p, m, o.Parts); err != nil {
				return o.undressed(m, topic, err)
			}
			encrypts = encrypts || p.Encrypts()
		}
	}
	if err := o.References.refer(e, m, topic, &c); err != nil {
		return o.undressed(m, topic, err)
	}
	if encrypts {
		if err := o.encrypt(&c, m, topic, e.key); err != nil {
			return o.undressed(m, topic, err)
		}
	}
	return o.Pusher.Push(ctx, e, c)
}

// encrypt encrypts the content to a subscription's key.
func (o *DispatcherOptions) encrypt(c *Content, m *hub.Message, topic, key string) error {
	switch {
	case key == "":
		return errors.New("the topic sends encrypted messages only, and the subscription has given no key")
	case o.Policies == nil:
		return errors.New("this hub does not encrypt deliveries")
	}
	if c.Blob != nil {
		body, err := hub.ReadBody(o.Parts, m)
		if err != nil {
			return err
		}
		c.Body, c.Blob = body, nil
	}
	var err error
	c.Body, c.ContentType, err = o.Policies.Encrypt(topic, c.Body, c.ContentType, key)
	return err
}

// dress makes the content what a policy wants to be sent.
func (c *Content) dress(p hub.DeliveryPolicy, m *hub.Message, parts hub.PartReader) error {
	c.Headers = p.Headers()
	if !p.Transforms() {
		return nil
	}
	body, err := p.Transform(m, parts)
	if err != nil {
		return err
	}
	c.Body, c.Blob = body, nil
	return nil
}

// undressed is the result for a message that cannot be sent as its topic's policy asks: nothing was sent. Without its body another
// attempt may do; what the policy does not accept becomes a dead letter, rather than being sent as it is.
func (o *DispatcherOptions) undressed(m *hub.Message, topic string, err error) PushResult {
	switch {
	case errors.Is(err, hub.ErrTrimmed):
		return PushResult{Outcome: PushCancelled, Reason: egress.ReasonCancelled}
	case errors.Is(err, hub.ErrCorrupt):
		return PushResult{Outcome: PushDown, Reason: egress.ReasonUnreadable}
	}
	o.Log.Warn("a message cannot be sent as the policy of its topic asks", "topic", topic, "message", m.ID(), "error", err)
	return PushResult{Outcome: PushRefused, Reason: egress.ReasonPolicy}
}
