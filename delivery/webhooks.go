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

// WebhookSigner makes Standard Webhooks 1.0 signatures (https://www.standardwebhooks.com): HMAC-SHA256 over ID, time
// and body with each valid key. Not safe for concurrent use.
type WebhookSigner struct {
	keys []webhookKey
	buf  []byte
}

type webhookKey struct {
	mac   hash.Hash
	until time.Time // zero: forever
}

// Add adds a secret (see hub.WebhookKey) that signs until the given time, or forever if it is zero. Add the current
// secret first.
func (s *WebhookSigner) Add(secret []byte, until time.Time) {
	s.keys = append(s.keys, webhookKey{hmac.New(sha256.New, hub.WebhookKey(secret)), until})
}

// Sign returns the values of webhook-timestamp and webhook-signature for a message sent at now.
func (s *WebhookSigner) Sign(id string, now time.Time, body []byte) (timestamp, signature string) {
	timestamp, signature, _ = s.SignReader(id, now, bytes.NewReader(body)) // never fails
	return timestamp, signature
}

// SignReader is Sign for a body that it reads to the end. It returns the reader's error.
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

// webhookFields returns the header fields of Standard Webhooks.
func webhookFields(id, timestamp, signature string) []egress.Field {
	return []egress.Field{
		{Name: "Webhook-Id", Value: id}, {Name: "Webhook-Timestamp", Value: timestamp}, {Name: "Webhook-Signature", Value: signature},
	}
}
