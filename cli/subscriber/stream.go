package subscriber

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"quorumhub/cli/exit"
	"quorumhub/cli/terminal"
)

const (
	// maxEventBytes limits one line of a stream; a hub sends large bodies by URL.
	maxEventBytes = 8 << 20
	// streamSilence is how long a stream may be silent if the hub does not announce its heartbeat.
	streamSilence = time.Minute
	// firstPause is the wait after all URLs have failed. It doubles up to lastPause.
	firstPause = 250 * time.Millisecond
	lastPause  = 5 * time.Second
)

// StreamOptions configures a Stream.
type StreamOptions struct {
	// URLs are those of one topic on one or more nodes, to be tried in turn.
	URLs []string
	// Token is sent to these URLs as a bearer token; empty sends no credentials.
	Token string
	// RootCAs verify the nodes' certificates; nil uses the system's roots.
	RootCAs *x509.CertPool
	// Start is latest, earliest, an offset or an RFC 3339 time. Empty means latest.
	Start string
	// Note is called with messages for people about the connection; nil ignores them.
	Note func(string)
	// Deliver is called with every message, in order. An error ends the stream.
	Deliver func(Delivery) error
}

// Stream follows a topic as server-sent events. When a connection ends, it continues at the next URL, after the last message
// received.
type Stream struct {
	o      StreamOptions
	client *http.Client
	lastID string
	retry  time.Duration
}

// NewStream checks the options.
func NewStream(o StreamOptions) (*Stream, error) {
	for _, raw := range o.URLs {
		u, err := url.Parse(raw)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || !strings.Contains(u.Path, "/topics/") {
			return nil, exit.Usagef("--stream: got %q, expected the URL of a topic on a node of the hub, such as http://127.0.0.1:8080/topics/news", raw)
		}
	}
	if o.Note == nil {
		o.Note = func(string) {}
	}
	transport := &http.Transport{ResponseHeaderTimeout: 15 * time.Second, DisableCompression: true}
	if o.RootCAs != nil {
		transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: o.RootCAs}
	}
	return &Stream{o: o, client: &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     transport,
	}}, nil
}

// refusedError is a response that rejects the request itself, so that repeating it is useless.
type refusedError struct{ text string }

func (e *refusedError) Error() string { return e.text }

// deliverError is an error of Deliver, which ends the stream.
type deliverError struct{ error }

func (e deliverError) Unwrap() error { return e.error }

// Run follows the topic until ctx ends (returning nil), Deliver returns an error, or every node refuses the request.
func (s *Stream) Run(ctx context.Context) error {
	defer s.client.CloseIdleConnections()
	pause := firstPause
	refused, failed := 0, 0
	for n := 0; ; n++ {
		target := s.o.URLs[n%len(s.o.URLs)]
		lived, err := s.follow(ctx, target)
		var end deliverError
		var refusal *refusedError
		switch {
		case errors.As(err, &end):
			return end.error
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &refusal):
			if refused++; refused >= len(s.o.URLs) {
				return exit.With(exit.Refused, fmt.Errorf("%s refused: %w", target, err))
			}
		default:
			refused = 0
		}
		wait := s.retry
		if lived {
			failed, pause = 0, firstPause
		} else if failed++; failed%len(s.o.URLs) == 0 {
			wait = pause
			pause = min(2*pause, lastPause)
		} else {
			wait = 0 // the next node may be up
		}
		s.o.Note(fmt.Sprintf("%s: %s", target, terminal.Printable(err.Error())))
		if err := sleepFor(ctx, wait); err != nil {
			return nil // the caller ended it
		}
	}
}

func (s *Stream) authenticate(req *http.Request) {
	if s.o.Token != "" {
		req.Header.Set("Authorization", "Bearer "+s.o.Token)
	}
}

func sleepFor(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d/2 + rand.N(d/2+1))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// follow reads one connection to its end. lived reports whether the connection became a stream.
func (s *Stream) follow(ctx context.Context, target string) (lived bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if s.lastID == "" && s.o.Start != "" {
		target += "?start=" + url.QueryEscape(s.o.Start)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return false, fmt.Errorf("build the request: %w", err)
	}
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("User-Agent", "quorumhub-cli")
	s.authenticate(req)
	if s.lastID != "" {
		req.Header.Set("Last-Event-ID", s.lastID)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return false, reason(err)
	}
	defer resp.Body.Close()
	switch kind, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";"); {
	case resp.StatusCode != http.StatusOK:
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 1000)) // the status says enough
		text := fmt.Sprintf("%d %s", resp.StatusCode, strings.TrimSpace(terminal.Printable(string(body))))
		if resp.StatusCode/100 == 4 {
			return false, &refusedError{text}
		}
		return false, errors.New(text)
	case kind != "text/event-stream":
		return false, &refusedError{fmt.Sprintf("the response is %q instead of an event stream", terminal.Printable(kind))}
	}
	s.o.Note("following " + terminal.Printable(target))
	silence := time.AfterFunc(streamSilence, func() { cancel(errors.New("the stream was silent for too long")) })
	defer silence.Stop()
	c := &streamConn{s: s, ctx: ctx, url: resp.Request.URL, topic: linkTarget(resp.Header.Values("Link"), "self"), quiet: streamSilence}
	err = c.read(resp.Body, func() { silence.Reset(c.quiet) })
	if cause := context.Cause(ctx); cause != nil && !errors.As(err, new(deliverError)) {
		err = cause
	}
	return true, err
}

