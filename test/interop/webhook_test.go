package interop_test

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"quorumhub/web/gateway/webhook"
)

// TestWebhooksSignedByTheirLibraries: what the libraries of GitHub, Stripe and Standard Webhooks sign is verified, and
// refused once a byte of it is changed, when it is late, and with another secret.
func TestWebhooksSignedByTheirLibraries(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	for _, c := range []struct{ scheme, npm, version, secret, other, id, event, body string }{
		{"github", "@octokit/webhooks-methods", "6.0.0", "It's a Secret to Everybody", "It's a Secret to Nobody", "72d3162e-cc78-11e3-81ab-4c9367dc0958", "push",
			`{"ref":"refs/heads/main","repository":{"full_name":"octo/häuschen"}}`},
		{"stripe", "stripe", "23.1.0", "whsec_9f1e2d3c4b5a69788796a5b4c3d2e1f0", "whsec_00112233445566778899aabbccddeeff", "evt_1NG8Du2eZvKYlo2CUI79vXWy", "invoice.paid",
			`{"id": "evt_1NG8Du2eZvKYlo2CUI79vXWy", "object": "event", "type": "invoice.paid", "data": {"object": {"amount_paid": 1200}}}`},
		{"standard-webhooks", "standardwebhooks", "1.1.1", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "msg_p5jXN8AQM9LWM0D4loKWxJek", "user.created",
			`{"type":"user.created","timestamp":"2026-01-01T00:00:00Z","data":{"name":"Zoë"}}`},
	} {
		t.Run(c.scheme, func(t *testing.T) {
			node := needsNPM(t, c.npm, c.version)
			sender := startDriver(t, node, "webhook-sender.mjs")
			request, err := json.Marshal(map[string]any{"scheme": c.scheme, "secret": c.secret, "id": c.id, "timestamp": now.Unix(), "body": []byte(c.body)})
			if err != nil {
				t.Fatal(err)
			}
			sender.tell(t, string(request))
			var fields map[string]string
			if err := json.Unmarshal([]byte(sender.line(t, "the header")), &fields); err != nil {
				t.Fatal(err)
			}
			h := http.Header{}
			for name, value := range fields {
				h.Set(name, value)
			}
			verify := func(secret, body string, at time.Time) (webhook.Delivery, error) {
				v, err := webhook.New(webhook.Config{Scheme: c.scheme, Secrets: []string{secret}})
				if err != nil {
					t.Fatal(err)
				}
				return v.Verify(h, []byte(body), at)
			}
			got, err := verify(c.secret, c.body, now)
			if err != nil || got.ID != c.id || got.Event != c.event {
				t.Errorf("got %+v, %v; want id %s and event %s", got, err, c.id, c.event)
			}
			for i := range c.body {
				changed := []byte(c.body)
				changed[i] ^= 0x20
				if _, err := verify(c.secret, string(changed), now); err == nil {
					t.Errorf("accepted with byte %d changed", i)
				}
			}
			if _, err := verify(c.other, c.body, now); err == nil {
				t.Error("accepted with another secret")
			}
			if _, err := verify(c.secret, c.body, now.Add(301*time.Second)); (err == nil) != (c.scheme == "github") {
				t.Errorf("five minutes later: %v", err)
			}
		})
	}
}
