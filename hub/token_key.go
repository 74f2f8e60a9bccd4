package hub

import (
	"slices"
	"time"

	"quorumhub/hub/hubpb"
)

// MaxTokenTTL bounds how long a token for a service behind the gateway is valid. It is part of the fold.
const MaxTokenTTL = time.Hour

// FormerTokenKey verifies tokens that were signed with a key that no node holds any more.
type FormerTokenKey struct {
	Public []byte    // P-256, an uncompressed point
	Until  time.Time // when the last of the tokens has ended
}

// FormerTokenKeys returns the keys of tokens that may still be valid although their sealing key is retired, oldest first.
func (s *State) FormerTokenKeys() (out []FormerTokenKey) {
	for _, k := range s.meta.FormerTokenKeys {
		out = append(out, FormerTokenKey{k.Public, timeOf(k.Until)})
	}
	return out
}

// KeepsTokenKeys reports whether all members know FormerTokenKeys.
func (s *State) KeepsTokenKeys() bool { return s.meta.FeatureLevel >= levelGateway }

// keepTokenKey keeps the public key of tokens that may still be valid, and forgets those whose tokens have ended.
func (s *State) keepTokenKey(public []byte) {
	if len(public) == 0 {
		return
	}
	m := &s.meta
	m.FormerTokenKeys = slices.DeleteFunc(m.FormerTokenKeys, func(k *hubpb.FormerTokenKey) bool { return k.Until <= m.Now })
	m.FormerTokenKeys = append(m.FormerTokenKeys, &hubpb.FormerTokenKey{Public: public, Until: m.Now + int64(MaxTokenTTL)})
	if n := len(m.FormerTokenKeys) - maxRetiredKeys; n > 0 {
		m.FormerTokenKeys = slices.Clone(m.FormerTokenKeys[n:])
	}
}
