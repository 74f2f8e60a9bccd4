package hubtest

import (
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Request is a request as a scripted server received it.
type Request struct {
	Seq    int // from 1, in order of arrival
	Method string
	URI    string // as on the request line
	Proto  string
	Host   string
	Header http.Header
	Body   []byte
	Length int64 // Content-Length, or -1 if none was sent
	At     time.Time
}

// Path returns the part of the URI before the "?".
func (r Request) Path() string {
	path, _, _ := strings.Cut(r.URI, "?")
	return path
}

// RawQuery returns the part of the URI after the "?".
func (r Request) RawQuery() string {
	_, query, _ := strings.Cut(r.URI, "?")
	return query
}

// Params returns the decoded query parameters in their original order.
func (r Request) Params() []Param { return Params(r.RawQuery()) }

// Values returns the values of a query parameter in their original order.
func (r Request) Values(name string) []string {
	var out []string
	for _, p := range r.Params() {
		if p.Name == name {
			out = append(out, p.Value)
		}
	}
	return out
}

// Value returns the last value of a query parameter: a hub appends its own parameters to those of the
// callback.
func (r Request) Value(name string) string {
	if v := r.Values(name); len(v) > 0 {
		return v[len(v)-1]
	}
	return ""
}

// MessageID returns the X-Hub-Message-Id of a delivery.
func (r Request) MessageID() string { return r.Header.Get("X-Hub-Message-Id") }

// IsDelivery reports whether the request carries content.
func (r Request) IsDelivery() bool { return r.Method == http.MethodPost }

// IsIntent reports whether the request verifies intent for mode, or for either mode if mode is "".
func (r Request) IsIntent(mode string) bool {
	m := r.Value("hub.mode")
	return r.Method == http.MethodGet && (m == mode || mode == "" && (m == "subscribe" || m == "unsubscribe"))
}

// IsDenial reports whether the request says that a subscription was denied or has ended.
func (r Request) IsDenial() bool {
	return r.Method == http.MethodGet && r.Value("hub.mode") == "denied"
}

func (r Request) String() string {
	return fmt.Sprintf("#%d %s %s id=%q %d bytes", r.Seq, r.Method, r.URI, r.MessageID(), len(r.Body))
}

// recorder is an HTTP server on loopback that records every request. Safe for concurrent use.
type recorder struct {
	URL    string // without a trailing slash
	server *httptest.Server
	stop   chan struct{}
	answer func(Request) Answer

	mu       sync.Mutex
	requests []Request
	changed  chan struct{} // closed and replaced on every request
}

// newRecorder starts a server that ends with the test. It has no ServeMux, so no path is cleaned and nothing
// is redirected.
func newRecorder(tb testing.TB, host string, tls bool, answer func(Request) Answer) *recorder {
	tb.Helper()
	s := &recorder{stop: make(chan struct{}), answer: answer, changed: make(chan struct{})}
	listener, err := listenOnce(host)
	if err != nil {
		tb.Fatal(err)
	}
	s.server = &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(s.serve), ErrorLog: log.New(io.Discard, "", 0)}}
	if tls {
		s.server.StartTLS()
	} else {
		s.server.Start()
	}
	s.URL = s.server.URL
	tb.Cleanup(func() {
		close(s.stop)
		s.server.CloseClientConnections()
		s.server.Close()
	})
	return s
}

func (s *recorder) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client went away, so there is no complete request to record
	}
	req := Request{
		Method: r.Method, URI: r.RequestURI, Proto: r.Proto, Host: r.Host, Header: r.Header.Clone(),
		Body: body, Length: r.ContentLength, At: time.Now(),
	}
	s.mu.Lock()
	req.Seq = len(s.requests) + 1
	s.requests = append(s.requests, req)
	close(s.changed)
	s.changed = make(chan struct{})
	s.mu.Unlock()
	s.answer(req).write(w, r, s.stop)
}

// Requests returns the requests received so far, in order.
func (s *recorder) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// Select returns the requests that keep accepts.
func (s *recorder) Select(keep func(Request) bool) []Request {
	return slices.DeleteFunc(s.Requests(), func(r Request) bool { return !keep(r) })
}

// WaitFor waits until at least n requests that keep accepts have arrived, and returns them.
func (s *recorder) WaitFor(tb testing.TB, n int, what string, keep func(Request) bool) []Request {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), Patience)
	defer cancel()
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		if got := s.Select(keep); len(got) >= n {
			return got
		}
		select {
		case <-changed:
		case <-ctx.Done():
			tb.Fatalf("%s: got %d of %d within %v; all requests: %v", what, len(s.Select(keep)), n, Patience, s.Requests())
		}
	}
}

// CAFile writes the certificate of a TLS server to a file in dir, for use as SSL_CERT_FILE.
func (s *recorder) CAFile(tb testing.TB, dir string) string {
	tb.Helper()
	path := filepath.Join(dir, "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.server.Certificate().Raw})
	if err := os.WriteFile(path, block, 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}
