package bench

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// signatureSample is how many deliveries there are to one whose signature is verified; of the others only the presence of the header is
// checked. Verifying all would measure the sink's SHA-256.
const signatureSample = 64

// sink serves all callbacks, at <URL>/cb/<number>, and is the target of raw measurements.
type sink struct {
	URL    string
	clock  stopwatch
	server *http.Server
	done   chan error
	stage  atomic.Pointer[stage]
	bodies sync.Pool
}

// stage determines how the sink behaves in one phase. It must not be changed once it is set.
type stage struct {
	tally  *tally
	secret []byte                                  // nil if deliveries are not signed
	hold   func(ctx context.Context, callback int) // called before a delivery gets its response; may be nil
	url    func(callback int) string               // a callback's URL; nil means sink.callback
	topic  func(callback int) string               // a callback's topic; nil means the argument of subscribe
	more   func(callback int) map[string]string    // further parameters of a callback's subscription; may be nil
	intent atomic.Int64                            // confirmed intents
	denied atomic.Int64                            // hub.mode=denied
	sample atomic.Uint64
}

func newSink(clock stopwatch) (*sink, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &sink{URL: "http://" + l.Addr().String(), clock: clock, done: make(chan error, 1)}
	s.bodies.New = func() any { b := make([]byte, 0, 2*messageSize); return &b }
	s.server = newServer(s)
	go func() { s.done <- s.server.Serve(l) }()
	return s, nil
}

// newServer returns an HTTP server that logs nothing.
func newServer(h http.Handler) *http.Server {
	return &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0), ReadHeaderTimeout: 10 * time.Second}
}

// Close closes all connections and waits for the server.
func (s *sink) Close() error {
	err := s.server.Close()
	if served := <-s.done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// door is another listener of the sink, which can be shut.
type door struct {
	url  string
	shut func() // refuse connections from now on
}

func (s *sink) door() (*door, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := newServer(s)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l) // ends when it is shut
	}()
	return &door{"http://" + l.Addr().String(), sync.OnceFunc(func() {
		_ = server.Close() // requests in progress do not matter
		<-done
	})}, nil
}

func (d *door) callback(n int) string { return d.url + "/cb/" + strconv.Itoa(n) }

func (s *sink) callback(n int) string { return s.URL + "/cb/" + strconv.Itoa(n) }

// set starts a stage, which counts everything that arrives from now on.
func (s *sink) set(st *stage) { s.stage.Store(st) }

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	st := s.stage.Load()
	number, found := strings.CutPrefix(r.URL.Path, "/cb/")
	callback, err := strconv.Atoi(number)
	if st == nil || !found || err != nil {
		http.NotFound(w, r)
		return
	}
	if r.Method == http.MethodGet {
		st.verify(w, r)
		return
	}
	body := s.bodies.Get().(*[]byte)
	defer s.bodies.Put(body)
	*body, err = readInto((*body)[:0], r.Body)
	if err != nil {
		return // the sender is gone: nothing was delivered
	}
	now := s.clock.now()
	if st.hold != nil {
		st.hold(r.Context(), callback)
	}
	seq, at, ok := parse(*body)
	switch {
	case !ok:
		st.tally.foreign.Add(1)
	case st.secret != nil && !st.signed(r.Header.Get("X-Hub-Signature"), *body):
		st.tally.unsigned.Add(1)
	}
	if ok {
		st.tally.arrived(callback, seq, at, now)
	}
	w.WriteHeader(http.StatusOK)
}

// verify confirms every intent (WebSub section 5.3).
func (st *stage) verify(w http.ResponseWriter, r *http.Request) {
	// The hub's own parameters come last.
	query := r.URL.Query()
	if modes := query["hub.mode"]; len(modes) == 0 || modes[len(modes)-1] == "denied" {
		st.denied.Add(1)
		return
	}
	challenges := query["hub.challenge"]
	if len(challenges) == 0 {
		http.Error(w, "no hub.challenge", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	if _, err := io.WriteString(w, challenges[len(challenges)-1]); err == nil {
		st.intent.Add(1)
	}
}

func (st *stage) signed(header string, body []byte) bool {
	digest, ok := strings.CutPrefix(header, "sha256=")
	if !ok || st.sample.Add(1)%signatureSample != 0 {
		return ok
	}
	mac := hmac.New(sha256.New, st.secret)
	mac.Write(body)
	return digest == hex.EncodeToString(mac.Sum(nil))
}

func readInto(b []byte, r io.Reader) ([]byte, error) {
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			return b, err
		}
	}
}
