package delivery_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"quorumhub/delivery"
	"quorumhub/delivery/egress"
	"quorumhub/delivery/retry"
	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/test/fake"
)

// dresses is a policy for the topic "orders": a header, and bodies in brackets. The body "bad" cannot be sent. Encrypted bodies are in
// braces, after the key.
type dresses struct {
	asked    atomic.Int64
	encrypts bool
}

func (d *dresses) Encrypts() bool { return d.encrypts }
func (d *dresses) Encrypt(_ string, body []byte, kind, key string) ([]byte, string, error) {
	if key == "ended" {
		return nil, "", errors.New("it has ended")
	}
	return []byte(key + "{" + kind + string(body) + "}"), "application/jose", nil
}

func (d *dresses) DeliveryPolicy(topic string) (hub.DeliveryPolicy, bool) {
	return d, topic == "orders"
}
func (d *dresses) Headers() []hub.Header { return []hub.Header{{Name: "X-Env", Value: "prod"}} }
func (d *dresses) Transforms() bool      { return true }
func (d *dresses) Transform(m *hub.Message, _ hub.PartReader) ([]byte, error) {
	asked := d.asked.Add(1)
	switch string(m.Body) {
	case "bad":
		return nil, errors.New("is bad")
	case "unreadable":
		if asked < 4 {
			return nil, fmt.Errorf("read: %w", hub.ErrCorrupt)
		}
	}
	return []byte("[" + string(m.Body) + "]"), nil
}

// What a topic's policy makes of a message is what is sent and signed; a message that it cannot make anything of becomes a dead
// letter and is never sent as it is. Other topics are not touched.
func TestDeliveriesFollowThePolicyOfTheirTopic(t *testing.T) {
	policy := &dresses{}
	bubble(t, func(string, int, string) fake.Answer { return fake.Answer{} }, func(o *delivery.DispatcherOptions) {
		o.Policies = policy
		o.Retry = retry.Policy{Backoff: retry.Backoff{Initial: time.Second, Max: time.Second}, RefusedAttempts: 2}
	}, func(r *rig) {
		const to, other = "http://a.example/", "http://b.example/"
		r.Subscribe(fake.Want{Topic: "orders", Callback: to, Secret: "secret"})
		r.Subscribe(fake.Want{Topic: "news", Callback: other})
		for _, body := range []string{"1", "unreadable", "bad", "2"} {
			r.Publish("orders", body)
		}
		r.Publish("news", "as it is")
		r.after(time.Minute)
		if got := fake.Bodies(r.net.To(to)); got != "[1] [unreadable] [2]" {
			t.Errorf("sent %s", got)
		}
		signature, err := delivery.Sign(delivery.SHA256, []byte("secret"), []byte("[1]"))
		if err != nil {
			t.Fatal(err)
		}
		if h := r.net.To(to)[0].Header; h.Get("X-Env") != "prod" || h.Get("X-Hub-Signature") != signature {
			t.Errorf("header %v, want the signature %s of what is sent", h, signature)
		}
		if got := r.net.To(other); fake.Bodies(got) != "as it is" || got[0].Header.Get("X-Env") != "" {
			t.Errorf("another topic got %v", got)
		}
		letters := r.DeadLetters()
		if len(letters) != 1 || letters[0].Offset != 3 || letters[0].Reason != string(egress.ReasonPolicy) {
			t.Fatalf("dead letters %+v", letters)
		}
	})
}

// Deliveries to a subscription with a key are encrypted to it, whatever the topic's policy, and signed as they are sent; without a key
// a topic that encrypts sends nothing, and neither does one whose key has ended.
func TestDeliveriesAreEncrypted(t *testing.T) {
	policy := &dresses{encrypts: true}
	var contents *hub.TopicContents
	bubble(t, func(string, int, string) fake.Answer { return fake.Answer{} }, func(o *delivery.DispatcherOptions) {
		contents = hub.NewTopicContents(o.State)
		o.Policies, o.Contents = policy, contents
		o.Retry = retry.Policy{Backoff: retry.Backoff{Initial: time.Second, Max: time.Second}, RefusedAttempts: 1}
	}, func(r *rig) {
		r.Observe(contents)
		r.Do(&hubpb.Event{Kind: &hubpb.Event_FeatureLevelSet{FeatureLevelSet: &hubpb.FeatureLevelSet{Level: hub.FeatureLevel}}})
		subscribe := func(topic, callback, key string) {
			id := r.Do(&hubpb.Event{Kind: &hubpb.Event_SubscriptionRequested{SubscriptionRequested: &hubpb.SubscriptionRequested{Mode: hub.ModeSubscribe,
				Topic: topic, TopicRaw: topic, Callback: callback, CallbackKey: callback, LeaseSeconds: 3600, AutoRegister: true, EncryptionKey: key}}})[0].ID
			r.Do(&hubpb.Event{Kind: &hubpb.Event_RequestVerified{RequestVerified: &hubpb.RequestVerified{Request: id, VerifiedFrom: time.Now().UnixNano(),
				Candidates: []*hubpb.Candidate{{Node: "node-1"}}}}})
		}
		subscribe("orders", "http://with.example/", "k")
		subscribe("orders", "http://without.example/", "")
		subscribe("orders", "http://ended.example/", "ended")
		subscribe("news", "http://news.example/", "k")
		subscribe("news", "http://plain.example/", "")
		subscribe("strict", "http://strict.example/", "k")
		subscribe("strict", "http://open.example/", "")
		r.Do(&hubpb.Event{Kind: &hubpb.Event_TopicContentSet{TopicContentSet: &hubpb.TopicContentSet{Topic: "strict", Content: &hubpb.TopicContent{RequireEncryption: true}}}})
		r.Publish("orders", "1")
		r.Publish("news", "2")
		r.Publish("strict", "3")
		r.after(10 * time.Second)
		for callback, want := range map[string]string{"http://with.example/": "k{text/plain[1]}", "http://without.example/": "", "http://ended.example/": "",
			"http://news.example/": "k{text/plain2}", "http://plain.example/": "2",
			"http://strict.example/": "k{text/plain3}", "http://open.example/": ""} {
			got := r.net.To(callback)
			if fake.Bodies(got) != want || want != "" && want[0] == 'k' && got[0].Header.Get("Content-Type") != "application/jose" {
				t.Errorf("%s got %v, want %q", callback, got, want)
			}
		}
		if letters := r.DeadLetters(); len(letters) != 3 || letters[0].Reason != string(egress.ReasonPolicy) {
			t.Errorf("dead letters %+v", letters)
		}
	})
}
