package delivery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"quorumhub/delivery/egress"
	"quorumhub/delivery/retry"
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
	Reason     egress.Reason
	Status     int           // 0: no answer
	RetryAfter time.Duration // 0: not asked for
	Latency    time.Duration // from the start of the request to the end of the answer
}

// overloaded tells whether a failure means that the endpoint got too much, not that it is broken.
func (r *PushResult) overloaded() bool {
	return r.Status == http.StatusTooManyRequests || r.Reason == egress.ReasonTimeout
}

// failure is a failed attempt as the RetryPolicy sees it: with the failures and overloads in a row, and the refusals of its message.
func (r *PushResult) failure(failures uint64, refused uint32, overloads uint8) retry.Failure {
	return retry.Failure{InARow: failures, Refused: r.Outcome == PushRefused, Refusals: refused, Overloads: overloads, RetryAfter: r.RetryAfter}
}

// Pusher makes content distribution requests. Safe for concurrent use.
type Pusher struct {
	Client    http.RoundTripper // a *Client; requests through anything else are net/http's
	Clock     hub.Clock
	UserAgent string
}

// Endpoint is where one subscription's messages go: all of a request that does not change from message to
// message. Immutable but for its signers, hence not safe for concurrent use when it signs.
type Endpoint struct {
	url    *url.URL
	route  egress.Route
	agent  string
	signer *Signer
	http2  atomic.Bool // it speaks nothing else

	webhooks *WebhookSigner // nil: no signatures of Standard Webhooks
}

// NewEndpoint prepares a callback, which is used exactly as given, query included. signer may be nil:
// then nothing is signed. The only error is a callback that is no URL.
func (p *Pusher) NewEndpoint(callback string, signer *Signer) (*Endpoint, error) {
	u, err := url.Parse(callback)
	if err != nil {
		return nil, fmt.Errorf("callback: %w", err)
	}
	r, err := egress.NewRoute(http.MethodPost, u, p.UserAgent)
	if err != nil {
		return nil, fmt.Errorf("callback: %w", err)
	}
	return &Endpoint{url: u, route: r, agent: p.UserAgent, signer: signer}, nil
}

// Content is one message as it goes out. The strings are header values; empty ones are not sent. One with a line break
// or another control character makes the request fail.
type Content struct {
	Body        []byte // sent and signed as it is
	Blob        *Blob  // in place of Body
	ContentType string // exactly the topic's
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
	// connection from the pool turns out to be closed (see wirePool.post). It is not sent.
	headerReplay = "X-Idempotency-Key"
)

// fields are the header fields of one request beyond those of its route and its length.
func (e *Endpoint) fields(c *Content, now time.Time, out []egress.Field) []egress.Field {
	add := func(name, value string) {
		if value != "" {
			out = append(out, egress.Field{Name: name, Value: value})
		}
	}
	add("Content-Type", c.ContentType)
	add("Link", c.Link)
	add(headerMessageID, c.MessageID)
	if e.signer != nil && c.Blob == nil {
		out = append(out, egress.Field{Name: headerSignature, Value: e.signer.Sign(c.Body)})
	}
	if e.webhooks != nil && c.Blob == nil {
		timestamp, signature := e.webhooks.Sign(c.MessageID, now, c.Body)
		out = append(out, webhookFields(c.MessageID, timestamp, signature)...)
	}
	return out
}

// Push sends one message and waits for the end of the answer, of which at most 4 KiB are read. ctx bounds
// the whole of it. Redirects are answers like any other.
func (p *Pusher) Push(ctx context.Context, e *Endpoint, c Content) PushResult {
	start := p.Clock.Now()
	if c.Blob != nil {
		return p.pushBlob(ctx, e, &c, start)
	}
	a, err := p.post(ctx, e, &c, start)
	if err != nil {
		return p.failed(ctx, err, start)
	}
	return p.answered(a, start)
}

// answered is what an answer means.
func (p *Pusher) answered(a egress.Answer, start time.Time) PushResult {
	now := p.Clock.Now()
	res := PushResult{Outcome: PushDelivered, Status: a.Status, Latency: now.Sub(start)}
	if a.Status >= 200 && a.Status < 300 {
		return res
	}
	res.Reason = egress.ReasonStatus
	switch {
	case a.Status == http.StatusGone:
		res.Outcome = PushGone
	case egress.Transient(a.Status):
		res.Outcome = PushDown
		res.RetryAfter = retry.ParseAfter(a.RetryAfter, now)
	default:
		res.Outcome = PushRefused
		res.RetryAfter = retry.ParseAfter(a.RetryAfter, now)
	}
	return res
}

// post makes the request over the client's own connections, or through net/http when the server speaks nothing
// but HTTP/2, or Client is not a *Client.
func (p *Pusher) post(ctx context.Context, e *Endpoint, c *Content, now time.Time) (egress.Answer, error) {
	var room [8]egress.Field
	fields := e.fields(c, now, room[:0])
	if client, ok := p.Client.(*egress.Client); ok && !e.http2.Load() {
		a, err := client.Post(ctx, &e.route, fields, c.Body)
		if !errors.Is(err, egress.ErrNeedsHTTP2) {
			return a, err
		}
		e.http2.Store(true)
	}
	return p.roundTrip(ctx, e, fields, c.Body)
}

// roundTrip is post through net/http.
func (p *Pusher) roundTrip(ctx context.Context, e *Endpoint, fields []egress.Field, body []byte) (egress.Answer, error) {
	req := e.newRequest(ctx, fields)
	if len(body) > 0 {
		// These two types net/http knows to be in memory, and sends header and body in one write.
		req.Body = io.NopCloser(bytes.NewReader(body))
		req.ContentLength = int64(len(body))
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	}
	return p.send(req)
}

// newRequest is a request for net/http, without a body.
func (e *Endpoint) newRequest(ctx context.Context, fields []egress.Field) *http.Request {
	// The map is made anew for each request: net/http may still read it after an early answer.
	h := make(http.Header, len(fields)+2)
	for _, f := range fields {
		h[f.Name] = []string{f.Value}
	}
	h["User-Agent"] = []string{e.agent}
	h[headerReplay] = nil
	return (&http.Request{Method: http.MethodPost, URL: e.url, Host: e.url.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: h, Body: http.NoBody}).WithContext(ctx)
}

func (p *Pusher) send(req *http.Request) (egress.Answer, error) {
	resp, err := p.Client.RoundTrip(req)
	if err != nil {
		return egress.Answer{}, err
	}
	egress.Drain(resp.Body)
	_ = resp.Body.Close()
	return egress.Answer{Status: resp.StatusCode, RetryAfter: resp.Header.Get("Retry-After")}, nil
}

func (p *Pusher) failed(ctx context.Context, err error, start time.Time) PushResult {
	res := PushResult{Outcome: PushDown, Reason: egress.Classify(ctx, err), Latency: p.Clock.Now().Sub(start)}
	switch res.Reason {
	case egress.ReasonCancelled:
		res.Outcome = PushCancelled
	case egress.ReasonDenied:
		res.Outcome = PushRefused // as definite as an answer
	default: // a fault that may pass
	}
	return res
}
