package delivery

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"strings"
	"sync"
	"time"

	"quorumhub/hub"
)

// References makes references to content, which subscriptions get in its place where their topic says so. Make one with NewReferences.
// Safe for concurrent use.
type References struct {
	contents *hub.TopicContents
	keys     hub.ReferenceKeys
	below    string // URL before the ticket
	namer    *hub.TopicNamer
	clock    hub.Clock
	sums     sums
}

// NewReferences returns References to be fetched from a hub at publicURL.
func NewReferences(contents *hub.TopicContents, keys hub.ReferenceKeys, publicURL string, namer *hub.TopicNamer, clock hub.Clock) *References {
	return &References{contents: contents, keys: keys, below: strings.TrimSuffix(publicURL, "/") + "/share/", namer: namer, clock: clock,
		sums: sums{known: map[sumKey]string{}, ring: make([]sumKey, 0, keptSums)}}
}

// referenceDocument is what a subscription gets in place of content.
type referenceDocument struct {
	ID          string    `json:"id"`
	Topic       string    `json:"topic"`
	ContentType string    `json:"content_type"`
	Bytes       int64     `json:"bytes"`
	SHA256      string    `json:"sha256"`
	URL         string    `json:"url"`
	ExpiresAt   time.Time `json:"expires_at"`
	Uses        int       `json:"uses"`
}

// refer replaces content by a reference to it, if the subscription of the endpoint gets that.
func (r *References) refer(e *Endpoint, m *hub.Message, topic string, c *Content) error {
	if r == nil {
		return nil
	}
	rule := r.contents.Of(m.Topic)
	if !rule.References() || !rule.ByReference && !e.reference {
		return nil
	}
	sum, size, err := r.sums.of(m, c)
	if err != nil {
		return err
	}
	to := &hub.Reference{Subscription: e.subscription, Offset: m.Offset, Until: r.clock.Now().Add(rule.For).UTC().Truncate(time.Second), Uses: rule.Uses,
		SamePrincipal: rule.SamePrincipal}
	ticket, err := r.keys.Ticket(to)
	if err != nil {
		return err
	}
	text, err := json.Marshal(&referenceDocument{ID: m.ID(), Topic: r.namer.URL(topic), ContentType: c.ContentType, Bytes: size, SHA256: sum,
		URL: r.below + ticket, ExpiresAt: to.Until, Uses: to.Uses})
	if err != nil {
		return err
	}
	c.Body, c.Blob, c.ContentType = text, nil, "application/json"
	return nil
}

// keptSums is how many sums of large messages are remembered.
const keptSums = 4096

// sums remembers the SHA-256 of large messages, so that not every subscription has them read. The oldest make room.
type sums struct {
	mu    sync.Mutex
	known map[sumKey]string
	ring  []sumKey
	next  int
}

type sumKey struct {
	topic  hub.TopicID
	offset uint64
}

func (s *sums) of(m *hub.Message, c *Content) (sum string, size int64, err error) {
	if c.Blob == nil {
		of := sha256.Sum256(c.Body)
		return hex.EncodeToString(of[:]), int64(len(c.Body)), nil
	}
	k := sumKey{m.Topic, m.Offset}
	s.mu.Lock()
	sum = s.known[k]
	s.mu.Unlock()
	if sum != "" {
		return sum, c.Blob.Size, nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, c.Blob.Open()); err != nil {
		return "", 0, err
	}
	sum = hex.EncodeToString(h.Sum(nil))
	s.put(k, sum)
	return sum, c.Blob.Size, nil
}

func (s *sums) put(k sumKey, sum string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.known[k]; !ok {
		if len(s.ring) < cap(s.ring) {
			s.ring = append(s.ring, k)
		} else {
			delete(s.known, s.ring[s.next])
			s.ring[s.next] = k
			s.next = (s.next + 1) % len(s.ring)
		}
	}
	s.known[k] = sum
}
