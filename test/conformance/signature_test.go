package conformance_test

import (
	"strings"
	"testing"

	"quorumhub/test/hubtest"
)

func TestRule08SignatureIsSentWithASecret(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	s, _ := subscribed(t, n, topic, "hub.secret", "my secret")
	n.Publish(t, topic, "text/plain", []byte("signed"))
	d := s.WaitBody(t, "signed")
	if got, want := d.Header.Get("X-Hub-Signature"), hubtest.Sign("sha256", "my secret", []byte("signed")); got != want {
		t.Errorf("X-Hub-Signature: got %q, want %q", got, want)
	}
}

func TestRule55SignatureCoversTheExactBytes(t *testing.T) {
	n := shared(t)
	for name, body := range contents() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			topic := newTopic(t, n)
			secret := "p\u00e4ss\x00w\u00f6rd &+%=" + name
			s, _ := subscribed(t, n, topic, "hub.secret", secret)
			n.Publish(t, topic, "application/octet-stream", body)
			d := s.WaitDeliveries(t, 1)[0]
			wantBody(t, "delivery", d.Body, body)
			if !d.SignedBy(secret) {
				t.Errorf("X-Hub-Signature %q is not the HMAC of the body", d.Header.Values("X-Hub-Signature"))
			}
		})
	}
}

func TestRule56AllFourMethods(t *testing.T) {
	for _, method := range []string{"sha1", "sha256", "sha384", "sha512"} {
		t.Run("of the hub "+method, func(t *testing.T) {
			t.Parallel()
			n := hubtest.Start(t, hubtest.Options{Settings: hubtest.Settings{"hub.signature": method}})
			wantMethod(t, n, method)
		})
	}
}

// A subscriber may request the methods it knows; the hub uses the strongest of them.
func TestRule56MethodOfASubscription(t *testing.T) {
	n := shared(t)
	for asked, want := range map[string]string{
		"sha1": "sha1", "sha256": "sha256", "sha384": "sha384", "sha512": "sha512", "sha1,sha256": "sha256", "sha512 sha1": "sha512",
	} {
		t.Run(asked, func(t *testing.T) {
			t.Parallel()
			wantMethod(t, n, want, "hub.hash_algorithms", asked)
		})
	}
}

func wantMethod(t *testing.T, n *hubtest.Node, method string, more ...string) {
	t.Helper()
	topic := newTopic(t, n)
	s, _ := subscribed(t, n, topic, append(more, "hub.secret", "s")...)
	n.Publish(t, topic, "text/plain", []byte("x"))
	if got, want := s.WaitBody(t, "x").Header.Get("X-Hub-Signature"), hubtest.Sign(method, "s", []byte("x")); got != want {
		t.Errorf("X-Hub-Signature: got %q, want %q", got, want)
	}
}

func TestRule57NoSecretNoSignature(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	s, _ := subscribed(t, n, topic)
	n.Publish(t, topic, "text/plain", []byte("x"))
	for name := range s.WaitBody(t, "x").Header {
		if strings.HasPrefix(name, "X-Hub-Signature") {
			t.Errorf("got %s although no secret was given", name)
		}
	}
}

func TestRule58OnlyContentIsSigned(t *testing.T) {
	n := shared(t)
	topic := newRegisteredTopic(t, n)
	s, callback := subscribed(t, n, topic, "hub.secret", "s")
	n.Unsubscribe(t, topic, callback)
	n.Subscribe(t, topic, callback, "hub.secret", "s")
	wantStatus(t, "deregister", n.PostForm(t, hubtest.Form("hub.mode", "deregister", "hub.topic", topic)), 200)
	s.WaitFor(t, 1, "denial", hubtest.Request.IsDenial)
	for _, r := range s.Requests() {
		if got := r.Header.Get("X-Hub-Signature"); got != "" {
			t.Errorf("%v carries a signature: %q", r, got)
		}
	}
}

func TestRule65RetriesAreSignedToo(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	s := hubtest.NewSubscriber(t).OnDelivery(hubtest.Answers(hubtest.Status(500), hubtest.Answer{Drop: true}, hubtest.Answer{}))
	n.Subscribe(t, topic, s.Callback("/cb"), "hub.secret", "s")
	n.Publish(t, topic, "text/plain", []byte("x"))
	for i, d := range s.WaitDeliveries(t, 3) {
		if !d.SignedBy("s") {
			t.Errorf("attempt %d: X-Hub-Signature %q", i+1, d.Header.Values("X-Hub-Signature"))
		}
	}
}
