// Package subscriber is the receiving side of a hub: Subscriber takes deliveries as a callback, Stream reads them as server-sent
// events. It may import exit and terminal.
package subscriber

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"quorumhub/cli/exit"
)

// maxDeliveryBytes is the largest message size a hub can be configured for.
const maxDeliveryBytes = 64 << 20

// Delivery is a message as received.
type Delivery struct {
	Time        time.Time
	MessageID   string // X-Hub-Message-Id; empty from hubs that send none
	Topic       string // rel=self of the Link header
	ContentType string
	// Signature is ok, bad, absent, or unchecked if the subscriber has no secret.
	Signature string
	// Method is the method of the signature, such as sha256. It is empty without a signature.
	Method string
	// Duplicate reports whether a message with this ID has arrived before.
	Duplicate bool
	Body      []byte
	// Answer is that of the program to which the delivery was forwarded; nil without one.
	Answer *Answer
}

// Verification is a hub's verification of an intent and the answer to it.
type Verification struct {
	Mode, Topic string
	Lease       time.Duration
	Confirmed   bool
	// Reason is the hub's reason if Mode is denied.
	Reason string
}

// Options configures a Subscriber.
type Options struct {
	// Addr is the address to listen on. Port 0 picks a free port.
	Addr string
	// CallbackURL is the URL for hubs to call if it cannot be derived from Addr, such as behind a proxy.
	CallbackURL string
	// Secret verifies signatures. Empty verifies none.
	Secret string
	// AcceptAny confirms every intent, not only those announced with Expect.
	AcceptAny bool
	// Forward relays every delivery, and its answer is the subscriber's; nil keeps deliveries here. A delivery that nobody can hear of
	// any more is not forwarded.
	Forward *Forwarder
	// OnDelivery and OnVerification are called one at a time, before the hub gets its response. If OnDelivery returns false, the
	// response is 503, so the hub sends the message again.
	OnDelivery     func(Delivery) bool
	OnVerification func(Verification)
}

// Subscriber is an HTTP server that confirms intents (WebSub section 5.3) and receives deliveries (section 7). Its methods are safe
// for concurrent use. It acknowledges deliveries with a bad signature like any other, as section 7.1 requires.
type Subscriber struct {
	opts     Options
	callback string
	server   *http.Server
	served   chan error

	mu       sync.Mutex
	expected map[string]bool // by mode and topic
	seen     map[string]bool // by message ID
	closed   bool
}

// New starts a subscriber, which serves until Close.
func New(opts Options) (*Subscriber, error) {
	listener, err := net.Listen("tcp", opts.Addr)
	if err != nil {
		return nil, fmt.Errorf("listen for deliveries: %w", err)
	}
	s := &Subscriber{
		opts: opts, callback: opts.CallbackURL, served: make(chan error, 1),
		expected: make(map[string]bool), seen: make(map[string]bool),
	}
	if s.callback == "" {
		addr, err := netip.ParseAddrPort(listener.Addr().String())
		if err != nil || addr.Addr().IsUnspecified() {
			listener.Close()
			return nil, exit.Usagef("--addr %s means all addresses; expected --callback-url with a URL that the hub can reach", opts.Addr)
		}
		s.callback = "http://" + addr.String() + "/callback"
	}
	s.server = &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
	}
	go func() { s.served <- s.server.Serve(listener) }()
	return s, nil
}

// CallbackURL returns the URL to subscribe with.
func (s *Subscriber) CallbackURL() string { return s.callback }

// Expect makes the subscriber confirm an intent (mode subscribe or unsubscribe) for a topic from now on. Call it before sending the
// intent: the hub may verify it before it responds.
func (s *Subscriber) Expect(mode, topic string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expected[mode+" "+topic] = true
}

// closeGrace is how long Close waits for requests in progress.
const closeGrace = time.Second

// Close stops the server. It waits for requests in progress up to closeGrace and drops the rest; the hub sends those again.
func (s *Subscriber) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeGrace)
	defer cancel()
	err := s.server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		// Shutdown also waits for connections without a request.
		err = s.server.Close()
	}
	if served := <-s.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if err != nil {
		return fmt.Errorf("close the subscriber: %w", err)
	}
	return nil
}