// reason strips the request from an error.
func reason(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// streamConn is one connection of a Stream.
type streamConn struct {
	s     *Stream
	ctx   context.Context
	url   *url.URL
	topic string
	quiet time.Duration // how long the hub may be silent

	kind, id, data string // of the event being read
}

// read parses a stream (WHATWG HTML section 9.2.6), as far as a hub uses the format. It calls alive for every line.
func (c *streamConn) read(body io.Reader, alive func()) error {
	lines := bufio.NewReaderSize(body, 64<<10)
	for {
		line, err := readLine(lines)
		if err != nil {
			if errors.Is(err, io.EOF) {
				return errors.New("the hub ended the stream")
			}
			return reason(err)
		}
		alive()
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "":
			kind, data := c.kind, c.data
			c.kind, c.data = "", ""
			if data != "" {
				if err := c.event(kind, data); err != nil {
					return err
				}
			}
			if c.id != "" {
				c.s.lastID = c.id // only now, so that an undelivered message is requested again
			}
		case name == "":
			if d, err := time.ParseDuration(strings.TrimPrefix(value, "heartbeat ")); err == nil && d > 0 {
				c.quiet = max(3*d, 5*time.Second)
			}
		case name == "event":
			c.kind = value
		case name == "id":
			c.id = value
		case name == "data":
			if c.data != "" {
				c.data += "\n"
			}
			c.data += value
		case name == "retry":
			if ms, err := strconv.Atoi(value); err == nil && ms >= 0 {
				c.s.retry = min(time.Duration(ms)*time.Millisecond, lastPause)
			}
		}
	}
}

func readLine(r *bufio.Reader) (string, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case err == nil:
			return strings.TrimRight(string(line), "\r\n"), nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return "", err
		case len(line) > maxEventBytes:
			return "", errors.New("an event is longer than the limit")
		}
	}
}

func (c *streamConn) event(kind, data string) error {
	switch kind {
	case "", "message", "gap", "end":
	default:
		return nil // from a newer hub
	}
	var e struct {
		ID           string  `json:"id"`
		ContentType  string  `json:"content_type"`
		Body         *string `json:"body"`
		BodyBase64   []byte  `json:"body_base64"`
		BodyURL      string  `json:"body_url"`
		Reason       string  `json:"reason"`
		FirstMissing uint64  `json:"first_missing"`
		LastMissing  uint64  `json:"last_missing"`
		Next         uint64  `json:"next"`
	}
	if err := json.Unmarshal([]byte(data), &e); err != nil {
		return fmt.Errorf("unexpected event: %w", err)
	}
	switch kind {
	case "gap":
		if e.LastMissing > 0 {
			c.s.o.Note(fmt.Sprintf("gap: messages %d to %d are gone (%s)", e.FirstMissing, e.LastMissing, terminal.Printable(e.Reason)))
		} else {
			c.s.o.Note(fmt.Sprintf("gap: the hub does not know the last message received (%s) and continues with message %d", terminal.Printable(e.Reason), e.Next))
		}
		return nil
	case "end":
		return fmt.Errorf("the hub ended the stream: %s", e.Reason)
	}
	d := Delivery{Time: time.Now(), MessageID: e.ID, Topic: c.topic, ContentType: e.ContentType, Signature: SignatureAbsent, Body: e.BodyBase64}
	switch {
	case e.Body != nil:
		d.Body = []byte(*e.Body)
	case e.BodyURL != "":
		var err error
		if d.Body, err = c.fetch(e.BodyURL); err != nil {
			return fmt.Errorf("read the body of message %s: %w", terminal.Printable(e.ID), err)
		}
	}
	if err := c.s.o.Deliver(d); err != nil {
		return deliverError{err}
	}
	return nil
}

// fetch reads a body that is too large for an event. It returns none if retention has dropped it meanwhile.
func (c *streamConn) fetch(ref string) ([]byte, error) {
	u, err := c.url.Parse(ref)
	if err != nil {
		return nil, fmt.Errorf("parse its URL: %w", err)
	}
	req, err := http.NewRequestWithContext(c.ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	if u.Scheme == c.url.Scheme && u.Host == c.url.Host { // no other host may learn the token
		c.s.authenticate(req)
	}
	resp, err := c.s.client.Do(req)
	if err != nil {
		return nil, reason(err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusGone:
		c.s.o.Note("gap: a body was dropped by retention before it was read")
		return nil, nil
	default:
		return nil, fmt.Errorf("%s", resp.Status)
	}
	return io.ReadAll(io.LimitReader(resp.Body, maxDeliveryBytes))
}
