package fake

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Callback is a callback URL for tests that need any.
const Callback = "http://cb.example/1"

// Arrival is one request that reached an endpoint.
type Arrival struct {
	URL, ID, Body string
	Header        http.Header
	At            time.Time
	Cut           bool // the hub gave up before it was answered
}

// Answer is how an endpoint answers. The zero value is an empty 200.
type Answer struct {
	Status     int // 0: 200
	After      time.Duration
	Hang       bool // no answer until the hub gives up
	Err        error
	RetryAfter string
	Echo       bool // answers with the challenge
	Body       string
	Header     http.Header
}

// Network is an http.RoundTripper with endpoints but no sockets, so that it works with the clock of testing/synctest.
type Network struct {
	Mu       sync.Mutex
	Arrivals []Arrival
	InFlight map[string]int
	Most     map[string]int // the most requests in flight at a time
	Overlaps int            // requests that began while another to the same URL was in flight
	behave   func(url string, nth int, body string) Answer
}

// NewNetwork returns a network whose endpoints answer with behave: nth counts the requests to a URL from 1.
func NewNetwork(behave func(url string, nth int, body string) Answer) *Network {
	return &Network{behave: behave, InFlight: map[string]int{}, Most: map[string]int{}}
}

// OK always answers 200.
var OK = func(string, int, string) Answer { return Answer{} }

// RoundTrip records a request and answers it.
func (n *Network) RoundTrip(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		body, _ = io.ReadAll(req.Body)
	}
	url := req.URL.String()
	n.Mu.Lock()
	nth := 1
	for _, a := range n.Arrivals {
		if a.URL == url {
			nth++
		}
	}
	if n.InFlight[url] > 0 {
		n.Overlaps++
	}
	n.InFlight[url]++
	n.Most[url] = max(n.Most[url], n.InFlight[url])
	i := len(n.Arrivals)
	n.Arrivals = append(n.Arrivals, Arrival{URL: url, ID: req.Header.Get("X-Hub-Message-Id"), Body: string(body),
		Header: req.Header, At: time.Now()})
	n.Mu.Unlock()
	defer func() {
		n.Mu.Lock()
		n.InFlight[url]--
		n.Mu.Unlock()
	}()
	a := n.behave(url, nth, string(body))
	var expired <-chan time.Time
	if !a.Hang {
		t := time.NewTimer(a.After)
		defer t.Stop()
		expired = t.C
	}
	select {
	case <-expired:
	case <-req.Context().Done():
		n.Mu.Lock()
		n.Arrivals[i].Cut = true
		n.Mu.Unlock()
		return nil, context.Cause(req.Context())
	}
	if a.Err != nil {
		return nil, a.Err
	}
	if a.Status == 0 {
		a.Status = 200
	}
	h := http.Header{}
	for k, v := range a.Header {
		h[k] = v
	}
	if a.Echo {
		a.Body = req.URL.Query().Get("hub.challenge")
	}
	if a.RetryAfter != "" {
		h.Set("Retry-After", a.RetryAfter)
	}
	return &http.Response{StatusCode: a.Status, Header: h, Body: io.NopCloser(strings.NewReader(a.Body)),
		ContentLength: int64(len(a.Body)), Request: req}, nil
}

// To returns the requests to a URL, ignoring the parameters that the hub appended.
func (n *Network) To(url string) (out []Arrival) {
	n.Mu.Lock()
	defer n.Mu.Unlock()
	for _, a := range n.Arrivals {
		if before, _, _ := strings.Cut(a.URL, "hub.mode="); strings.TrimRight(before, "?&") == url {
			out = append(out, a)
		}
	}
	return out
}

// Bodies returns the bodies of requests, separated by spaces.
func Bodies(as []Arrival) string {
	out := make([]string, len(as))
	for i, a := range as {
		out[i] = a.Body
	}
	return strings.Join(out, " ")
}

// ErrRefused is the error of a connection attempt to an endpoint that is down.
var ErrRefused = errors.New("connection refused")

// MostAt returns the most requests to a URL that were in flight at a time.
func (n *Network) MostAt(url string) int {
	n.Mu.Lock()
	defer n.Mu.Unlock()
	return n.Most[url]
}

// All returns all requests so far.
func (n *Network) All() []Arrival {
	n.Mu.Lock()
	defer n.Mu.Unlock()
	return slices.Clone(n.Arrivals)
}
