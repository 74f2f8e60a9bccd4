package subscriber

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

const (
	// forwardTimeout limits one delivery to a local program; hubs wait less.
	forwardTimeout = time.Minute
	// maxAnswerBytes limits how much of the program's response body the hub gets.
	maxAnswerBytes = 1 << 20
)

// Forwarder relays deliveries to a local program. Its methods are safe for concurrent use.
type Forwarder struct {
	target string
	client *http.Client
}

// NewForwarder returns a forwarder to an http(s) URL.
func NewForwarder(target string) *Forwarder {
	return &Forwarder{target: target, client: &http.Client{
		Timeout: forwardTimeout,
		// The hub decides what a redirect means.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     &http.Transport{MaxIdleConnsPerHost: 16, IdleConnTimeout: 30 * time.Second, DisableCompression: true},
	}}
}

// Close closes idle connections.
func (f *Forwarder) Close() { f.client.CloseIdleConnections() }

// Answer is what the program made of a delivery.
type Answer struct {
	Status int // 502 if it did not respond
	Header http.Header
	Body   []byte
	Took   time.Duration
	// Err is why it did not respond, or nil.
	Err error
}

// Accepted reports whether the program took the message.
func (a *Answer) Accepted() bool { return a.Status/100 == 2 }

// Forward sends the body with the end-to-end fields of header, until ctx ends.
func (f *Forwarder) Forward(ctx context.Context, header http.Header, body []byte) *Answer {
	begin := time.Now()
	a, err := f.send(ctx, header, body)
	if err != nil {
		a = &Answer{Status: http.StatusBadGateway, Header: http.Header{}, Body: []byte("the program behind this listener did not respond\n"), Err: reason(err)}
	}
	a.Took = time.Since(begin)
	return a
}

func (f *Forwarder) send(ctx context.Context, header http.Header, body []byte) (*Answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.target, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("build the request: %w", err)
	}
	req.Header = endToEnd(header)
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxAnswerBytes {
		return nil, errors.New("its response is larger than 1 MiB")
	}
	return &Answer{Status: resp.StatusCode, Header: endToEnd(resp.Header), Body: text}, nil
}

// endToEnd returns the fields that concern more than one connection (RFC 9110 section 7.6.1).
func endToEnd(header http.Header) http.Header {
	out := header.Clone()
	for _, list := range header.Values("Connection") {
		for name := range strings.SplitSeq(list, ",") {
			out.Del(strings.TrimSpace(name))
		}
	}
	for _, name := range []string{"Connection", "Proxy-Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Content-Length"} {
		out.Del(name)
	}
	return out
}

// write gives the answer back.
func (a *Answer) write(w http.ResponseWriter) {
	for name, values := range a.Header {
		w.Header()[name] = values
	}
	if a.Header.Get("Content-Type") == "" {
		w.Header()["Content-Type"] = nil // do not guess
	}
	w.WriteHeader(a.Status)
	_, _ = w.Write(a.Body)
}
