package conformance_test

import (
	"net"
	"strings"
	"testing"

	"quorumhub/test/hubtest"
)

// Callbacks and fetched topics have separate egress settings.
func TestGuardKeepsCallbacksAndTopicsApart(t *testing.T) {
	t.Parallel()
	t.Run("topics on loopback are not allowed", func(t *testing.T) {
		t.Parallel()
		n := hubtest.Start(t, hubtest.Options{Settings: hubtest.Settings{"fetch.egress.mode": "public"}})
		origin := hubtest.NewOrigin(t)
		topic := origin.Put("/feed", hubtest.Page{Body: []byte("x")})
		s, _ := subscribed(t, n, topic) // a fat publish is still allowed
		r := n.PostForm(t, hubtest.Form("hub.mode", "publish", "hub.url", topic))
		if r.Status != 204 {
			wantRefusal(t, r, "hub.url")
		}
		n.Publish(t, topic, "text/plain", []byte("in full"))
		s.WaitBody(t, "in full")
		quietly(t, "fetches of a topic that is not allowed", func() int { return len(origin.Requests()) })
		if got := origin.Requests(); len(got) != 0 {
			t.Errorf("the topic was fetched: %v", got)
		}
	})
	t.Run("callbacks on loopback are not allowed", func(t *testing.T) {
		t.Parallel()
		n := hubtest.Start(t, hubtest.Options{Settings: hubtest.Settings{"delivery.egress.mode": "public"}})
		s := hubtest.NewSubscriberAt(t, "127.0.0.1")
		for _, callback := range []string{s.Callback("/cb"), strings.Replace(s.Callback("/cb"), "127.0.0.1", "127.9.9.9", 1), "http://[::1]:8080/cb", "http://[::ffff:127.0.0.1]:8080/cb"} {
			wantRefusal(t, n.Request(t, "subscribe", newTopic(t, n), callback), "hub.callback")
		}
		// The name may be resolved before or after the answer; what matters is that nothing is sent there.
		byName := strings.Replace(s.Callback("/cb"), "127.0.0.1", "localhost", 1)
		topic := newTopic(t, n)
		if r := n.Request(t, "subscribe", topic, byName); r.Status != 202 {
			wantRefusal(t, r, "hub.callback")
		} else {
			n.WaitSettled(t, topic, byName)
		}
		if got := s.Requests(); len(got) != 0 {
			t.Errorf("the callback was called: %v", got)
		}
	})
	t.Run("listed networks are allowed", func(t *testing.T) {
		t.Parallel()
		origin := hubtest.NewOrigin(t)
		addr, _, err := net.SplitHostPort(strings.TrimPrefix(origin.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		listed := []string{addr + "/32"} // subscribers listen there, too
		n := hubtest.Start(t, hubtest.Options{Settings: hubtest.Settings{
			"delivery.egress.mode": "edge", "delivery.egress.allow_cidrs": listed,
			"fetch.egress.mode": "edge", "fetch.egress.allow_cidrs": listed,
		}})
		topic := origin.Put("/feed", hubtest.Page{Body: []byte("x")})
		s, _ := subscribed(t, n, topic)
		n.Ping(t, topic)
		s.WaitBody(t, "x")
		wantRefusal(t, n.Request(t, "subscribe", topic, "http://127.0.0.2:8080/cb"), "hub.callback")
	})
}

func TestGuardTakesLoopbackByName(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	s := hubtest.NewSubscriberAt(t, "127.0.0.1")
	callback := strings.Replace(s.Callback("/cb"), "127.0.0.1", "localhost", 1)
	n.Subscribe(t, topic, callback)
	n.Publish(t, topic, "text/plain", []byte("x"))
	if d := s.WaitBody(t, "x"); !strings.HasPrefix(d.Host, "localhost:") {
		t.Errorf("the request is for host %s", d.Host)
	}
}

// A hub that called itself would answer its own requests.
func TestGuardNeverCallsTheHubItself(t *testing.T) {
	n := shared(t)
	for _, callback := range []string{n.HubURL(), n.URL + "/v1/topics", "http://" + n.Settings["cluster.addr"].(string) + "/"} {
		t.Run(callback, func(t *testing.T) {
			wantRefusal(t, n.Request(t, "subscribe", newTopic(t, n), callback), "hub.callback")
		})
	}
}
