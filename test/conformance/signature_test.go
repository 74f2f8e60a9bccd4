package conformance_test

import (
	"net/url"
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

// Software that knows one method only gets that one: because it asks for it, or because the operator knows it, for one subscription or for
// all at a host.
func TestRule56MethodOfOldSoftware(t *testing.T) {
	t.Run("asked for", func(t *testing.T) {
		n := shared(t)
		wantMethod(t, n, "sha1", "hub.signature_method", "sha1")
		wantMethod(t, n, "sha384", "hub.signature_method", "SHA384", "hub.hash_algorithms", "sha1,sha512")
		wantMethod(t, n, "sha256", "hub.signature_method", "")
		wantRefusal(t, n.Request(t, "subscribe", newTopic(t, n), "http://127.0.0.1:9/cb", "hub.signature_method", "md5"), "hub.signature_method")
	})
	t.Run("of a host", func(t *testing.T) {
		t.Parallel()
		s := hubtest.NewSubscriber(t)
		u, err := url.Parse(s.Callback("/cb"))
		if err != nil {
			t.Fatal(err)
		}
		n := hubtest.Start(t, hubtest.Options{Settings: hubtest.Settings{"hub.signature": "sha512", "hub.signature_hosts": []string{"old.example.org=sha384", u.Hostname() + "=sha1"}}})
		topic := newTopic(t, n)
		n.Subscribe(t, topic, s.Callback("/cb"), "hub.secret", "key")
		n.Subscribe(t, topic, s.Callback("/new"), "hub.secret", "key", "hub.signature_method", "sha256")
		n.Publish(t, topic, "text/plain", []byte("x"))
		for _, d := range s.WaitDeliveries(t, 2) {
			want := "sha1="
			if strings.HasSuffix(d.URI, "/new") {
				want = "sha256="
			}
			if got := d.Header.Get("X-Hub-Signature"); !strings.HasPrefix(got, want) || !d.SignedBy("key") {
				t.Errorf("%s is signed %s, want %s", d.URI, got, want)
			}
		}
	})
	t.Run("of a subscription", func(t *testing.T) {
		n := shared(t)
		topic := newTopic(t, n)
		s, callback := subscribed(t, n, topic, "hub.secret", "key", "hub.signature_method", "sha512")
		id := n.WaitActive(t, topic, callback).ID
		next := 0
		signed := func(when, want string) {
			t.Helper()
			next++
			n.Publish(t, topic, "text/plain", []byte(when))
			d := s.WaitDeliveries(t, next)[next-1]
			if got := d.Header.Get("X-Hub-Signature"); !strings.HasPrefix(got, want+"=") || !d.SignedBy("key") {
				t.Errorf("%s: signed %s, want %s", when, got, want)
			}
		}
		set := func(body string, status int) *hubtest.Reply {
			t.Helper()
			reply := n.Do(t, "PUT", "/v1/subscriptions/"+id+"/signature", hubtest.Headers("Content-Type", "application/json"), []byte(body))
			wantStatus(t, body, reply, status)
			return reply
		}
		signed("as asked", "sha512")
		if got := string(set(`{"method":"sha1"}`, 200).Body); !strings.Contains(got, `"signature":"sha1"`) || !strings.Contains(got, `"operator_signature":"sha1"`) {
			t.Errorf("shown as %s", got)
		}
		signed("as the operator says", "sha1")
		n.Subscribe(t, topic, callback, "hub.secret", "key", "hub.signature_method", "sha512")
		signed("after a renewal", "sha1")
		for _, bad := range []string{`{"method":"md5"}`, `{}`, `{"method":1}`, `x`} {
			set(bad, 400)
		}
		set(`{"method":""}`, 200)
		signed("as asked again", "sha512")
		wantStatus(t, "no such subscription", n.Do(t, "PUT", "/v1/subscriptions/s-999999/signature", hubtest.Headers("Content-Type", "application/json"), []byte(`{"method":"sha1"}`)), 404)
	})
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
