package delivery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"quorumhub/delivery/credential"
	"quorumhub/delivery/egress"
	"quorumhub/delivery/retry"
	"quorumhub/hub"
)

// PushOutcome classifies a content distribution request.
type PushOutcome uint8

const (
	PushDelivered PushOutcome = iota + 1 // 2xx
	PushGone                             // 410: the subscription ended (WebSub section 7)
	PushRefused                          // any other 3xx or 4xx, or a forbidden address: another attempt will hardly help
	PushDown                             // no connection, timeout, 5xx, 408, 425 or 429: the endpoint cannot take it now
	PushCancelled                        // cut off by the hub itself; says nothing about the endpoint
)

// PushResult is the outcome of one request.
type PushResult struct {
	Outcome    PushOutcome
	Reason     egress.Reason
	Status     int           // 0: no response
	RetryAfter time.Duration // 0: not given
	Latency    time.Duration // from the start of the request to the end of the response
}

// overloaded reports whether the failure means that the endpoint is overloaded rather than broken.
func (r *PushResult) overloaded() bool {
	return r.Status == http.StatusTooManyRequests || r.Reason == egress.ReasonTimeout
}

// failure describes the attempt for a retry.Policy, with the failures and overloads in a row and the refusals of its
// message.
func (r *PushResult) failure(failures uint64, refused uint32, overloads uint8) retry.Failure {
	return retry.Failure{InARow: failures, Refused: r.Outcome == PushRefused, Refusals: refused, Overloads: overloads, RetryAfter: r.RetryAfter}
}

// Pusher makes content distribution requests. Safe for concurrent use.
type Pusher struct {
	Client    http.RoundTripper // an *egress.Client; requests through any other go through net/http
	Clock     hub.Clock
	UserAgent string
}

// Endpoint holds all of a subscription's requests that does not change from message to message. It is immutable but
// for its signers, and so not safe for concurrent use if it signs.
type Endpoint struct {
	url    *url.URL
	route  egress.Route
	agent  string
	signer *Signer
	http2  atomic.Bool // the server speaks only HTTP/2

	webhooks *WebhookSigner  // nil: no Standard Webhooks signatures
	page     credential.Page // what the callback demands beside
	key      string          // to which messages are encrypted; empty: none

	subscription hub.SubscriptionID
	reference    bool   // it asks for references in place of content
	test         string // ID of the test message that it is for; empty: none
}

// NewEndpoint prepares requests to a callback, which is used exactly as given, query included. Without a signer,
// nothing is signed. The only error is an unusable URL.
func (p *Pusher) NewEndpoint(callback string, signer *Signer) (*Endpoint, error) {
	u, err := url.Parse(hub.EscapeURL(callback))
	if err != nil {
		return nil, fmt.Errorf("callback: %w", err)
	}
	r, err := egress.NewRoute(http.MethodPost, u, p.UserAgent)
	if err != nil {
		return nil, fmt.Errorf("callback: %w", err)
	}
	return &Endpoint{url: u, route: r, agent: p.UserAgent, signer: signer}, nil
}

// Content is one message to be sent. The strings are header values; empty ones are not sent. A line break or another
// control character in one makes the request fail.
type Content struct {
	Body        []byte // sent and signed as is
	Blob        *Blob  // instead of Body
	ContentType string // exactly the topic's
	Link        string // see LinkHeader
	MessageID   string
	Notice      *hub.TopicNotice // nil: the topic is not deprecated
	Headers     []hub.Header     // of the topic's policy
	Kept        []hub.Header     // of the message; those that are Carried are sent
}

// selfOf returns the URL of a subscription's topic as rel=self shows it: a hosted topic's canonical URL, and else the URL as the
// subscriber gave it, which may differ from the form that identifies the topic, such as by a missing slash.
func selfOf(namer *hub.TopicNamer, s *hub.Subscription) string {
	canonical := namer.URL(s.TopicName)
	if canonical != s.TopicName || strings.ContainsFunc(s.TopicRaw, func(c rune) bool { return c <= ' ' || c >= 0x7f || strings.ContainsRune(`<>"`, c) }) {
		return canonical
	}
	if _, err := hub.ParseURL("", s.TopicRaw); err != nil || hub.NormalizeURL(s.TopicRaw) != canonical {
		return canonical
	}
	return s.TopicRaw
}

// LinkHeader returns the value of the Link header: rel=hub and rel=self (WebSub section 7).
func LinkHeader(hubURL, self string) string {
	return "<" + hubURL + `>; rel="hub", <` + self + `>; rel="self"`
}

// Header names in canonical form, so that filling a map need not rewrite them.
const (
	headerMessageID = "X-Hub-Message-Id"
	headerSignature = "X-Hub-Signature"
	// headerReplay, present without a value, tells net/http that it may send the request again if a pooled connection
	// turns out to be closed, as egress.Client.Post does. It is not sent.
	headerReplay = "X-Idempotency-Key"
)

