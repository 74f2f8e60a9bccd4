package delivery

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"hash"
	"io"
	"strconv"
	"strings"
	"time"

	"quorumhub/delivery/egress"
	"quorumhub/hub"
)

// WebhookSigner makes the signatures of Standard Webhooks 1.0 (https://www.standardwebhooks.com): HMAC-SHA256 with each
// key that is still good over id, time and body. Not safe for concurrent use.
type WebhookSigner struct {
	keys []webhookKey
	buf  []byte
}

type webhookKey struct {
	mac   hash.Hash
	until time.Time // zero: for ever
}

// Add adds a secret (see hub.WebhookKey) that signs until a time, zero: for ever. The present one is added first.
func (s *WebhookSigner) Add(secret []byte, until time.Time) {
	s.keys = append(s.keys, webhookKey{hmac.New(sha256.New, hub.WebhookKey(secret)), until})
}

// Sign returns the values of webhook-timestamp and webhook-signature for a message that is sent now.
func (s *WebhookSigner) Sign(id string, now time.Time, body []byte) (timestamp, signature string) {
	timestamp, signature, _ = s.SignReader(id, now, bytes.NewReader(body)) // never fails
	return timestamp, signature
}

// SignReader is Sign for a body that is read; its error is the reader's.
func (s *WebhookSigner) SignReader(id string, now time.Time, body io.Reader) (timestamp, signature string, err error) {
	timestamp = strconv.FormatInt(now.Unix(), 10)
	s.buf = append(append(append(append(s.buf[:0], id...), '.'), timestamp...), '.')
	var macs []hash.Hash
	var all []io.Writer
	for _, k := range s.keys {
		if !k.until.IsZero() && !now.Before(k.until) {
			continue
		}
		k.mac.Reset()
		k.mac.Write(s.buf)
		macs, all = append(macs, k.mac), append(all, k.mac)
	}
	if _, err := io.Copy(io.MultiWriter(all...), body); err != nil {
		return "", "", err
	}
	var out strings.Builder
	for i, mac := range macs {
		if i > 0 {
			out.WriteByte(' ')
		}
		out.WriteString("v1,")
		out.WriteString(base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	return timestamp, out.String(), nil
}

// webhookSecrets say that a subscription wants the signatures of Standard Webhooks too.
type webhookSecrets struct {
	former []hub.FormerSecret // that sign beside the present one
}

func webhooksOf(s *hub.Subscription) *webhookSecrets {
	if s.Scheme != hub.SchemeStandardWebhooks {
		return nil
	}
	return &webhookSecrets{s.Former}
}

// credentials are what signs a subscription's messages.
type credentials struct {
	sealed    []byte
	signature string
	bound     string
	webhooks  *webhookSecrets
}

// webhookSigner opens what signs a subscription's messages besides X-Hub-Signature. Secrets that are there twice, after a
// renewal that did not change it, sign once.
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

// webhookFields are the header fields of Standard Webhooks.
func webhookFields(id, timestamp, signature string) []egress.Field {
	return []egress.Field{
		{Name: "Webhook-Id", Value: id}, {Name: "Webhook-Timestamp", Value: timestamp}, {Name: "Webhook-Signature", Value: signature},
	}
}
