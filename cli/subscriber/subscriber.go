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

// maxDeliveryBytes is the largest message a hub can be configured to send.
const maxDeliveryBytes = 64 << 20

// Delivery is one message as it reached a Subscriber.
type Delivery struct {
	Time        time.Time
	MessageID   string // X-Hub-Message-Id; empty from hubs that send none
	Topic       string // rel=self of the Link header
	ContentType string
	// Signature is ok, bad, absent, or unchecked when the subscriber has no secret.
	Signature string
	// Method is the method of the signature (sha256 …), empty without one.
	Method string
	// Duplicate says that a message with this id arrived before.
	Duplicate bool
	Body      []byte
}

// Verification is one question of a hub about an intent, with the answer given.
type Verification struct {
	Mode, Topic string
	Lease       time.Duration
	Confirmed   bool
	// Reason is the hub's reason when Mode is denied.
	Reason string
}

// Options tell a Subscriber where to listen and whom to tell.
type Options struct {
	// Addr is where to listen; port 0 picks a free one.
	Addr string
	// CallbackURL is the URL hubs use when it differs from the address, such as behind a proxy.
	CallbackURL string
	// Secret checks signatures; empty checks none.
	Secret string
	// AcceptAny confirms every intent. Otherwise only those that Expect announced are confirmed.
	AcceptAny bool
	// OnDelivery and OnVerification are called one at a time, before the hub gets its answer. A delivery that OnDelivery
	// does not take (false) is answered 503, so that the hub sends it again.
	OnDelivery     func(Delivery) bool
	OnVerification func(Verification)
}

// Subscriber is the subscriber role of WebSub: an HTTP server that confirms intents (5.3) and takes deliveries (7). Its
// methods are safe for concurrent use. A delivery whose signature is wrong is answered like any other, as 7.1 asks.
type Subscriber struct {
	opts     Options
	callback string
	server   *http.Server
	served   chan error

	mu       sync.Mutex
	expected map[string]bool // mode and topic
	seen     map[string]bool // message ids
	closed   bool
}

// New listens and serves until Close.
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
			return nil, exit.Usagef("--addr %s stands for all addresses; expected --callback-url with the URL that the hub can reach", opts.Addr)
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

// CallbackURL is what a hub must be given as hub.callback.
func (s *Subscriber) CallbackURL() string { return s.callback }

// Expect makes the subscriber confirm an intent (mode subscribe or unsubscribe) for a topic, from now on. Announce it before the hub is asked: the hub's
// question may come before its answer.
func (s *Subscriber) Expect(mode, topic string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.expected[mode+" "+topic] = true
}

// Forget takes an expectation back.
func (s *Subscriber) Forget(mode, topic string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.expected, mode+" "+topic)
}

// closeGrace is how long Close waits for requests under way.
const closeGrace = time.Second

// Close stops the server. It waits a moment for requests under way and cuts off the rest; the hub sends those again.
func (s *Subscriber) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeGrace)
	defer cancel()
	err := s.server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		// Shutdown also waits for connections on which no request has come yet.
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

// ServeHTTP answers a hub.
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
		// The challenge is the hub's text: nobody's browser may take it for a page.
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_, _ = io.WriteString(w, challenge) //nolint:gosec // text/plain with nosniff, above
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
		http.Error(w, "the message is cut short", http.StatusBadRequest)
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

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		http.Error(w, "the subscriber is closing", http.StatusServiceUnavailable)
		return
	}
	// A forged message must not make the true one look like a repetition.
	known := d.MessageID != "" && (s.opts.Secret == "" || d.Signature == SignatureOK)
	d.Duplicate = known && s.seen[d.MessageID]
	if s.opts.OnDelivery != nil && !s.opts.OnDelivery(d) {
		http.Error(w, "not taken, send it again", http.StatusServiceUnavailable)
		return
	}
	if known {
		s.seen[d.MessageID] = true
	}
	w.WriteHeader(http.StatusNoContent)
}

// linkTarget finds the target of a relation in Link headers (RFC 8288).
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
			// The parameters end at the comma before the next link; a comma within quotes does not count.
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

// ValidCallback reports what is wrong with a callback URL, or "".
func ValidCallback(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Sprintf("got %q, expected an absolute http(s) URL", raw)
	}
	return ""
}
