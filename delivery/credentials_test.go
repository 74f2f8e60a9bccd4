package delivery_test

import (
	"strings"
	"testing"
	"time"

	"quorumhub/delivery"
	"quorumhub/delivery/credential"
	"quorumhub/delivery/egress"
	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/test/fake"
)

func setCredentials(r *rig, pattern string, c hub.Credentials) {
	r.T.Helper()
	if err := c.Check(); err != nil {
		r.T.Fatal(err)
	}
	text, err := c.Encode()
	if err != nil {
		r.T.Fatal(err)
	}
	sealed, err := fake.Box{}.Seal(text, hub.CallbackBinding(pattern))
	if err != nil {
		r.T.Fatal(err)
	}
	r.Do(&hubpb.Event{Kind: &hubpb.Event_CallbackCredentialsSet{CallbackCredentialsSet: &hubpb.CallbackCredentialsSet{Callback: pattern, Sealed: sealed}}})
}

// Nothing is sent without what the callback demands; what is set later goes with the next attempt of the same message.
func TestDeliveryWaitsForCredentials(t *testing.T) {
	const idp = "https://idp.example/token"
	behave := func(url string, nth int, body string) fake.Answer {
		if url == idp {
			return fake.Answer{Status: 500}
		}
		return fake.Answer{}
	}
	var attempts []delivery.PushResult
	bubble(t, behave, func(o *delivery.DispatcherOptions) {
		e := o.State.(*fake.Engine)
		o.Credentials = credential.NewBook(credential.Options{State: e, Secrets: fake.Box{}, Client: o.Pusher.Client, Clock: hub.SystemClock{}, UserAgent: "x"})
		o.Attempted = func(_ hub.TopicID, res delivery.PushResult) { attempts = append(attempts, res) }
		e.Observe(o.Credentials)
	}, func(r *rig) {
		setCredentials(r, "cb.example", hub.Credentials{OAuth2: &hub.ClientCredentials{TokenURL: idp, ClientID: "c", ClientSecret: "s"}})
		r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback, Secret: "sign"})
		r.Publish("t", "one")
		r.after(10 * time.Second)
		if n := len(r.net.To(fake.Callback)); n != 0 {
			t.Errorf("%d requests without a token", n)
		}
		if len(attempts) < 2 || attempts[0].Outcome != delivery.PushDown || attempts[0].Reason != egress.ReasonCredentials {
			t.Errorf("attempts: %+v", attempts)
		}
		if asked := len(r.net.To(idp)); asked == 0 || asked > 3 {
			t.Errorf("the token service was asked %d times in 10 s", asked)
		}
		setCredentials(r, "cb.example", hub.Credentials{Headers: map[string]string{"X-Key": "k"}, Basic: &hub.BasicCredentials{User: "u", Password: "p"}})
		r.after(time.Minute)
		r.Publish("t", "two")
		r.after(time.Second)
		all := r.net.To(fake.Callback)
		if len(all) != 2 || all[0].Body != "one" || all[1].Body != "two" {
			t.Fatalf("delivered %+v", all)
		}
		for _, a := range all {
			if a.Header.Get("X-Key") != "k" || a.Header.Get("Authorization") != "Basic dTpw" || !strings.HasPrefix(a.Header.Get("X-Hub-Signature"), "sha256=") {
				t.Errorf("header %v", a.Header)
			}
		}
	})
}