// ServeHTTP implements http.Handler.
func (s *Subscriber) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet:
		s.verify(w, r)
	case http.MethodPost:
		s.receive(w, r)
	default:
		w.Header().Set("Allow", "GET, POST")
		http.Error(w, "expected GET (verification) or POST (delivery)", http.StatusMethodNotAllowed)
	}
}

func (s *Subscriber) verify(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	v := Verification{Mode: query.Get("hub.mode"), Topic: query.Get("hub.topic"), Reason: query.Get("hub.reason")}
	challenge := query.Get("hub.challenge")
	if seconds, err := time.ParseDuration(query.Get("hub.lease_seconds") + "s"); err == nil {
		v.Lease = seconds
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.opts.AcceptAny || s.expected[v.Mode+" "+v.Topic]
	switch v.Mode {
	case "subscribe", "unsubscribe":
		v.Confirmed = known && challenge != ""
	case "denied":
		known = s.opts.AcceptAny || s.expected["subscribe "+v.Topic]
	default:
		http.Error(w, "expected hub.mode subscribe, unsubscribe or denied", http.StatusBadRequest)
		return
	}
	if s.opts.OnVerification != nil && !s.closed {
		s.opts.OnVerification(v)
	}
	switch {
	case v.Confirmed:
		// The challenge is foreign text: no browser may interpret it as a page.
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_, _ = io.WriteString(w, challenge)
	case v.Mode == "denied" && known:
		w.WriteHeader(http.StatusNoContent)
	default:
		http.Error(w, "not asked for", http.StatusNotFound)
	}
}

func (s *Subscriber) receive(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxDeliveryBytes))
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			http.Error(w, "the message is too large", http.StatusRequestEntityTooLarge)
			return
		}
		http.Error(w, "the message is incomplete", http.StatusBadRequest)
		return
	}
	d := Delivery{
		Time:        time.Now(),
		MessageID:   r.Header.Get("X-Hub-Message-Id"),
		Topic:       linkTarget(r.Header.Values("Link"), "self"),
		ContentType: r.Header.Get("Content-Type"),
		Body:        body,
	}
	d.Signature, d.Method = checkSignature(r.Header.Get("X-Hub-Signature"), s.opts.Secret, body)

	if s.opts.Forward != nil && !s.isClosed() {
		d.Answer = s.opts.Forward.Forward(r.Context(), r.Header, body)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		http.Error(w, "the subscriber is closing", http.StatusServiceUnavailable)
		return
	}
	// A forged message must not make the real one look like a duplicate.
	known := d.MessageID != "" && (s.opts.Secret == "" || d.Signature == SignatureOK)
	d.Duplicate = known && s.seen[d.MessageID]
	if s.opts.OnDelivery != nil && !s.opts.OnDelivery(d) {
		http.Error(w, "not accepted, send it again", http.StatusServiceUnavailable)
		return
	}
	if known && (d.Answer == nil || d.Answer.Accepted()) {
		s.seen[d.MessageID] = true
	}
	if d.Answer != nil {
		d.Answer.write(w)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *Subscriber) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// linkTarget returns the target of a relation in Link headers (RFC 8288), or "".
func linkTarget(headers []string, rel string) string {
	for _, header := range headers {
		for header != "" {
			_, rest, ok := strings.Cut(header, "<")
			if !ok {
				break
			}
			target, rest, ok := strings.Cut(rest, ">")
			if !ok {
				break
			}
			params := rest
			// The parameters end at the comma before the next link, unless the comma is quoted.
			quoted := false
			for i, c := range rest {
				if c == '"' {
					quoted = !quoted
				}
				if c == ',' && !quoted {
					params = rest[:i]
					break
				}
			}
			header = strings.TrimPrefix(rest[len(params):], ",")
			_, values, err := mime.ParseMediaType("x/x" + params)
			if err != nil {
				continue
			}
			for _, r := range strings.Fields(values["rel"]) {
				if strings.EqualFold(r, rel) {
					return target
				}
			}
		}
	}
	return ""
}

// ValidCallback describes what is wrong with a callback URL, or returns "".
func ValidCallback(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Sprintf("got %q, expected an absolute http(s) URL", raw)
	}
	return ""
}
