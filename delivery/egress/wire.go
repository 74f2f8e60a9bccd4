package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"time"
)

// Post uses connections of its own instead of net/http: a request is one write and one or two reads in the caller's
// goroutine, with no handover to another one. Everything else goes through net/http.

// inlineBody is the body size in bytes up to which header and body leave in one write. Larger bodies are not copied.
const inlineBody = 16 << 10

// duplexBody is the body size in bytes above which a server may respond before it has read all of the body.
const duplexBody = 64 << 10

// duplexPatience is how much later than the response the end of the body may be sent.
const duplexPatience = 20 * time.Millisecond

// Route is the part of a request that stays the same: where it goes and how it begins.
type Route struct {
	to   wireAddr
	head []byte // request line, Host and User-Agent, each with its line end
}

// NewRoute prepares requests to u, which is used as is. It must be an absolute http or https URL whose host is a name
// or an address.
func NewRoute(method string, u *url.URL, userAgent string) (Route, error) {
	if u.Scheme != "http" && u.Scheme != "https" {
		return Route{}, fmt.Errorf("scheme %q, expected http or https", u.Scheme)
	}
	host, port := u.Hostname(), u.Port()
	if _, err := netip.ParseAddr(host); err != nil {
		if err := checkHostSyntax(host); err != nil {
			return Route{}, err
		}
	}
	if port == "" {
		port = "80"
		if u.Scheme == "https" {
			port = "443"
		}
	}
	target := u.RequestURI()
	for i := range len(target) {
		if c := target[i]; c <= ' ' || c == 0x7f {
			return Route{}, errors.New("the URL contains a space or a control character")
		}
	}
	if !fieldValue(userAgent) {
		return Route{}, errHeaderValue
	}
	r := Route{to: wireAddr{secure: u.Scheme == "https", addr: net.JoinHostPort(host, port), name: host}}
	r.head = fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\n", method, target, u.Host, userAgent)
	return r, nil
}

// Field is a header field of a request.
type Field struct{ Name, Value string }

var errHeaderValue = errors.New("a header value contains a control character")

// fieldValue reports whether v may be sent as a header value: whoever chooses it must not choose what follows (RFC
// 9110 section 5.5).
func fieldValue(v string) bool {
	for i := range len(v) {
		if c := v[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// Post makes one request with a body over the client's own HTTP/1.1 connections and reads the response, discarding
// its body. ctx bounds all of it; once ctx ends the request, the error wraps its cause. If the server speaks only
// HTTP/2, the error is ErrNeedsHTTP2. A request on a reused connection that the server closed without a response is
// repeated once on a new one.
func (c *Client) Post(ctx context.Context, r *Route, fields []Field, body []byte) (Response, error) {
	return c.wires.post(ctx, r, fields, body)
}

// post implements Client.Post.
//
// A server may close an idle connection at any moment. A request that meets a reused connection, and gets not a
// single byte back, is repeated once on a new connection. Such a server may have seen the first request. Requests
// carry an ID that does not change, so receivers can tell; the alternative is a failed attempt and the same
// repetition.
func (p *wirePool) post(ctx context.Context, r *Route, fields []Field, body []byte) (Response, error) {
	if ctx.Err() != nil {
		return Response{}, context.Cause(ctx)
	}
	for _, f := range fields {
		if !fieldValue(f.Value) {
			return Response{}, errHeaderValue
		}
	}
	b := p.getBuffers()
	defer p.putBuffers(b)
	b.out = appendRequest(b.out[:0], r, fields, len(body))

	to := p.resolve(r.to)
	if w := p.get(to); w != nil {
		a, err := p.exchange(ctx, w, b, body)
		if !errors.Is(err, errSilent) || ctx.Err() != nil {
			return a, err
		}
	}
	w, err := p.connect(ctx, to)
	if err != nil {
		return Response{}, ended(ctx, err)
	}
	a, err := p.exchange(ctx, w, b, body)
	if w.certificateRequested && errors.Is(err, errSilent) {
		err = refusedCertificate(err)
	}
	return a, err
}

// appendRequest appends everything before the body.
func appendRequest(out []byte, r *Route, fields []Field, length int) []byte {
	out = append(out, r.head...)
	for _, f := range fields {
		out = append(out, f.Name...)
		out = append(out, ": "...)
		out = append(out, f.Value...)
		out = append(out, "\r\n"...)
	}
	out = append(out, "Content-Length: "...)
	out = strconv.AppendInt(out, int64(length), 10)
	return append(out, "\r\n\r\n"...)
}

// errSilent means that a connection ended without a byte of a response.
var errSilent = errors.New("no response")

// exchange sends what is in b and the body, and reads the response. Afterwards the connection is in the pool or
// closed.
func (p *wirePool) exchange(ctx context.Context, w *wire, b *wireBuffers, body []byte) (Response, error) {
	t, stop := tie(ctx, w.tcp)
	b.br.Reset(w.conn)
	a, err := w.roundTrip(b, body)
	var alone bool
	if t != nil {
		alone = t.detach()
	} else {
		alone = stop()
	}
	if alone && err == nil && a.reuse {
		p.put(w)
		return a, nil
	}
	w.drop()
	if err != nil {
		return Response{}, ended(ctx, err)
	}
	return a, nil
}

// roundTrip sends and receives on one connection.
func (w *wire) roundTrip(b *wireBuffers, body []byte) (Response, error) {
	if len(body) > duplexBody {
		return w.roundTripDuplex(b, body)
	}
	sent := w.send(b, body)
	// Even a server that stopped reading may have responded.
	a, err := b.response()
	if err != nil && sent != nil && errors.Is(err, errSilent) {
		return a, fmt.Errorf("%w: %w", errSilent, sent)
	}
	a.reuse = a.reuse && sent == nil
	return a, err
}

// roundTripDuplex reads while it still writes, so that an early response to a large body is received.
func (w *wire) roundTripDuplex(b *wireBuffers, body []byte) (Response, error) {
	sent := make(chan error, 1)
	go func() { sent <- w.send(b, body) }()
	a, err := b.response()
	patience := time.NewTimer(duplexPatience)
	defer patience.Stop()
	select {
	case failed := <-sent:
		a.reuse = a.reuse && failed == nil
		return a, err
	case <-patience.C:
	}
	// The server has decided without the rest of the body.
	a.reuse = false
	_ = w.tcp.SetDeadline(longAgo())
	<-sent //nolint:errcheck // the response outweighs the error of a body nobody read
	return a, err
}

func (w *wire) send(b *wireBuffers, body []byte) error {
	if len(body) <= inlineBody {
		b.out = append(b.out, body...)
		_, err := w.conn.Write(b.out)
		b.out = b.out[:len(b.out)-len(body)] // for another attempt
		return err
	}
	if w.conn == w.tcp {
		parts := net.Buffers{b.out, body}
		_, err := parts.WriteTo(w.conn)
		return err
	}
	if _, err := w.conn.Write(b.out); err != nil {
		return err
	}
	_, err := w.conn.Write(body)
	return err
}

// response reads the response. The error wraps errSilent if the connection ended before the first byte.
func (b *wireBuffers) response() (Response, error) {
	if _, err := b.br.Peek(1); err != nil {
		return Response{}, fmt.Errorf("%w: %w", errSilent, err)
	}
	return readResponse(b.br)
}

// ended returns err, or the reason why ctx ended the request.
func ended(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return fmt.Errorf("%w (%w)", context.Cause(ctx), err)
}
