package hub

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
)

// SignedBySubscriber finds the active subscription of a topic and callback whose secret signed text; mac is the
// HMAC-SHA256. A missing subscription, one without a secret and a wrong signature cannot be distinguished, neither by
// the result nor by the time taken.
func (s *Service) SignedBySubscriber(topic, callbackKey string, text, mac []byte) (Subscription, bool, error) {
	var sub Subscription
	var ok bool
	s.state.View(func(st *State) { sub, ok = st.SubscriptionByKey(topic, callbackKey) })
	ok = ok && len(sub.SealedSecret) > 0 && !sub.Expired(s.now())
	binding := SecretBinding(topic, callbackKey)
	sealed := sub.SealedSecret
	if !ok {
		var err error
		if sealed, err = s.secrets.Seal([]byte("nobody's"), binding); err != nil {
			return Subscription{}, false, fmt.Errorf("seal a secret: %w", err)
		}
	}
	secret, err := s.secrets.Open(sealed, binding)
	if err != nil {
		return Subscription{}, false, fmt.Errorf("open the secret of %s: %w", sub.ID, err)
	}
	h := hmac.New(sha256.New, secret)
	h.Write(text)
	if same := hmac.Equal(h.Sum(nil), mac); !same || !ok {
		return Subscription{}, false, nil
	}
	return sub, true, nil
}