// fields appends the header fields beyond those of the route and the length.
func (e *Endpoint) fields(c *Content, now time.Time, out []egress.Field) []egress.Field {
	add := func(name, value string) {
		if value != "" {
			out = append(out, egress.Field{Name: name, Value: value})
		}
	}
	add("Content-Type", c.ContentType)
	if n := c.Notice; n == nil {
		add("Link", c.Link)
	} else {
		link := c.Link
		if n.Link != "" {
			link += ", " + n.Link
		}
		add("Link", link)
		add("Deprecation", n.Deprecation)
		add("Sunset", n.Sunset)
	}
	add(headerMessageID, c.MessageID)
	for i := range c.Kept {
		if h := &c.Kept[i]; h.Carried {
			out = append(out, egress.Field{Name: h.Name, Value: h.Value})
		}
	}
	for i := range c.Headers {
		out = append(out, egress.Field{Name: c.Headers[i].Name, Value: c.Headers[i].Value})
	}
	if e.signer != nil && c.Blob == nil {
		out = append(out, egress.Field{Name: headerSignature, Value: e.signer.Sign(c.Body)})
	}
	if e.webhooks != nil && c.Blob == nil {
		timestamp, signature := e.webhooks.Sign(c.MessageID, now, c.Body)
		out = append(out, webhookFields(c.MessageID, timestamp, signature)...)
	}
	return out
}

// Push sends one message and waits for the end of the response, of which it reads at most 4 KiB. ctx bounds all of
// it. Redirects are not followed.
func (p *Pusher) Push(ctx context.Context, e *Endpoint, c Content) PushResult {
	start := p.Clock.Now()
	if c.Blob != nil {
		return p.pushBlob(ctx, e, &c, start)
	}
	a, err := p.post(ctx, e, &c, start)
	if err != nil {
		return p.failed(ctx, err, start)
	}
	return p.answered(e, a, start)
}

// answered classifies a response.
func (p *Pusher) answered(e *Endpoint, a egress.Response, start time.Time) PushResult {
	if a.Status == http.StatusUnauthorized {
		e.page.Refused()
	}
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

// post makes the request over the client's own connections, or through net/http if the server speaks only HTTP/2 or
// Client is not an *egress.Client.
func (p *Pusher) post(ctx context.Context, e *Endpoint, c *Content, now time.Time) (egress.Response, error) {
	var room [10]egress.Field
	fields, err := e.page.Append(ctx, e.fields(c, now, room[:0]))
	if err != nil {
		return egress.Response{}, err
	}
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
func (p *Pusher) roundTrip(ctx context.Context, e *Endpoint, fields []egress.Field, body []byte) (egress.Response, error) {
	req := e.newRequest(ctx, fields)
	if len(body) > 0 {
		// net/http knows that these two types are in memory and sends header and body in one write.
		req.Body = io.NopCloser(bytes.NewReader(body))
		req.ContentLength = int64(len(body))
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	}
	return p.send(req)
}

// newRequest returns a request for net/http without a body.
func (e *Endpoint) newRequest(ctx context.Context, fields []egress.Field) *http.Request {
	// A new map for each request: net/http may still read it after an early response.
	h := make(http.Header, len(fields)+2)
	for _, f := range fields {
		h[f.Name] = []string{f.Value}
	}
	h["User-Agent"] = []string{e.agent}
	h[headerReplay] = nil
	return (&http.Request{Method: http.MethodPost, URL: e.url, Host: e.url.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: h, Body: http.NoBody}).WithContext(ctx)
}

func (p *Pusher) send(req *http.Request) (egress.Response, error) {
	resp, err := p.Client.RoundTrip(req)
	if err != nil {
		return egress.Response{}, err
	}
	egress.Drain(resp.Body)
	_ = resp.Body.Close()
	return egress.Response{Status: resp.StatusCode, RetryAfter: resp.Header.Get("Retry-After")}, nil
}

func (p *Pusher) failed(ctx context.Context, err error, start time.Time) PushResult {
	res := PushResult{Outcome: PushDown, Reason: egress.Classify(ctx, err), Latency: p.Clock.Now().Sub(start)}
	var missing *credential.Error
	if errors.As(err, &missing) {
		res.Reason = missing.Reason
	}
	switch res.Reason {
	case egress.ReasonCancelled:
		res.Outcome = PushCancelled
	case egress.ReasonDenied:
		res.Outcome = PushRefused // as definite as a response
	default: // may pass
	}
	return res
}

// String returns the outcome as a word.
func (o PushOutcome) String() string {
	switch o {
	case PushDelivered:
		return "delivered"
	case PushGone:
		return "gone"
	case PushRefused:
		return "refused"
	case PushDown:
		return "down"
	case PushCancelled:
		return "cancelled"
	}
	return "none"
}
