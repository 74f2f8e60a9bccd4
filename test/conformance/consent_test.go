package conformance_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"quorumhub/test/hubtest"
)

func TestRule19KeyIsTopicAndCallback(t *testing.T) {
	n := shared(t)
	topicA, topicB := newTopic(t, n), newTopic(t, n)
	s := hubtest.NewSubscriber(t)
	n.Subscribe(t, topicA, s.Callback("/one"))
	n.Subscribe(t, topicA, s.Callback("/one")) // the same
	n.Subscribe(t, topicA, s.Callback("/two")) // another callback
	n.Subscribe(t, topicB, s.Callback("/one")) // another topic
	n.Subscribe(t, topicA, s.Callback("/one?x=1"))
	if got := n.Subscriptions(t, topicA, ""); len(got) != 3 {
		t.Errorf("topic A has %d subscriptions, want 3: %+v", len(got), got)
	}
	n.Publish(t, topicA, "text/plain", []byte("a"))
	n.Publish(t, topicB, "text/plain", []byte("b"))
	s.WaitDeliveries(t, 4)
	quietly(t, "more deliveries than subscriptions", s.CountDeliveries)
	count := map[string]int{}
	for _, d := range s.Deliveries() {
		count[d.URI+" "+string(d.Body)]++
	}
	for _, want := range []string{"/one a", "/two a", "/one b", "/one?x=1 a"} {
		if count[want] != 1 {
			t.Errorf("%q was delivered %d times, want once; all: %v", want, count[want], count)
		}
	}
}

// Someone else's request for a subscription changes nothing until the callback confirms it.
func TestRule20StateIsReplacedOnlyAfterVerification(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	s, callback := subscribed(t, n, topic, "hub.secret", "mine", "hub.lease_seconds", "5000")
	before := n.WaitActive(t, topic, callback)

	gate := make(chan struct{})
	s.OnIntent(func(r hubtest.Request) hubtest.Answer {
		return hubtest.Answer{Gate: gate, Body: []byte(r.Value("hub.challenge"))}
	})
	wantStatus(t, "takeover", n.Request(t, "subscribe", topic, callback, "hub.secret", "theirs", "hub.lease_seconds", "9000"), 202)
	s.WaitIntent(t, "subscribe", 2)
	n.Publish(t, topic, "text/plain", []byte("while pending"))
	if d := s.WaitBody(t, "while pending"); !d.SignedBy("mine") {
		t.Errorf("an unverified request changed the secret: %q", d.Header.Values("X-Hub-Signature"))
	}
	during := activeItem(t, n, topic, callback)
	if !during.LeaseExpiresAt.Equal(before.LeaseExpiresAt.Time) {
		t.Errorf("an unverified request moved the end of the lease from %v to %v", before.LeaseExpiresAt, during.LeaseExpiresAt)
	}
	close(gate)
	n.WaitSubscription(t, topic, callback, "the verified lease", func(s hubtest.Subscription) bool {
		return s.State == "active" && s.LeaseExpiresAt.After(before.LeaseExpiresAt.Add(time.Hour))
	})
	n.Publish(t, topic, "text/plain", []byte("once verified"))
	if d := s.WaitBody(t, "once verified"); !d.SignedBy("theirs") {
		t.Errorf("the verified request did not change the secret: %q", d.Header.Values("X-Hub-Signature"))
	}
}

// activeItem returns the active subscription as listed now.
func activeItem(t *testing.T, n *hubtest.Node, topic, callback string) hubtest.Subscription {
	t.Helper()
	for _, s := range n.Subscriptions(t, topic, callback) {
		if s.State == "active" {
			return s
		}
	}
	t.Fatalf("%s at %s is not active: %+v", topic, callback, n.Subscriptions(t, topic, callback))
	return hubtest.Subscription{}
}

