package delivery_test

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"quorumhub/delivery"
	"quorumhub/hub"
	"quorumhub/test/fake"
)

// accepts verifies with the Standard Webhooks project's library, whose secrets are base64, with or without whsec_.
func accepts(t *testing.T, secret string, a fake.Arrival) bool {
	t.Helper()
	encoded := secret
	if !strings.HasPrefix(secret, "whsec_") {
		encoded = base64.StdEncoding.EncodeToString([]byte(secret))
	}
	wh, err := standardwebhooks.NewWebhook(encoded)
	if err != nil {
		t.Fatal(err)
	}
	return wh.VerifyIgnoringTimestamp([]byte(a.Body), a.Header) == nil // the bubble has its own clock
}

func TestStandardWebhooks(t *testing.T) {
	const first, second, third = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "a secret as it is", "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
	bubble(t, fake.OK, nil, func(r *rig) {
		signed := func(body string) fake.Arrival {
			r.Publish("t", body)
			r.after(time.Second)
			all := r.net.To(fake.Callback)
			return all[len(all)-1]
		}
		count := func(a fake.Arrival) int { return len(strings.Fields(a.Header.Get("Webhook-Signature"))) }

		r.SubscribeSigned(fake.Callback, first, hub.SchemeStandardWebhooks, 24*time.Hour)
		a := signed("hello")
		if !accepts(t, first, a) || accepts(t, second, a) || count(a) != 1 {
			t.Errorf("signed %v", a.Header)
		}
		if a.Header.Get("Webhook-Id") != a.ID || a.ID == "" || a.Header.Get("Webhook-Timestamp") == "" {
			t.Errorf("header %v", a.Header)
		}
		// X-Hub-Signature is sent too; its key is the secret as the subscriber sent it (WebSub section 7.1).
		if !delivery.Verify(a.Header.Get("X-Hub-Signature"), []byte(first), []byte("hello")) {
			t.Errorf("X-Hub-Signature is %s", a.Header.Get("X-Hub-Signature"))
		}
		if a := signed(""); !accepts(t, first, a) {
			t.Errorf("an empty body: %v", a.Header)
		}

		// For a while after a renewal both secrets sign, here and in replays; X-Hub-Signature uses only the new one.
		r.SubscribeSigned(fake.Callback, second, hub.SchemeStandardWebhooks, 24*time.Hour)
		a = signed("two")
		if !accepts(t, first, a) || !accepts(t, second, a) || count(a) != 2 {
			t.Errorf("during the rotation: %v", a.Header)
		}
		if v := a.Header.Get("X-Hub-Signature"); !delivery.Verify(v, []byte(second), []byte("two")) || strings.ContainsAny(v, " ,") {
			t.Errorf("X-Hub-Signature is %s", v)
		}
		// A renewal with the same secret changes nothing, and keeps the previous one.
		r.after(12 * time.Hour)
		r.SubscribeSigned(fake.Callback, second, hub.SchemeStandardWebhooks, 24*time.Hour)
		if a = signed("three"); !accepts(t, first, a) || !accepts(t, second, a) || count(a) != 2 {
			t.Errorf("after a renewal with the same secret: %v", a.Header)
		}
		r.after(13 * time.Hour)
		if a = signed("four"); accepts(t, first, a) || !accepts(t, second, a) || count(a) != 1 {
			t.Errorf("after the grace: %v", a.Header)
		}
		// A restart loses no secret.
		r.SubscribeSigned(fake.Callback, third, hub.SchemeStandardWebhooks, time.Hour)
		r.stop()
		r.start()
		if a = signed("five"); accepts(t, first, a) || !accepts(t, second, a) || !accepts(t, third, a) {
			t.Errorf("after a restart: %v", a.Header)
		}
		r.SubscribeSigned(fake.Callback, third, "", time.Hour)
		if a = signed("six"); a.Header.Get("Webhook-Signature") != "" || a.Header.Get("X-Hub-Signature") == "" {
			t.Errorf("unrequested webhook-signature: %v", a.Header)
		}
		r.SubscribeSigned(fake.Callback, first, hub.SchemeStandardWebhooks, 0)
		r.SubscribeSigned(fake.Callback, second, hub.SchemeStandardWebhooks, 0)
		if a = signed("seven"); accepts(t, first, a) || !accepts(t, second, a) || count(a) != 1 {
			t.Errorf("without a grace: %v", a.Header)
		}
	})
}

// The library as its users call it, with the check of the timestamp.
func TestWebhookSignatureTimestamp(t *testing.T) {
	signer := &delivery.WebhookSigner{}
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	signer.Add([]byte(secret), time.Time{})
	wh, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	body := []byte(`{"a":1}`)
	timestamp, signature := signer.Sign("1-17", time.Now(), body)
	h := http.Header{}
	h.Set("webhook-id", "1-17")
	h.Set("webhook-timestamp", timestamp)
	h.Set("webhook-signature", signature)
	if err := wh.Verify(body, h); err != nil {
		t.Error(err)
	}
	h.Set("webhook-id", "1-18")
	if err := wh.Verify(body, h); err == nil {
		t.Error("the signature verifies another message")
	}
}
