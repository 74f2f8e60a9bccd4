package conformance_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"quorumhub/test/hubtest"
)

// leaseGrace is how late a request sent before the end of a lease may arrive.
const leaseGrace = 300 * time.Millisecond

// leaseEnd returns the end of the lease that the subscriber was told.
func leaseEnd(t *testing.T, intent hubtest.Request) time.Time {
	t.Helper()
	seconds, err := strconv.Atoi(intent.Value("hub.lease_seconds"))
	if err != nil || seconds <= 0 {
		t.Fatalf("hub.lease_seconds is %q, want a positive number", intent.Value("hub.lease_seconds"))
	}
	return intent.At.Add(time.Duration(seconds) * time.Second)
}

func TestRule46LeasesEnd(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	s, callback := subscribed(t, n, topic, "hub.lease_seconds", "2")
	keeps, _ := subscribed(t, n, topic)
	end := leaseEnd(t, s.WaitIntent(t, "subscribe", 1))
	n.Publish(t, topic, "text/plain", []byte("in time"))
	s.WaitBody(t, "in time")
	hubtest.Until(t, end.Add(50*time.Millisecond))
	n.Publish(t, topic, "text/plain", []byte("too late"))
	keeps.WaitBody(t, "too late")
	n.WaitGone(t, topic, callback)
	quietly(t, "deliveries after the end of the lease", s.CountDeliveries)
	if got := s.CountDeliveries(); got != 1 {
		t.Errorf("got %d deliveries, want the one before the end", got)
	}
}

func TestRule46EndedLeaseCanBeTakenUpAgain(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	s, callback := subscribed(t, n, topic, "hub.lease_seconds", "1")
	hubtest.Until(t, leaseEnd(t, s.WaitIntent(t, "subscribe", 1)))
	n.WaitGone(t, topic, callback)
	n.Publish(t, topic, "text/plain", []byte("between"))
	n.Subscribe(t, topic, callback, "hub.lease_seconds", "600")
	n.Publish(t, topic, "text/plain", []byte("after"))
	s.WaitBody(t, "after")
	for _, d := range s.Deliveries() {
		if string(d.Body) == "between" {
			t.Error("a message published while there was no subscription was delivered")
		}
	}
}

func TestRule46NoLeaseIsPerpetual(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	for _, more := range [][]string{nil, {"hub.lease_seconds", "99999999999"}} {
		s, callback := subscribed(t, n, topic, more...)
		end := leaseEnd(t, s.WaitIntent(t, "subscribe", 1))
		item := n.WaitActive(t, topic, callback)
		if item.LeaseExpiresAt.IsZero() || time.Until(item.LeaseExpiresAt.Time) > 721*time.Hour {
			t.Errorf("with %v the lease ends at %v, want at most 30 days", more, item.LeaseExpiresAt)
		}
		if d := item.LeaseExpiresAt.Sub(end).Abs(); d > 5*time.Second {
			t.Errorf("with %v the callback was told that the lease ends at %v, the API says %v", more, end, item.LeaseExpiresAt)
		}
	}
}

func TestRule46DefaultLeaseIsTenDays(t *testing.T) {
	t.Parallel()
	n := hubtest.Start(t, hubtest.Options{Settings: hubtest.Settings{
		"hub.lease.min": nil, "hub.lease.default": nil, "hub.lease.max": nil,
	}})
	for _, wish := range [][]string{nil, {"hub.lease_seconds", ""}, {"hub.lease_seconds", "0"}} {
		s, _ := subscribed(t, n, newTopic(t, n), wish...)
		if got := s.WaitIntent(t, "subscribe", 1).Value("hub.lease_seconds"); got != "864000" {
			t.Errorf("with %v the lease is %q seconds, want 864000", wish, got)
		}
	}
}

// Retries queued before the end of the lease are not sent after it.
func TestTrapQueuedRetriesEndWithTheLease(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	s := hubtest.NewSubscriber(t).OnDelivery(func(hubtest.Request) hubtest.Answer { return hubtest.Status(503) })
	callback := s.Callback("/cb")
	n.Subscribe(t, topic, callback, "hub.lease_seconds", "2")
	end := leaseEnd(t, s.WaitIntent(t, "subscribe", 1))
	for i := range 3 {
		n.Publish(t, topic, "text/plain", fmt.Append(nil, "m", i))
	}
	s.WaitDeliveries(t, 3) // attempts at the first message
	hubtest.Until(t, end.Add(leaseGrace))
	quietly(t, "retries after the end of the lease", s.CountDeliveries)
	for _, d := range s.Deliveries() {
		if late := d.At.Sub(end); late > leaseGrace {
			t.Errorf("a delivery arrived %v after the end of the lease", late)
		}
	}
}

