package hub

import "quorumhub/hub/hubpb"

// KeyNotice is how near the end of a subscription's encryption key is. Each is nearer than those before it, and told once.
type KeyNotice uint32

// Notices.
const (
	KeyNotSoon KeyNotice = iota
	KeyWithinMonth
	KeyWithinWeek
	KeyWithinDay
	KeyEnded // or it was revoked: nothing is encrypted to it any more
)

// String returns the notice as events spell it.
func (n KeyNotice) String() string {
	return [...]string{"", "month", "week", "day", "ended"}[min(n, KeyEnded)]
}

// KeyNotices counts the subscriptions whose encryption key ends within a month, and those whose key has ended, as far as was told.
func (s *State) KeyNotices() (ending, ended int) {
	n := &s.keyNotices
	return n[KeyWithinMonth] + n[KeyWithinWeek] + n[KeyWithinDay], n[KeyEnded]
}

func (s *State) setKeyNotice(sub *Subscription, n KeyNotice) {
	s.countKeyNotice(sub, -1)
	sub.KeyNotice = n
	s.countKeyNotice(sub, 1)
}

func (s *State) countKeyNotice(sub *Subscription, by int) {
	if sub.KeyNotice != KeyNotSoon {
		s.keyNotices[min(sub.KeyNotice, KeyEnded)] += by
	}
}

// noticeKeys tells of keys that end, each nearness once.
func (s *State) noticeKeys(e *hubpb.EncryptionKeysEnding, fx *Effects) Result {
	for _, k := range e.Keys {
		sub := s.subs[SubscriptionID(k.Subscription)]
		n := KeyNotice(min(k.Notice, uint32(KeyEnded)))
		if sub == nil || sub.EncryptionKey == "" || nanos(sub.RenewedAt) != k.RenewedAt || n <= sub.KeyNotice {
			continue
		}
		s.setKeyNotice(sub, n)
		s.touch(TableSubscription, k.Subscription)
		s.announce(LifecycleKeyEnding, sub, fx, func(l *Lifecycle) {
			if l.Reason = n.String(); k.EndsAt != 0 {
				l.KeyEndsAt = stamp(k.EndsAt)
			}
		})
	}
	return Result{}
}
