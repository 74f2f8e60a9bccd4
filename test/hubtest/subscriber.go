package hubtest

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"hash"
	"strings"
	"sync"
	"testing"
)

// Subscriber is a server that answers verifications and deliveries as a test scripts it. By default it
// confirms every verification and answers 200 to every delivery.
type Subscriber struct {
	*recorder

	mu       sync.Mutex
	intent   func(Request) Answer
	delivery func(Request) Answer
}

// NewSubscriber starts a subscriber that ends with the test.
func NewSubscriber(tb testing.TB) *Subscriber {
	tb.Helper()
	return newSubscriber(tb, processHost(), false)
}

// NewTLSSubscriber starts an https subscriber with its own certificate (see CAFile).
func NewTLSSubscriber(tb testing.TB) *Subscriber {
	tb.Helper()
	return newSubscriber(tb, "127.0.0.1", true)
}

// NewSubscriberAt is NewSubscriber on a loopback address that the caller chooses.
func NewSubscriberAt(tb testing.TB, host string) *Subscriber {
	tb.Helper()
	return newSubscriber(tb, host, false)
}

func newSubscriber(tb testing.TB, host string, tls bool) *Subscriber {
	s := &Subscriber{intent: Echo, delivery: func(Request) Answer { return Answer{} }}
	s.recorder = newRecorder(tb, host, tls, s.respond)
	return s
}

func (s *Subscriber) respond(r Request) Answer {
	s.mu.Lock()
	intent, delivery := s.intent, s.delivery
	s.mu.Unlock()
	if r.IsDelivery() {
		return delivery(r)
	}
	return intent(r)
}

// OnIntent sets the handler of GET requests: verifications and denials. The handler may be called
// concurrently.
func (s *Subscriber) OnIntent(f func(Request) Answer) *Subscriber {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.intent = f
	return s
}

// OnDelivery sets the handler of POST requests. The handler may be called concurrently.
func (s *Subscriber) OnDelivery(f func(Request) Answer) *Subscriber {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delivery = f
	return s
}

// Answers returns a handler that gives one answer after the other and repeats the last.
func Answers(answers ...Answer) func(Request) Answer {
	var mu sync.Mutex
	return func(Request) Answer {
		mu.Lock()
		defer mu.Unlock()
		a := answers[0]
		if len(answers) > 1 {
			answers = answers[1:]
		}
		return a
	}
}

// Callback returns the URL of this subscriber with the given path and query ("/cb?x=1").
func (s *Subscriber) Callback(pathAndQuery string) string { return s.URL + pathAndQuery }

// Deliveries returns the deliveries received so far.
func (s *Subscriber) Deliveries() []Request { return s.Select(Request.IsDelivery) }

// Intents returns the verification requests for mode received so far ("" for both modes).
func (s *Subscriber) Intents(mode string) []Request {
	return s.Select(func(r Request) bool { return r.IsIntent(mode) })
}

// CountDeliveries returns the number of deliveries so far.
func (s *Subscriber) CountDeliveries() int { return len(s.Deliveries()) }

// CountIntents returns the number of verification requests so far.
func (s *Subscriber) CountIntents() int { return len(s.Intents("")) }

// WaitDeliveries waits for at least n deliveries.
func (s *Subscriber) WaitDeliveries(tb testing.TB, n int) []Request {
	tb.Helper()
	return s.WaitFor(tb, n, "deliveries", Request.IsDelivery)
}

// WaitBody waits for a delivery with exactly this content and returns the first one.
func (s *Subscriber) WaitBody(tb testing.TB, body string) Request {
	tb.Helper()
	return s.WaitFor(tb, 1, "delivery of "+short(body), func(r Request) bool { return r.IsDelivery() && string(r.Body) == body })[0]
}

// WaitIntent waits for the n-th verification request for mode and returns it.
func (s *Subscriber) WaitIntent(tb testing.TB, mode string, n int) Request {
	tb.Helper()
	return s.WaitFor(tb, n, "verification of "+mode, func(r Request) bool { return r.IsIntent(mode) })[n-1]
}

func short(s string) string {
	if len(s) > 60 {
		return s[:60] + "..."
	}
	return s
}

// Sign returns the X-Hub-Signature value (WebSub section 7.1) for a method, or "" for an unknown method.
func Sign(method, secret string, body []byte) string {
	hashes := map[string]func() hash.Hash{"sha1": sha1.New, "sha256": sha256.New, "sha384": sha512.New384, "sha512": sha512.New}
	newHash, ok := hashes[method]
	if !ok {
		return ""
	}
	mac := hmac.New(newHash, []byte(secret))
	mac.Write(body)
	return method + "=" + hex.EncodeToString(mac.Sum(nil))
}

// SignedBy reports whether the delivery carries exactly one signature and secret made it.
func (r Request) SignedBy(secret string) bool {
	values := r.Header.Values("X-Hub-Signature")
	if len(values) != 1 {
		return false
	}
	method, _, _ := strings.Cut(values[0], "=")
	return method != "" && values[0] == Sign(method, secret, r.Body)
}
