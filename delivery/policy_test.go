package delivery_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"quorumhub/delivery"
	"quorumhub/delivery/egress"
	"quorumhub/delivery/retry"
	"quorumhub/hub"
	"quorumhub/test/fake"
)

// dresses is a policy for the topic "orders": a header, and bodies in brackets. The body "bad" cannot be sent.
type dresses struct{ asked int }

func (d *dresses) DeliveryPolicy(topic string) (hub.DeliveryPolicy, bool) {
	return d, topic == "orders"
}
func (d *dresses) Headers() []hub.Header { return []hub.Header{{Name: "X-Env", Value: "prod"}} }
func (d *dresses) Transforms() bool      { return true }
func (d *dresses) Transform(m *hub.Message, _ hub.PartReader) ([]byte, error) {
	d.asked++
	switch string(m.Body) {
	case "bad":
		return nil, errors.New("is bad")
	case "unreadable":
		if d.asked < 4 {
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