func TestRule21FailedVerificationChangesNothing(t *testing.T) {
	n := shared(t)
	for name, answer := range map[string]hubtest.Answer{
		"404":                 {Status: 404},
		"500":                 {Status: 500},
		"another body":        {Body: []byte("no")},
		"a closed connection": {Drop: true},
		"no answer":           {Hang: true},
	} {
		for _, mode := range []string{"subscribe", "unsubscribe"} {
			t.Run(mode+" "+name, func(t *testing.T) {
				t.Parallel()
				topic := newTopic(t, n)
				s, callback := subscribed(t, n, topic, "hub.secret", "mine", "hub.lease_seconds", "5000")
				before := n.WaitActive(t, topic, callback)
				s.OnIntent(func(hubtest.Request) hubtest.Answer { return answer })
				wantStatus(t, mode, n.Request(t, mode, topic, callback, "hub.secret", "theirs", "hub.lease_seconds", "9000"), 202)
				s.WaitFor(t, 2, "verification", func(r hubtest.Request) bool { return r.IsIntent("") })
				n.Publish(t, topic, "text/plain", []byte("still here"))
				if d := s.WaitBody(t, "still here"); !d.SignedBy("mine") {
					t.Errorf("the failed request changed the secret: %q", d.Header.Values("X-Hub-Signature"))
				}
				quietly(t, "changes of the subscription", func() int {
					if after := activeItem(t, n, topic, callback); !after.LeaseExpiresAt.Equal(before.LeaseExpiresAt.Time) || after.ID != before.ID {
						return 1
					}
					return 0
				})
			})
		}
	}
}

func TestRule21FailedFirstSubscribeMakesNoSubscription(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	s := hubtest.NewSubscriber(t).OnIntent(func(hubtest.Request) hubtest.Answer { return hubtest.Status(404) })
	wantStatus(t, "subscribe", n.Request(t, "subscribe", topic, s.Callback("/cb")), 202)
	s.WaitIntent(t, "subscribe", 1)
	n.WaitSettled(t, topic, s.Callback("/cb"))
	other, _ := subscribed(t, n, topic)
	n.Publish(t, topic, "text/plain", []byte("x"))
	other.WaitBody(t, "x")
	quietly(t, "deliveries without confirmed intent", s.CountDeliveries)
	if got := s.CountDeliveries(); got != 0 {
		t.Errorf("got %d deliveries without confirmed intent", got)
	}
}

func TestRule22RenewalReplacesOrClearsTheSecret(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	s, callback := subscribed(t, n, topic, "hub.secret", "first")
	steps := []struct {
		secret string
		more   []string
	}{{"second", []string{"hub.secret", "second"}}, {"", nil}, {"third", []string{"hub.secret", "third"}}}
	n.Publish(t, topic, "text/plain", []byte("0"))
	if d := s.WaitBody(t, "0"); !d.SignedBy("first") {
		t.Fatalf("not signed with the first secret: %q", d.Header.Values("X-Hub-Signature"))
	}
	for i, step := range steps {
		lease := 2000 + 1000*i // the end of the lease shows when the renewal has taken effect
		wantStatus(t, "renewal", n.Request(t, "subscribe", topic, callback, append(step.more, "hub.lease_seconds", fmt.Sprint(lease))...), 202)
		asked := s.WaitIntent(t, "subscribe", i+2).At
		n.WaitSubscription(t, topic, callback, "the renewal", func(s hubtest.Subscription) bool {
			return s.State == "active" && s.LeaseExpiresAt.Sub(asked).Round(10*time.Second) == time.Duration(lease)*time.Second
		})
		body := fmt.Sprint("after renewal ", i)
		n.Publish(t, topic, "text/plain", []byte(body))
		d := s.WaitBody(t, body)
		if step.secret != "" && !d.SignedBy(step.secret) {
			t.Errorf("renewed with secret %q, signature is %q", step.secret, d.Header.Values("X-Hub-Signature"))
		}
		if step.secret == "" && len(d.Header.Values("X-Hub-Signature")) > 0 {
			t.Errorf("renewed without a secret, signature is %q", d.Header.Values("X-Hub-Signature"))
		}
	}
}

