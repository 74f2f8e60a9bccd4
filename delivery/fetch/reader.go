package fetch

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"quorumhub/delivery/egress"
	"quorumhub/delivery/retry"
	"quorumhub/hub"
)

// Outcome is the result of one fetch.
type Outcome uint8

const (
	Content     Outcome = iota + 1 // the topic's content, possibly unchanged
	NotModified                    // 304: the validators still match
	Retryable                      // no definite response
	Failed                         // a definite response without content
)

// Request names a topic and the validators of its last known content.
type Request struct {
	URL          string
	ETag         string
	LastModified string
}

// Result is the outcome of one fetch.
type Result struct {
	Outcome    Outcome
	Reason     egress.Reason
	Status     int
	RetryAfter time.Duration

	Body         []byte
	ContentType  string
	ETag         string
	LastModified string
	Hubs         []string // rel=hub of the Link headers
	Self         string   // rel=self of the Link headers; empty: none
}

// maxRedirects is how many redirects a fetch follows.
const maxRedirects = 3

// Reader fetches topics for thin pings. Safe for concurrent use.
type Reader struct {
	Client interface { // an *egress.Client
		http.RoundTripper
		Policy() *egress.Policy
	}
	Clock     hub.Clock
	UserAgent string
	Timeout   time.Duration // of one fetch, redirects included
	MaxBytes  int64         // of content
}

// Fetch gets a topic once, with a fixed neutral Accept, because the content goes to all subscribers (WebSub section
// 4.1). It follows at most three redirects, none from https to http, and checks each like the first URL.
func (t *Reader) Fetch(ctx context.Context, in Request) Result {
	u, err := url.Parse(hub.EscapeURL(in.URL))
	if err != nil {
		return Result{Outcome: Failed, Reason: egress.ReasonURL}
	}
	ctx, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()
	for hop := 0; ; hop++ {
		if err := t.Client.Policy().CheckURL(u); err != nil {
			return Result{Outcome: Failed, Reason: egress.ReasonDenied}
		}
		resp, err := t.Client.RoundTrip(t.request(ctx, u, in))
		if err != nil {
			return failed(ctx, err)
		}
		next, ok := redirect(resp)
		if !ok {
			defer resp.Body.Close()
			return t.read(ctx, resp, u)
		}
		egress.Drain(resp.Body)
		_ = resp.Body.Close()
		if hop == maxRedirects || next == nil || u.Scheme == "https" && next.Scheme != "https" {
			return Result{Outcome: Failed, Reason: egress.ReasonRedirect, Status: resp.StatusCode}
		}
		u = next
	}
}

func (t *Reader) request(ctx context.Context, u *url.URL, in Request) *http.Request {
	h := http.Header{
		"User-Agent": {t.UserAgent}, "Accept": {"*/*"}, "Accept-Encoding": {"identity"},
		"Cache-Control": {"no-cache"}, // a ping means that caches are stale
	}
	if in.ETag != "" {
		h["If-None-Match"] = []string{in.ETag}
	}
	if in.LastModified != "" {
		h["If-Modified-Since"] = []string{in.LastModified}
	}
	return (&http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Proto: "HTTP/1.1", ProtoMajor: 1,
		ProtoMinor: 1, Header: h}).WithContext(ctx)
}

// redirect reports whether resp is a redirect, and returns its target; nil if that is unusable.
func redirect(resp *http.Response) (*url.URL, bool) {
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect,
		http.StatusPermanentRedirect:
	default:
		return nil, false
	}
	at, err := resp.Request.URL.Parse(hub.EscapeURL(resp.Header.Get("Location")))
	if err != nil || resp.Header.Get("Location") == "" {
		return nil, true
	}
	at.Fragment, at.RawFragment = "", ""
	return at, true
}

func (t *Reader) read(ctx context.Context, resp *http.Response, base *url.URL) Result {
	res := Result{Status: resp.StatusCode}
	switch {
	case resp.StatusCode == http.StatusNotModified:
		res.Outcome = NotModified
		return res
	case resp.StatusCode == http.StatusOK, resp.StatusCode == http.StatusNonAuthoritativeInfo:
	default:
		res.Outcome, res.Reason = Failed, egress.ReasonStatus
		if egress.Transient(resp.StatusCode) {
			res.Outcome = Retryable
			res.RetryAfter = retry.After(resp.Header, t.Clock.Now())
		}
		egress.Drain(resp.Body)
		return res
	}
	body, reason := t.readBody(ctx, resp)
	if reason != egress.ReasonNone {
		res.Outcome, res.Reason = Failed, reason
		if reason != egress.ReasonTooLarge && reason != egress.ReasonEncoding {
			res.Outcome = Retryable
		}
		return res
	}
	res.Outcome, res.Body = Content, body
	res.ContentType = resp.Header.Get("Content-Type")
	res.ETag, res.LastModified = resp.Header.Get("ETag"), resp.Header.Get("Last-Modified")
	res.Hubs, res.Self = discover(resp.Header.Values("Link"), base)
	return res
}

// readBody reads the content up to the limit. Some servers compress unasked; gzip is undone, because deliveries carry
// no Content-Encoding.
func (t *Reader) readBody(ctx context.Context, resp *http.Response) ([]byte, egress.Reason) {
	if resp.ContentLength > t.MaxBytes {
		return nil, egress.ReasonTooLarge
	}
	var src io.Reader = resp.Body
	switch enc := strings.ToLower(strings.TrimSpace(resp.Header.Get("Content-Encoding"))); enc {
	case "", "identity":
	case "gzip", "x-gzip":
		z, err := gzip.NewReader(io.LimitReader(resp.Body, t.MaxBytes+1))
		if err != nil {
			return nil, egress.ReasonEncoding
		}
		src = z
	default:
		return nil, egress.ReasonEncoding
	}
	var buf bytes.Buffer
	if resp.ContentLength > 0 {
		buf.Grow(int(resp.ContentLength) + bytes.MinRead)
	}
	n, err := buf.ReadFrom(io.LimitReader(src, t.MaxBytes+1))
	switch {
	case n > t.MaxBytes:
		return nil, egress.ReasonTooLarge
	case errors.Is(err, gzip.ErrChecksum), errors.Is(err, gzip.ErrHeader):
		return nil, egress.ReasonEncoding
	case err != nil:
		return nil, egress.Classify(ctx, err)
	}
	return buf.Bytes(), egress.ReasonNone
}

func failed(ctx context.Context, err error) Result {
	var den *egress.DeniedError
	if errors.As(err, &den) {
		return Result{Outcome: Failed, Reason: egress.ReasonDenied}
	}
	return Result{Outcome: Retryable, Reason: egress.Classify(ctx, err)}
}
