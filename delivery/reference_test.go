package delivery_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"quorumhub/delivery"
	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/test/fake"
)

// Subscriptions get references where their topic says so, signed as what they are, and what they refer to is what they would have got.
func TestDeliveriesByReference(t *testing.T) {
	keys := hub.ReferenceKeys(func() [][]byte { return [][]byte{[]byte("secret")} })
	var contents *hub.TopicContents
	bubble(t, func(_ string, nth int, _ string) fake.Answer {
		if nth == 1 {
			return fake.Answer{Status: 500}
		}
		return fake.Answer{}
	}, func(o *delivery.DispatcherOptions) {
		o.Policies = &dresses{}
		contents = hub.NewTopicContents(o.State)
		o.References = delivery.NewReferences(contents, keys, "https://hub.example/", o.Namer, o.Clock)
	}, func(r *rig) {
		r.Observe(contents)
		const to = "http://a.example/"
		id := r.Subscribe(fake.Want{Topic: "orders", Callback: to, Secret: "secret"})
		r.Do(&hubpb.Event{Kind: &hubpb.Event_TopicContentSet{TopicContentSet: &hubpb.TopicContentSet{Topic: "orders",
			Content: &hubpb.TopicContent{ByReference: true, Uses: 2, ValidFor: int64(time.Hour), SamePrincipal: true}}}})
		r.Publish("orders", "one")
		r.after(time.Minute)
		got := r.net.To(to)
		if len(got) != 2 {
			t.Fatalf("%d attempts, want 2", len(got))
		}
		for _, d := range got {
			var doc struct {
				ID, Topic, SHA256, URL string
				ContentType            string `json:"content_type"`
				Bytes, Uses            int
				ExpiresAt              time.Time `json:"expires_at"`
			}
			if err := json.Unmarshal([]byte(d.Body), &doc); err != nil {
				t.Fatalf("%s: %v", d.Body, err)
			}
			sum := sha256.Sum256([]byte("[one]"))
			if doc.ID != "1-1" || doc.Bytes != 5 || doc.SHA256 != hex.EncodeToString(sum[:]) || doc.Uses != 2 || doc.ContentType == "" || !strings.HasSuffix(doc.Topic, "/topics/orders") {
				t.Errorf("got %s", d.Body)
			}
			ticket, ok := strings.CutPrefix(doc.URL, "https://hub.example/share/")
			ref, err := keys.Parse(ticket)
			if !ok || err != nil || ref.Subscription != id || ref.Offset != 1 || ref.Uses != 2 || !ref.SamePrincipal || !ref.Until.Equal(doc.ExpiresAt) {
				t.Errorf("the ticket of %s: %+v, %v", doc.URL, ref, err)
			}
			signature, err := delivery.Sign(delivery.SHA256, []byte("secret"), []byte(d.Body))
			if err != nil || d.Header.Get("X-Hub-Signature") != signature || d.Header.Get("Content-Type") != "application/json" {
				t.Errorf("header %v, want the signature %s (%v)", d.Header, signature, err)
			}
		}
		r.Do(&hubpb.Event{Kind: &hubpb.Event_TopicContentSet{TopicContentSet: &hubpb.TopicContentSet{Topic: "orders", Content: &hubpb.TopicContent{Uses: 2, ValidFor: int64(time.Hour)}}}})
		r.Publish("orders", "two")
		r.after(time.Minute)
		if got := r.net.To(to); got[len(got)-1].Body != "[two]" {
			t.Errorf("a topic that offers references sends %q to those who did not ask", got[len(got)-1].Body)
		}
	})
}
