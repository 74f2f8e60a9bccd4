package hub

import (
	"context"
	"net/url"
)

// TopicPolicies are rules on topics beyond who may use them. Safe for concurrent use.
type TopicPolicies interface {
	// Admit returns an error if the caller of ctx has not proven who it is in the way that a topic asks of those who publish
	// or subscribe to it, which may be more than the hub asks. It is called after the caller was found to be allowed to.
	Admit(ctx context.Context, a Action, topic string) error
	// Spend takes messages from what the caller of ctx may publish to a topic now; CodeLimited if there is not enough left.
	Spend(ctx context.Context, topic string, messages int) error
	// ChecksContent reports whether CheckContent looks at the content of a topic's messages, which must then be in memory.
	ChecksContent(topic string) bool
	// CheckContent returns an error for content that a topic does not take.
	CheckContent(ctx context.Context, topic, contentType string, body []byte) error
	// CheckSubscription returns an error for a callback that a topic does not send to, for a key that cannot be encrypted to or
	// is missing (empty: none is given), or if the caller has as many subscriptions as it may. others returns the topics of those it has, each subscription once, without the one that is
	// asked for.
	CheckSubscription(ctx context.Context, topic string, callback *url.URL, key string, others func() []string) error
}

// DeliveryPolicies are rules on what is sent to callbacks. Safe for concurrent use.
type DeliveryPolicies interface {
	// DeliveryPolicy returns the rule for a topic's messages; false: they are sent as they are.
	DeliveryPolicy(topic string) (DeliveryPolicy, bool)
	// Encrypt encrypts content to a subscription's key (Subscription.EncryptionKey) and returns what is sent, with its content
	// type.
	// The key must still be one that the topic may be encrypted to.
	Encrypt(topic string, body []byte, contentType, key string) (encrypted []byte, kind string, err error)
}

// DeliveryPolicy is the rule for the messages of some topics. Safe for concurrent use.
type DeliveryPolicy interface {
	// Headers are sent with each message. The slice must not be changed.
	Headers() []Header
	// Encrypts reports whether messages are sent only to subscriptions with a key.
	Encrypts() bool
	// Transforms reports whether Transform has something to do.
	Transforms() bool
	// Transform returns what is sent in place of a message's body. It is asked for each delivery, and answers those of one
	// message from memory. An error means that the message cannot be sent.
	Transform(m *Message, parts PartReader) ([]byte, error)
}

// checkContent asks the policies about one message.
func (s *Service) checkContent(ctx context.Context, topic, contentType string, body []byte) error {
	if s.policy.Topics == nil {
		return nil
	}
	return s.policy.Topics.CheckContent(ctx, topic, contentType, body)
}

// spend asks the policies for the right to publish so many messages now.
func (s *Service) spend(ctx context.Context, topic string, messages int) error {
	if s.policy.Topics == nil {
		return nil
	}
	return s.policy.Topics.Spend(ctx, topic, messages)
}

// ChecksContent reports whether a topic's messages are checked before they are published. They must then be published with
// Publish or PublishBatch, in memory, whatever their size.
func (s *Service) ChecksContent(topic string) bool {
	return s.policy.Topics != nil && s.policy.Topics.ChecksContent(topic)
}

// checkSubscription asks the policies about a subscription.
func (s *Service) checkSubscription(ctx context.Context, r *SubscribeRequest) error {
	switch {
	case r.Mode != ModeSubscribe:
		return nil
	case s.policy.Topics == nil && r.EncryptionKey != "":
		return ParamErrorf(encryptionKeyParam, "cannot be used; this hub does not encrypt deliveries")
	case s.policy.Topics == nil:
		return nil
	}
	return s.policy.Topics.CheckSubscription(ctx, r.Topic, r.CallbackURL, r.EncryptionKey, func() (topics []string) {
		p := s.principal(ctx)
		if p == "" {
			return nil
		}
		s.state.View(func(st *State) {
			for _, id := range st.held(p).subscriptions {
				if sub := st.subs[id]; sub.TopicName != r.Topic || sub.CallbackKey != r.CallbackKey {
					topics = append(topics, sub.TopicName)
				}
			}
			for _, q := range st.requests {
				_, known := st.SubscriptionByKey(q.TopicName, q.CallbackKey)
				if q.Owner == p && q.Mode == ModeSubscribe && !known && (q.TopicName != r.Topic || q.CallbackKey != r.CallbackKey) {
					topics = append(topics, q.TopicName)
				}
			}
		})
		return topics
	})
}