func TestRule25UnreservedCharactersAreDecodedForComparison(t *testing.T) {
	n := shared(t)
	name := topicName(t)
	base := "http://publisher.example/" + name + "/"
	s := hubtest.NewSubscriber(t)
	n.Subscribe(t, base+"%7Euser/%61%2Db", s.Callback("/%7Ecb?q=%61"))
	n.Subscribe(t, base+"~user/a-b", s.Callback("/~cb?q=a"))
	n.WaitSubscription(t, base+"~user/a-b", s.Callback("/~cb?q=a"), "the renewal", func(sub hubtest.Subscription) bool {
		return sub.Callback == s.Callback("/~cb?q=a")
	})
	n.Publish(t, base+"~user/%61-b", "text/plain", []byte("once"))
	s.WaitBody(t, "once")
	quietly(t, "a second delivery for an equal key", s.CountDeliveries)
	if got := s.Deliveries(); len(got) != 1 || got[0].URI != "/~cb?q=a" {
		t.Errorf("got %v, want one delivery to the callback as last given", got)
	}

	// Reserved characters differ from their encoded forms.
	other := hubtest.NewSubscriber(t)
	n.Subscribe(t, base+"x%2Fy", other.Callback("/a"))
	n.Subscribe(t, base+"x/y", other.Callback("/b"))
	n.Publish(t, base+"x%2fy", "text/plain", []byte("encoded slash"))
	if d := other.WaitBody(t, "encoded slash"); d.URI != "/a" {
		t.Errorf("a message for x%%2Fy went to %s, the subscription of x/y", d.URI)
	}
	quietly(t, "deliveries to another topic", other.CountDeliveries)
	if got := other.CountDeliveries(); got != 1 {
		t.Errorf("got %d deliveries, want 1", got)
	}
}

func TestRule25CaseOfSchemeAndHostDoesNotMatter(t *testing.T) {
	n := shared(t)
	name := topicName(t)
	s := hubtest.NewSubscriber(t)
	wantStatus(t, "subscribe", n.Request(t, "subscribe", "HTTP://Publisher.Example/"+name, s.Callback("/cb")), 202)
	n.WaitActive(t, "", s.Callback("/cb"))
	n.Publish(t, "http://publisher.example:80/"+name, "text/plain", []byte("same"))
	s.WaitBody(t, "same")
	if len(n.Subscriptions(t, "http://publisher.example/"+strings.ToUpper(name), "")) != 0 {
		t.Error("paths that differ in case name the same topic")
	}
}

func TestRule61RenewalIsNoSecondSubscription(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	s, callback := subscribed(t, n, topic)
	first := n.WaitActive(t, topic, callback)
	for i := range 3 {
		wantStatus(t, "renewal", n.Request(t, "subscribe", topic, callback, "hub.lease_seconds", fmt.Sprint(1000+i)), 202)
		s.WaitIntent(t, "subscribe", i+2)
	}
	items := n.Subscriptions(t, topic, callback)
	if len(items) != 1 || items[0].ID != first.ID {
		t.Errorf("after three renewals of %+v: got %+v", first, items)
	}
	for i := range 3 {
		body := fmt.Sprint("m", i)
		n.Publish(t, topic, "text/plain", []byte(body))
		s.WaitBody(t, body)
	}
	quietly(t, "second deliveries", s.CountDeliveries)
	if got := s.CountDeliveries(); got != 3 {
		t.Errorf("got %d deliveries of 3 messages", got)
	}
}

