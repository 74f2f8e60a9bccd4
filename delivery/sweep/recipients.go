package sweep

import (
	"context"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// Recipients know the keys that deliveries are encrypted to. Safe for concurrent use.
type Recipients interface {
	// KeyNotice returns how near the end of a subscription's key is, for a topic, and when it is; zero: not known.
	KeyNotice(topic, key string) (hub.KeyNotice, time.Time)
}

const (
	// recipientInterval is how often the keys of subscriptions are looked at.
	recipientInterval = 10 * time.Minute
	// maxNoticed is how many subscriptions are looked at at once.
	maxNoticed = 500
)

// sweepRecipients tells of the keys of subscriptions that end soon.
func (s *Sweeper) sweepRecipients(ctx context.Context) error {
	for after := hub.SubscriptionID(0); ; {
		var page []hub.Subscription
		s.o.State.View(func(st *hub.State) {
			page = st.Subscriptions(after, maxNoticed, func(sub *hub.Subscription) bool { return sub.EncryptionKey != "" && sub.KeyNotice < hub.KeyEnded })
		})
		if len(page) == 0 {
			return nil
		}
		after = page[len(page)-1].ID
		e := &hubpb.EncryptionKeysEnding{}
		for i := range page {
			sub := &page[i]
			if n, ends := s.o.Recipients.KeyNotice(sub.TopicName, sub.EncryptionKey); n > sub.KeyNotice {
				k := &hubpb.EndingKey{Subscription: uint64(sub.ID), RenewedAt: sub.RenewedAt.UnixNano(), Notice: uint32(n)}
				if !ends.IsZero() {
					k.EndsAt = ends.UnixNano()
				}
				e.Keys = append(e.Keys, k)
			}
		}
		if len(e.Keys) == 0 {
			continue
		}
		if err := s.propose(ctx, &hubpb.Event{Kind: &hubpb.Event_EncryptionKeysEnding{EncryptionKeysEnding: e}}); err != nil {
			return err
		}
		s.o.Log.Warn("encryption keys of subscriptions end; renew the subscriptions with others", "subscriptions", len(e.Keys))
	}
}
