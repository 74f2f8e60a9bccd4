package delivery_test

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

// arrival is one request that reached an endpoint.
type arrival struct {
	url, id, body string
	header        http.Header
	at            time.Time
	cut           bool // the hub gave up before there was an answer
}

// answer is what an endpoint does.
type answer struct {
	status     int // 0: 200
	after      time.Duration
	hang       bool // until the hub gives up
	err        error
	retryAfter string
	echo       bool // the challenge
	body       string
	header     http.Header
}

// network is a world of endpoints without sockets, so that time can be that of testing/synctest.
type network struct {
	mu       sync.Mutex
	arrivals []arrival
	inFlight map[string]int
	most     map[string]int // under way at a time
	overlaps int            // requests that began while another to the same URL was under way
	behave   func(url string, nth int, body string) answer
}

func newNetwork(behave func(url string, nth int, body string) answer) *network {
	return &network{behave: behave, inFlight: map[string]int{}, most: map[string]int{}}
}

var ok200 = func(string, int, string) answer { return answer{} }

func (n *network) RoundTrip(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		body, _ = io.ReadAll(req.Body)
	}
	url := req.URL.String()
	n.mu.Lock()
	nth := 1
	for _, a := range n.arrivals {
		if a.url == url {
			nth++
		}
	}
	if n.inFlight[url] > 0 {
		n.overlaps++
	}
	n.inFlight[url]++
	n.most[url] = max(n.most[url], n.inFlight[url])
	i := len(n.arrivals)
	n.arrivals = append(n.arrivals, arrival{url: url, id: req.Header.Get("X-Hub-Message-Id"), body: string(body),
		header: req.Header, at: time.Now()})
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		n.inFlight[url]--
		n.mu.Unlock()
	}()
	a := n.behave(url, nth, string(body))
	var expired <-chan time.Time
	if !a.hang {
		t := time.NewTimer(a.after)
		defer t.Stop()
		expired = t.C
	}
	select {
	case <-expired:
	case <-req.Context().Done():
		n.mu.Lock()
		n.arrivals[i].cut = true
		n.mu.Unlock()
		return nil, context.Cause(req.Context())
	}
	if a.err != nil {
		return nil, a.err
	}
	if a.status == 0 {
		a.status = 200
	}
	h := http.Header{}
	for k, v := range a.header {
		h[k] = v
	}
	if a.echo {
		a.body = req.URL.Query().Get("hub.challenge")
	}
	if a.retryAfter != "" {
		h.Set("Retry-After", a.retryAfter)
	}
	return &http.Response{StatusCode: a.status, Header: h, Body: io.NopCloser(strings.NewReader(a.body)),
		ContentLength: int64(len(a.body)), Request: req}, nil
}

// to returns the arrivals at one URL, whatever was appended to its query.
func (n *network) to(url string) (out []arrival) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range n.arrivals {
		if before, _, _ := strings.Cut(a.url, "hub.mode="); strings.TrimRight(before, "?&") == url {
			out = append(out, a)
		}
	}
	return out
}

func bodies(as []arrival) string {
	out := make([]string, len(as))
	for i, a := range as {
		out[i] = a.body
	}
	return strings.Join(out, " ")
}

var errRefused = errors.New("connection refused")

// mostAt is how many requests to a callback were under way at a time at most.
func (n *network) mostAt(url string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.most[url]
}

func (n *network) all() []arrival {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.arrivals)
}