// A renewal between two messages neither loses nor repeats one.
func TestRule61RenewalLeavesNoGap(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	s, callback := subscribed(t, n, topic)
	ledger := hubtest.NewLedger()
	ledger.Subscribed(callback, topic, 0)
	for i := range 40 {
		ledger.Acknowledged(n.Publish(t, topic, "text/plain", fmt.Appendf(nil, "message %d", i)))
		if i%10 == 5 {
			wantStatus(t, "renewal", n.Request(t, "subscribe", topic, callback, "hub.lease_seconds", fmt.Sprint(1000+i)), 202)
		}
	}
	s.WaitIntent(t, "subscribe", 5)
	for _, d := range s.WaitDeliveries(t, 40) {
		ledger.Delivered(callback, d)
	}
	if err := ledger.Balance(); err != nil {
		t.Error(err)
	}
	if got := ledger.Duplicates(); got > 0 {
		t.Errorf("%d messages were delivered twice", got)
	}
}

// The answer to an older request must not override a newer one: each request is bound to its own
// verification.
func TestTrapLateAnswerToOlderRequestChangesNothing(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	s, callback := subscribed(t, n, topic, "hub.secret", "original")
	gate := make(chan struct{})
	s.OnIntent(func(r hubtest.Request) hubtest.Answer {
		a := hubtest.Echo(r)
		if r.Value("hub.lease_seconds") == "1111" { // the older request
			a.Gate = gate
		}
		return a
	})
	wantStatus(t, "older request", n.Request(t, "subscribe", topic, callback, "hub.secret", "older", "hub.lease_seconds", "1111"), 202)
	s.WaitFor(t, 1, "the older verification", func(r hubtest.Request) bool { return r.Value("hub.lease_seconds") == "1111" })
	wantStatus(t, "newer request", n.Request(t, "subscribe", topic, callback, "hub.secret", "newer", "hub.lease_seconds", "2222"), 202)
	newer := s.WaitFor(t, 1, "the newer verification", func(r hubtest.Request) bool { return r.Value("hub.lease_seconds") == "2222" })[0]
	newerInForce := func(s hubtest.Subscription) bool {
		return s.State == "active" && s.LeaseExpiresAt.Sub(newer.At).Round(100*time.Second) == 2200*time.Second
	}
	n.WaitSubscription(t, topic, callback, "the newer lease", newerInForce)
	close(gate) // now the older request is confirmed
	n.Publish(t, topic, "text/plain", []byte("sentinel"))
	s.WaitBody(t, "sentinel")
	quietly(t, "changes by the older request", func() int {
		if newerInForce(activeItem(t, n, topic, callback)) {
			return 0
		}
		return 1
	})
	n.Publish(t, topic, "text/plain", []byte("end"))
	if d := s.WaitBody(t, "end"); !d.SignedBy("newer") {
		t.Errorf("the secret is not that of the newer request: %q", d.Header.Values("X-Hub-Signature"))
	}
}

// A late confirmation of a subscribe request does not undo a later unsubscribe.
func TestTrapLateSubscribeDoesNotUndoUnsubscribe(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	s, callback := subscribed(t, n, topic)
	gate := make(chan struct{})
	s.OnIntent(func(r hubtest.Request) hubtest.Answer {
		a := hubtest.Echo(r)
		if r.IsIntent("subscribe") {
			a.Gate = gate
		}
		return a
	})
	wantStatus(t, "renewal", n.Request(t, "subscribe", topic, callback), 202)
	s.WaitIntent(t, "subscribe", 2)
	wantStatus(t, "unsubscribe", n.Request(t, "unsubscribe", topic, callback), 202)
	s.WaitIntent(t, "unsubscribe", 1)
	n.WaitGone(t, topic, callback)
	close(gate)
	other, _ := subscribed(t, n, topic)
	n.Publish(t, topic, "text/plain", []byte("after"))
	other.WaitBody(t, "after")
	quietly(t, "deliveries after unsubscribe", s.CountDeliveries)
	if got := s.CountDeliveries(); got != 0 {
		t.Errorf("got %d deliveries after a verified unsubscribe", got)
	}
}
