package delivery

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"quorumhub/hub"
)

// PushOutcome is what one content distribution request came to.
type PushOutcome uint8

const (
	PushDelivered PushOutcome = iota + 1 // 2xx
	PushGone                             // 410: the subscription ended (WebSub section 7)
	PushRefused                          // another 3xx or 4xx, or a forbidden address: trying again will hardly help
	PushDown                             // no connection, timeout, 5xx, 408, 425 or 429: the endpoint cannot take it now
	PushCancelled                        // given up by the hub itself; says nothing about the endpoint
)

// PushResult is the outcome of one request.
type PushResult struct {
	Outcome    PushOutcome
	Reason     Reason
	Status     int           // 0: no answer
	RetryAfter time.Duration // 0: not asked for
	Latency    time.Duration // from the start of the request to the end of the answer
}

// Pusher makes content distribution requests. Safe for concurrent use.
type Pusher struct {
	Client    http.RoundTripper // a *Client
	Clock     hub.Clock
	UserAgent string
}

// Endpoint is where one subscription's messages go: all of a request that does not change from message to
// message. Immutable but for its Signer, hence not safe for concurrent use when it signs.
type Endpoint struct {
	request   http.Request // template
	userAgent string
	signer    *Signer
}

// NewEndpoint prepares a callback, which is used exactly as given, query included. signer may be nil:
// then nothing is signed. The only error is a callback that is no URL.
func (p *Pusher) NewEndpoint(callback string, signer *Signer) (*Endpoint, error) {
	u, err := url.Parse(callback)
	if err != nil {
		return nil, fmt.Errorf("callback: %w", err)
	}
	return &Endpoint{signer: signer, userAgent: p.UserAgent, request: http.Request{
		Method: http.MethodPost, URL: u, Host: u.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}}, nil
}

// Content is one message as it goes out. The strings are header values and must hold no line breaks.
type Content struct {
	Body        []byte // sent and signed as it is
	ContentType string // exactly the topic's; empty: none is sent
	Link        string // see LinkHeader
	MessageID   string
}

// LinkHeader is the value of the one Link header: rel=hub and rel=self (WebSub section 7).
func LinkHeader(hubURL, self string) string {
	return "<" + hubURL + `>; rel="hub", <` + self + `>; rel="self"`
}

// Canonical forms of the header names used, so that filling a map needs no rewriting.
const (
	headerMessageID = "X-Hub-Message-Id"
	headerSignature = "X-Hub-Signature"
	// headerReplay, present without a value, tells net/http that the request may be sent again when a
	// connection from the pool turns out to be closed. It is not sent. Receivers can tell a repetition by the
	// message id, and the alternative is a failed attempt whenever a server drops an idle connection.
	headerReplay = "X-Idempotency-Key"
)

// Push sends one message and waits for the end of the answer, of which at most 4 KiB are read. ctx bounds
// the whole of it. Redirects are answers like any other.
func (p *Pusher) Push(ctx context.Context, e *Endpoint, c Content) PushResult {
	start := p.Clock.Now()
	req := e.request.WithContext(ctx)
	values := [...]string{c.ContentType, c.Link, c.MessageID, e.userAgent, ""}
	// The map is made anew for each request: net/http may still read it after an early answer.
	h := make(http.Header, 8)
	if c.ContentType != "" {
		h["Content-Type"] = values[0:1:1]
	}
	h["Link"] = values[1:2:2]
	h[headerMessageID] = values[2:3:3]
	h["User-Agent"] = values[3:4:4]
	if e.signer != nil {
		values[4] = e.signer.Sign(c.Body)
		h[headerSignature] = values[4:5:5]
	}
	h[headerReplay] = nil
	req.Header = h
	if len(c.Body) > 0 {
		// These two types net/http knows to be in memory, and sends header and body in one write.
		req.Body = io.NopCloser(bytes.NewReader(c.Body))
		req.ContentLength = int64(len(c.Body))
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(c.Body)), nil }
	} else {
		req.Body = http.NoBody
	}

	resp, err := p.Client.RoundTrip(req)
	if err != nil {
		return p.failed(ctx, err, start)
	}
	drain(resp.Body)
	_ = resp.Body.Close()
	now := p.Clock.Now()
	res := PushResult{Outcome: PushDelivered, Status: resp.StatusCode, Latency: now.Sub(start)}
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return res
	}
	res.Reason = ReasonStatus
	switch {
	case resp.StatusCode == http.StatusGone:
		res.Outcome = PushGone
	case transient(resp.StatusCode):
		res.Outcome = PushDown
		res.RetryAfter = retryAfter(resp.Header, now)
	default:
		res.Outcome = PushRefused
		res.RetryAfter = retryAfter(resp.Header, now)
	}
	return res
}

func (p *Pusher) failed(ctx context.Context, err error, start time.Time) PushResult {
	res := PushResult{Outcome: PushDown, Reason: classify(ctx, err), Latency: p.Clock.Now().Sub(start)}
	switch res.Reason {
	case ReasonCancelled:
		res.Outcome = PushCancelled
	case ReasonDenied:
		res.Outcome = PushRefused // as definite as an answer
	default: // a fault that may pass
	}
	return res
}
