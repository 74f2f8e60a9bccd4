package delivery

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

	"quorumhub/hub"
)

// FetchOutcome is what one topic fetch came to.
type FetchOutcome uint8

const (
	FetchContent     FetchOutcome = iota + 1 // the topic's content, which may be the same as before
	FetchNotModified                         // 304: the validators still fit
	FetchRetryable                           // no definite answer
	FetchFailed                              // a definite answer that is no content
)

// FetchRequest names a topic and the validators of what is known of it.
type FetchRequest struct {
	URL          string
	ETag         string
	LastModified string
}

// FetchResult is the outcome of one fetch.
type FetchResult struct {
	Outcome    FetchOutcome
	Reason     Reason
	Status     int
	RetryAfter time.Duration

	Body         []byte
	ContentType  string
	ETag         string
	LastModified string
	Hubs         []string // rel=hub of the Link headers
	Self         string   // rel=self of the Link headers, empty: none
}

// maxRedirects is how many redirects a topic fetch follows.
const maxRedirects = 3

// TopicReader fetches topics for thin pings. Safe for concurrent use.
type TopicReader struct {
	Client interface { // a *Client
		http.RoundTripper
		Policy() *Policy
	}
	Clock     hub.Clock
	UserAgent string
	Timeout   time.Duration // for one fetch with its redirects
	MaxBytes  int64         // of content
}

// Fetch gets a topic once, with a fixed neutral Accept, since what it gets goes to all subscribers (WebSub
// section 4.1). At most three redirects are followed, each of them checked like the first URL, none of
// them from https to http.
func (t *TopicReader) Fetch(ctx context.Context, in FetchRequest) FetchResult {
	u, err := url.Parse(in.URL)
	if err != nil {
		return FetchResult{Outcome: FetchFailed, Reason: ReasonURL}
	}
	ctx, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()
	for hop := 0; ; hop++ {
		if err := t.Client.Policy().CheckURL(u); err != nil {
			return FetchResult{Outcome: FetchFailed, Reason: ReasonDenied}
		}
		resp, err := t.Client.RoundTrip(t.request(ctx, u, in))
		if err != nil {
			return failedFetch(ctx, err)
		}
		next, ok := redirect(resp)
		if !ok {
			defer resp.Body.Close()
			return t.read(ctx, resp, u)
		}
		Drain(resp.Body)
		_ = resp.Body.Close()
		if hop == maxRedirects || next == nil || u.Scheme == "https" && next.Scheme != "https" {
			return FetchResult{Outcome: FetchFailed, Reason: ReasonRedirect, Status: resp.StatusCode}
		}
		u = next
	}
}

func (t *TopicReader) request(ctx context.Context, u *url.URL, in FetchRequest) *http.Request {
	h := http.Header{
		"User-Agent": {t.UserAgent}, "Accept": {"*/*"}, "Accept-Encoding": {"identity"},
		"Cache-Control": {"no-cache"}, // a ping says that what caches hold is old
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

// redirect tells whether resp is one, and where to; nil when its target cannot be used.
func redirect(resp *http.Response) (*url.URL, bool) {
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect,
		http.StatusPermanentRedirect:
	default:
		return nil, false
	}
	at, err := resp.Request.URL.Parse(resp.Header.Get("Location"))
	if err != nil || resp.Header.Get("Location") == "" {
		return nil, true
	}
	at.Fragment, at.RawFragment = "", ""
	return at, true
}

func (t *TopicReader) read(ctx context.Context, resp *http.Response, base *url.URL) FetchResult {
	res := FetchResult{Status: resp.StatusCode}
	switch {
	case resp.StatusCode == http.StatusNotModified:
		res.Outcome = FetchNotModified
		return res
	case resp.StatusCode == http.StatusOK, resp.StatusCode == http.StatusNonAuthoritativeInfo:
	default:
		res.Outcome, res.Reason = FetchFailed, ReasonStatus
		if Transient(resp.StatusCode) {
			res.Outcome = FetchRetryable
			res.RetryAfter = retryAfter(resp.Header, t.Clock.Now())
		}
		Drain(resp.Body)
		return res
	}
	body, reason := t.readBody(ctx, resp)
	if reason != ReasonNone {
		res.Outcome, res.Reason = FetchFailed, reason
		if reason != ReasonTooLarge && reason != ReasonEncoding {
			res.Outcome = FetchRetryable
		}
		return res
	}
	res.Outcome, res.Body = FetchContent, body
	res.ContentType = resp.Header.Get("Content-Type")
	res.ETag, res.LastModified = resp.Header.Get("ETag"), resp.Header.Get("Last-Modified")
	res.Hubs, res.Self = discover(resp.Header.Values("Link"), base)
	return res
}

// readBody reads the content up to the limit. Some servers compress whatever is asked for; gzip is
// undone, since the content goes on without a Content-Encoding.
func (t *TopicReader) readBody(ctx context.Context, resp *http.Response) ([]byte, Reason) {
	if resp.ContentLength > t.MaxBytes {
		return nil, ReasonTooLarge
	}
	var src io.Reader = resp.Body
	switch enc := strings.ToLower(strings.TrimSpace(resp.Header.Get("Content-Encoding"))); enc {
	case "", "identity":
	case "gzip", "x-gzip":
		z, err := gzip.NewReader(io.LimitReader(resp.Body, t.MaxBytes+1))
		if err != nil {
			return nil, ReasonEncoding
		}
		src = z
	default:
		return nil, ReasonEncoding
	}
	var buf bytes.Buffer
	if resp.ContentLength > 0 {
		buf.Grow(int(resp.ContentLength) + bytes.MinRead)
	}
	n, err := buf.ReadFrom(io.LimitReader(src, t.MaxBytes+1))
	switch {
	case n > t.MaxBytes:
		return nil, ReasonTooLarge
	case errors.Is(err, gzip.ErrChecksum), errors.Is(err, gzip.ErrHeader):
		return nil, ReasonEncoding
	case err != nil:
		return nil, Classify(ctx, err)
	}
	return buf.Bytes(), ReasonNone
}

func failedFetch(ctx context.Context, err error) FetchResult {
	var den *DeniedError
	if errors.As(err, &den) {
		return FetchResult{Outcome: FetchFailed, Reason: ReasonDenied}
	}
	return FetchResult{Outcome: FetchRetryable, Reason: Classify(ctx, err)}
}