// A delayed retry is not sent if its time falls after the end of the lease.
func TestTrapRetryAfterDoesNotOutliveTheLease(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	s := hubtest.NewSubscriber(t).OnDelivery(func(hubtest.Request) hubtest.Answer {
		return hubtest.Answer{Status: 503, Header: hubtest.Headers("Retry-After", "3")}
	})
	n.Subscribe(t, topic, s.Callback("/cb"), "hub.lease_seconds", "2")
	end := leaseEnd(t, s.WaitIntent(t, "subscribe", 1))
	n.Publish(t, topic, "text/plain", []byte("x"))
	first := s.WaitDeliveries(t, 1)[0]
	hubtest.Until(t, first.At.Add(3*time.Second))
	hubtest.Until(t, end.Add(leaseGrace))
	quietly(t, "a retry after the end of the lease", s.CountDeliveries)
	for _, d := range s.Deliveries() {
		if late := d.At.Sub(end); late > leaseGrace {
			t.Errorf("a delivery arrived %v after the end of the lease", late)
		}
	}
}

// A verification that outlasts the requested lease creates no subscription that delivers.
func TestTrapLeaseMayEndBeforeTheAnswer(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	gate := make(chan struct{})
	s := hubtest.NewSubscriber(t).OnIntent(func(r hubtest.Request) hubtest.Answer {
		return hubtest.Answer{Gate: gate, Body: []byte(r.Value("hub.challenge"))}
	})
	wantStatus(t, "subscribe", n.Request(t, "subscribe", topic, s.Callback("/cb"), "hub.lease_seconds", "1"), 202)
	asked := s.WaitIntent(t, "subscribe", 1)
	hubtest.Until(t, leaseEnd(t, asked).Add(200*time.Millisecond))
	close(gate)
	other, _ := subscribed(t, n, topic)
	n.Publish(t, topic, "text/plain", []byte("x"))
	other.WaitBody(t, "x")
	quietly(t, "deliveries beyond the lease", s.CountDeliveries)
	if got := s.CountDeliveries(); got != 0 {
		t.Errorf("got %d deliveries under a lease that ended before it was confirmed", got)
	}
}

func TestRule63LeasesAreShortByDefault(t *testing.T) {
	n := strict(t)
	topic := newRegisteredTopic(t, n)
	s, _ := subscribed(t, n, topic, "hub.lease_seconds", "31536000")
	if got := s.WaitIntent(t, "subscribe", 1).Value("hub.lease_seconds"); got != "7200" {
		t.Errorf("a request for one year was granted %q seconds, want hub.lease.max", got)
	}
}

func TestRule37DenialIsToldToTheCallback(t *testing.T) {
	n := shared(t)
	topic := newRegisteredTopic(t, n)
	s := hubtest.NewSubscriber(t)
	path := "/cb?b=2&a=1&hub.mode=mine"
	n.Subscribe(t, topic, s.Callback(path))
	wantStatus(t, "deregister", n.PostForm(t, hubtest.Form("hub.mode", "deregister", "hub.topic", topic)), 200)
	d := s.WaitFor(t, 1, "denial", hubtest.Request.IsDenial)[0]
	if want := path + "&"; len(d.URI) < len(want) || d.URI[:len(want)] != want {
		t.Errorf("got %s, want the callback as given, followed by the hub's parameters", d.URI)
	}
	if got := d.Value("hub.topic"); got != topic {
		t.Errorf("the denial names topic %q, want %q", got, topic)
	}
	if d.Value("hub.challenge") != "" {
		t.Error("a denial carries a challenge")
	}
	n.WaitGone(t, topic, s.Callback(path))
}

func TestRule38ActiveSubscriptionsEndWithTheirTopic(t *testing.T) {
	n := shared(t)
	topic := newRegisteredTopic(t, n)
	s := hubtest.NewSubscriber(t).OnIntent(func(r hubtest.Request) hubtest.Answer {
		if r.IsDenial() {
			return hubtest.Status(500) // the hub ignores the answer to a denial
		}
		return hubtest.Echo(r)
	})
	n.Subscribe(t, topic, s.Callback("/cb"))
	n.Publish(t, topic, "text/plain", []byte("before"))
	s.WaitBody(t, "before")
	wantStatus(t, "deregister", n.PostForm(t, hubtest.Form("hub.mode", "deregister", "hub.topic", topic)), 200)
	s.WaitFor(t, 1, "denial", hubtest.Request.IsDenial)
	n.WaitGone(t, topic, s.Callback("/cb"))
	n.Register(t, topic)
	other, _ := subscribed(t, n, topic)
	n.Publish(t, topic, "text/plain", []byte("after"))
	other.WaitBody(t, "after")
	quietly(t, "deliveries after a denial", s.CountDeliveries)
	if got := s.CountDeliveries(); got != 1 {
		t.Errorf("got %d deliveries, want the one before the denial", got)
	}
}
