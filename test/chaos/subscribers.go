package chaos

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"quorumhub/test/hubtest"
)

// Manner is how a subscriber answers. It is called for each delivery.
type Manner func(*rand.Rand) Answer

// Answer is what a subscriber does with a delivery.
type Answer struct {
	Status int           // 0: 200
	Delay  time.Duration // before the answer
	Drop   bool          // closes the connection without an answer
	Hang   bool          // does not answer until the hub gives up
}

// Steady accepts everything at once.
func Steady(*rand.Rand) Answer { return Answer{} }

// Slow accepts everything, but so slowly that it is behind most of the time.
func Slow(*rand.Rand) Answer { return Answer{Delay: time.Millisecond} }

// Uneven accepts everything up to 200 ms late, so that several messages are in flight where that is allowed,
// and one in twenty so late that later messages are recorded long before it.
func Uneven(r *rand.Rand) Answer {
	if r.IntN(20) == 0 {
		return Answer{Delay: time.Duration(400+r.IntN(800)) * time.Millisecond}
	}
	return Answer{Delay: time.Duration(r.IntN(200)) * time.Millisecond}
}

// Flaky fails about one delivery in eight: errors, slow answers, dropped connections and, rarely, no answer
// at all.
func Flaky(r *rand.Rand) Answer {
	switch n := r.IntN(1000); {
	case n < 50:
		return Answer{Status: 500}
	case n < 80:
		return Answer{Drop: true}
	case n < 110:
		return Answer{Delay: time.Duration(5+r.IntN(35)) * time.Millisecond}
	case n < 122:
		return Answer{Status: 503}
	case n < 124:
		return Answer{Hang: true}
	}
	return Answer{}
}

// Subscribers is one HTTP server with all callbacks of a scenario. Each callback belongs to one subscription,
// whose name is its path.
type Subscribers struct {
	URL    string
	ledger *Ledger
	run    func() int // number of the hub's current run
	server *http.Server
	done   chan error

	mu        sync.Mutex
	rand      *rand.Rand
	callbacks map[string]callback
}

type callback struct {
	topic  string
	secret string // empty: unsigned
	manner Manner
}

// NewSubscribers starts the server. A connection belongs to the run of the hub in which it was made.
func NewSubscribers(l *Ledger, run func() int, r *rand.Rand) (*Subscribers, error) {
	return newSubscribers("", l, run, r)
}

// newSubscribers is NewSubscribers at an address of this machine; empty means loopback.
func newSubscribers(host string, l *Ledger, run func() int, r *rand.Rand) (*Subscribers, error) {
	listener, err := net.Listen("tcp4", net.JoinHostPort(cmp.Or(host, "127.0.0.1"), "0"))
	if err != nil {
		return nil, err
	}
	s := &Subscribers{
		URL: "http://" + listener.Addr().String(), ledger: l, run: run, rand: r,
		done: make(chan error, 1), callbacks: map[string]callback{},
	}
	s.server = &http.Server{Handler: s, ErrorLog: log.New(io.Discard, "", 0),
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, runKey{}, run())
		}}
	go func() { s.done <- s.server.Serve(listener) }()
	return s, nil
}

type runKey struct{}

// Close stops the server.
func (s *Subscribers) Close() error {
	err := s.server.Close()
	if served := <-s.done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// Add creates a callback and returns its URL.
func (s *Subscribers) Add(name, topic, secret string, m Manner) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.callbacks[name] = callback{topic, secret, m}
	return s.URL + "/" + name
}

func (s *Subscribers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/")
	s.mu.Lock()
	c, ok := s.callbacks[name]
	s.mu.Unlock()
	switch {
	case !ok:
		http.NotFound(w, r)
	case r.Method == http.MethodGet:
		s.verify(w, r, name)
	default:
		s.take(w, r, name, c)
	}
}

func (s *Subscribers) verify(w http.ResponseWriter, r *http.Request, name string) {
	mode := r.URL.Query().Get("hub.mode")
	if mode != "subscribe" && mode != "unsubscribe" || !s.ledger.Confirming(name, mode == "subscribe") {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	// If the confirmation cannot be written, the hub asks again.
	_, _ = io.WriteString(w, r.URL.Query().Get("hub.challenge"))
}

func (s *Subscribers) take(w http.ResponseWriter, r *http.Request, name string, c callback) {
	content, err := io.ReadAll(r.Body)
	if err != nil {
		return // the hub broke off, so nothing was delivered
	}
	d := Delivery{Subscription: name, Topic: c.topic, Body: nameOf(content), Intact: true, ID: r.Header.Get("X-Hub-Message-Id")}
	d.From, _, _ = net.SplitHostPort(r.RemoteAddr)
	d.Run, _ = r.Context().Value(runKey{}).(int)
	if d.Offset, err = hubtest.OffsetOf(d.ID); err != nil {
		d.Intact = false
	}
	if got := r.Header.Get("X-Hub-Signature"); c.secret == "" && got != "" || c.secret != "" && got != hubtest.Sign("sha256", c.secret, content) {
		d.Intact = false
	}
	s.mu.Lock()
	a := c.manner(s.rand)
	s.mu.Unlock()
	booked := s.ledger.Arrived(d, content)
	if a.Hang {
		<-r.Context().Done()
		return
	}
	if a.Delay > 0 {
		timer := time.NewTimer(a.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
			return
		}
	}
	switch {
	case a.Drop:
		panic(http.ErrAbortHandler)
	case a.Status != 0:
		w.WriteHeader(a.Status)
		return
	case r.Context().Err() != nil:
		// The hub has died or given up. It may have been killed before it read the answer of a moment ago.
		s.ledger.Answered(booked, Unclear)
	default:
		s.ledger.Answered(booked, Accepted)
	}
	w.WriteHeader(http.StatusOK)
}
