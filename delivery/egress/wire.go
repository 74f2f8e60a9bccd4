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

// Content distribution makes its requests itself, over connections of its own: a request is one write and one or
// two reads in the goroutine that wants it made, without others to hand anything over to. net/http's client is
// for everything else.

// inlineBody is the size up to which header and body leave in one write, in bytes. Larger ones are not copied.
const inlineBody = 16 << 10

// duplexBody is the size from which a server may answer, or want to, before all of the body is out.
const duplexBody = 64 << 10

// duplexPatience is how long the end of the body may come behind the end of the answer.
const duplexPatience = 20 * time.Millisecond

// past is a deadline that ends whatever waits for a connection.
func past() time.Time { return time.Unix(1, 0) }

// Route is the part of a request that does not change: where it goes and how it begins.
type Route struct {
	to   wireAddr
	head []byte // request line, Host and User-Agent, each with its line end
}

// NewRoute prepares requests to u, which is used as it is. Only absolute http and https URLs with a name or an
// address for a host can be.
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
			return Route{}, errors.New("the URL holds a blank or a control character")
		}
	}
	if !fieldValue(userAgent) {
		return Route{}, errHeaderValue
	}
	r := Route{to: wireAddr{secure: u.Scheme == "https", addr: net.JoinHostPort(host, port), name: host}}
	r.head = fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: %s\r\n", method, target, u.Host, userAgent)
	return r, nil
}

// Field is one header field of a request.
type Field struct{ Name, Value string }

var errHeaderValue = errors.New("a header value holds a line break or another control character")

// fieldValue tells whether v may be sent as a header value: whoever chooses it must not choose what follows
// (RFC 9110 section 5.5).
func fieldValue(v string) bool {
	for i := range len(v) {
		if c := v[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// Post makes one request with a body over the client's own HTTP/1.1 connections and reads the answer, whose body is of
// no interest. ctx bounds all of it; the error of a request that ctx ended wraps its cause. A server that speaks only
// HTTP/2 gives ErrNeedsHTTP2. A request that met a connection which the server had closed is made once more.
func (c *Client) Post(ctx context.Context, r *Route, fields []Field, body []byte) (Answer, error) {
	return c.wires.post(ctx, r, fields, body)
}

// post makes one request with a body and reads the answer. ctx bounds all of it; the error of a request that ctx
// ended wraps its cause.
//
// A server may close an idle connection at any moment. A request that met one which had been used before, and
// got not a single byte back, is made once more on a fresh connection. Such a server may have seen the first, but
// what is sent here carries an id that does not change, so receivers can tell; the alternative is a failed attempt, and
// then the same repetition.
func (p *wirePool) post(ctx context.Context, r *Route, fields []Field, body []byte) (Answer, error) {
	if ctx.Err() != nil {
		return Answer{}, context.Cause(ctx)
	}
	for _, f := range fields {
		if !fieldValue(f.Value) {
			return Answer{}, errHeaderValue
		}
	}
	b := p.takeBuffers()
	defer p.giveBuffers(b)
	b.out = appendRequest(b.out[:0], r, fields, len(body))

	to := p.at(r.to)
	if w := p.take(to); w != nil {
		a, err := p.exchange(ctx, w, b, body)
		if !errors.Is(err, errSilent) || ctx.Err() != nil {
			return a, err
		}
	}
	w, err := p.connect(ctx, to)
	if err != nil {
		return Answer{}, ended(ctx, err)
	}
	a, err := p.exchange(ctx, w, b, body)
	if w.asked && errors.Is(err, errSilent) {
		err = refusedCertificate(err)
	}
	return a, err
}

// appendRequest writes everything before the body.
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

// errSilent: a connection ended without a byte of an answer.
var errSilent = errors.New("no answer")

// exchange sends what is in b, and the body, and reads the answer. The connection is in the pool or closed
// afterwards.
func (p *wirePool) exchange(ctx context.Context, w *wire, b *wireBuffers, body []byte) (Answer, error) {
	t, stop := tie(ctx, w.tcp)
	b.br.Reset(w.conn)
	a, err := w.ask(b, body)
	var alone bool
	if t != nil {
		alone = t.release()
	} else {
		alone = stop()
	}
	if alone && err == nil && a.reuse {
		p.give(w)
		return a, nil
	}
	w.drop()
	if err != nil {
		return Answer{}, ended(ctx, err)
	}
	return a, nil
}

// ask is the exchange itself.
func (w *wire) ask(b *wireBuffers, body []byte) (Answer, error) {
	if len(body) > duplexBody {
		return w.askDuplex(b, body)
	}
	sent := w.send(b, body)
	// Even a server that stopped reading may have answered.
	a, err := b.answer()
	if err != nil && sent != nil && errors.Is(err, errSilent) {
		return a, fmt.Errorf("%w: %w", errSilent, sent)
	}
	a.reuse = a.reuse && sent == nil
	return a, err
}

// askDuplex reads while it still writes, so that an early answer to a large body is heard.
func (w *wire) askDuplex(b *wireBuffers, body []byte) (Answer, error) {
	sent := make(chan error, 1)
	go func() { sent <- w.send(b, body) }()
	a, err := b.answer()
	patience := time.NewTimer(duplexPatience)
	defer patience.Stop()
	select {
	case failed := <-sent:
		a.reuse = a.reuse && failed == nil
		return a, err
	case <-patience.C:
	}
	// The server has made up its mind without the rest.
	a.reuse = false
	_ = w.tcp.SetDeadline(past())
	<-sent
	return a, err
}

func (w *wire) send(b *wireBuffers, body []byte) error {
	if len(body) <= inlineBody {
		b.out = append(b.out, body...)
		_, err := w.conn.Write(b.out)
		b.out = b.out[:len(b.out)-len(body)] // for another try
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

// answer reads the answer. errSilent is wrapped when the connection ended before its first byte.
func (b *wireBuffers) answer() (Answer, error) {
	if _, err := b.br.Peek(1); err != nil {
		return Answer{}, fmt.Errorf("%w: %w", errSilent, err)
	}
	return readAnswer(b.br)
}

// ended is err, or why ctx ended the request.
func ended(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return fmt.Errorf("%w (%w)", context.Cause(ctx), err)
}
