package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"sync"
	"time"
)

// exchange is one attempt: the request on its way, and then the body of its response, which Call returns it as. One timer
// bounds each wait for the upstream; it stands still while the client is what is waited for.
type exchange struct {
	pool    *Pool
	address *address
	role    role
	bad     bool            // the status is 502, 503 or 504
	ctx     context.Context // the caller's
	cancel  context.CancelCauseFunc
	trace   httptrace.ClientTrace

	source    io.Reader // the request's body
	replay    io.Closer // of one that Replayable made; nil: it streams
	expected  int64     // bytes of it still to come; negative: unknown
	interrupt func()
	timeout   time.Duration
	idle      time.Duration
	body      io.ReadCloser // of the response
	handed    bool          // to the caller of Call

	hints  sync.Mutex
	hinted bool // no more of them

	mu       sync.Mutex
	timer    *time.Timer
	until    time.Time // when the timer ends the exchange; zero: it stands still
	cause    error     // why it does then
	fired    error     // why it did
	deadline time.Time // for the header of the response
	answered bool      // the header is there
	waiting  bool      // a Read of the response's body is under way
	reading  bool      // a Read of the request's body is under way
	sent     bool      // the request's body has ended
	detached bool      // the request's body may not be read any more
	quiet    chan struct{}
	broken   error // what reading the request's body failed with
	closing  bool  // by whoever reads the response's body
	over     bool
}

// attempt sends the request to one address. If it gets a response, the exchange goes on until the body ends or is closed.
func (p *Pool) attempt(ctx context.Context, r *Request, a *address, role role, deadline time.Time) (*exchange, *http.Response, error) {
	now := time.Now()
	e := &exchange{pool: p, address: a, role: role, ctx: ctx, interrupt: r.Interrupt,
		deadline: deadline, until: deadline, cause: errNoAnswer, timeout: deadline.Sub(now), idle: p.idle}
	req := http.Request{
		Method: r.Method, Header: r.Header, Body: http.NoBody, Close: p.closed.Load(),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		URL: &url.URL{Scheme: a.scheme, Host: a.host, Opaque: a.base + r.Target}, // Opaque goes out byte for byte
	}
	if r.hasBody() {
		e.source, e.expected = r.Body, r.ContentLength
		if r.Replayable != nil {
			again := r.Replayable()
			e.source, e.replay = again, again
		}
		req.Body, req.ContentLength = (*requestBody)(e), r.ContentLength
	}
	e.trace.GetConn, e.trace.GotConn = e.connecting, e.connected
	if r.Informational != nil {
		e.trace.Got1xxResponse = func(code int, h textproto.MIMEHeader) error {
			e.hints.Lock() // the transport calls this in a goroutine that goes on when the attempt is given up
			defer e.hints.Unlock()
			if code != http.StatusContinue && !e.hinted {
				CleanResponse(http.Header(h))
				r.Informational(code, http.Header(h))
			}
			return nil
		}
	}
	ctx, e.cancel = context.WithCancelCause(ctx)
	a.inFlight.Add(1)
	e.timer = time.AfterFunc(e.timeout, e.expire)
	resp, err := p.transport.RoundTrip(req.WithContext(httptrace.WithClientTrace(ctx, &e.trace)))
	e.hints.Lock()
	e.hinted = true
	e.hints.Unlock()
	if err == nil && resp.StatusCode < 200 {
		_ = resp.Body.Close()
		err = errSwitched
	}
	if err != nil {
		return e, nil, e.refused(err)
	}
	e.received(resp)
	if r.Early != nil && e.sending() {
		r.Early()
	}
	return e, resp, nil
}

// received books the header of a response.
func (e *exchange) received(resp *http.Response) {
	e.mu.Lock()
	e.answered = true
	e.stopLocked()
	e.mu.Unlock()
	switch resp.StatusCode {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		e.bad = true
		e.pool.bookAt(e.address, bad, e.role)
		e.address.counts.bad.Add(1)
	default:
		e.address.counts.good.Add(1)
		if e.role != ordinary {
			e.pool.bookAt(e.address, good, e.role)
		}
	}
	e.body = resp.Body
	CleanResponse(resp.Header)
}

// refused ends an attempt without a response and returns the error of the call.
func (e *exchange) refused(err error) error {
	err = e.explain(err)
	e.close()
	e.pool.bookAt(e.address, verdictOf(err), e.role)
	e.address.counts.addError(err)
	return err
}

// explain makes an error of the transport one that Call may return.
func (e *exchange) explain(err error) error {
	e.mu.Lock()
	fired, broken := e.fired, e.broken
	e.mu.Unlock()
	switch {
	case broken != nil:
		return broken
	case fired != nil:
		return &Error{Class: ClassTimeout, Cause: fmt.Errorf("%s: %w", e.address.shown, fired)}
	case errors.Is(e.ctx.Err(), context.DeadlineExceeded):
		return &Error{Class: ClassTimeout, Cause: fmt.Errorf("%s: %w", e.address.shown, errCallersDeadline)}
	case e.ctx.Err() != nil:
		return context.Cause(e.ctx)
	}
	return &Error{Class: classOf(err), Cause: fmt.Errorf("%s: %w", e.address.shown, err)}
}

// handOver makes the exchange the body of the response that Call returns.
func (e *exchange) handOver(resp *http.Response) *http.Response {
	if e.bad {
		e.pool.counts.bad.Add(1)
	} else {
		e.pool.counts.good.Add(1)
	}
	e.handed = true
	if resp.Body == http.NoBody {
		e.end(good)
	} else {
		resp.Body = e
	}
	return resp
}

// maxDrain and drainTime bound what is read of a response that nobody gets, so that its connection can be used again.
const (
	maxDrain  = 4 << 10
	drainTime = 100 * time.Millisecond
)

// discard ends an exchange whose response is replaced by that of another attempt.
func (e *exchange) discard() {
	if e.body != http.NoBody {
		e.idle = drainTime
		_, _ = io.CopyN(io.Discard, e, maxDrain) // Close drops the connection if there is more
	}
	_ = e.Close()
}

// end ends the exchange, once. v is what the body of the response says about the upstream, beyond its header.
func (e *exchange) end(v verdict) {
	if !e.close() {
		return
	}
	if e.handed {
		e.pool.inFlight.Add(-1)
	}
	if e.bad {
		return // booked with the header
	}
	e.pool.bookAt(e.address, v, ordinary)
	if e.handed {
		e.pool.book(v, false)
	}
}

// close stops the timer, lets go of the request's body and frees what net/http holds. It reports false if that was done.
func (e *exchange) close() bool {
	e.mu.Lock()
	if e.over {
		e.mu.Unlock()
		return false
	}
	e.over = true
	e.stopLocked()
	e.mu.Unlock()
	e.detach()
	e.cancel(errOver)
	if e.address.inFlight.Add(-1) == 0 && e.pool.closed.Load() {
		e.pool.Close()
	}
	return true
}

// Read reads the body of the response.
func (e *exchange) Read(p []byte) (int, error) {
	e.mu.Lock()
	e.waiting = true
	if !e.reading {
		e.startLocked(time.Now().Add(e.idle), errIdle)
	}
	e.mu.Unlock()
	n, err := e.body.Read(p)
	e.mu.Lock()
	e.waiting = false
	e.stopLocked()
	closed := e.closing || e.over
	e.mu.Unlock()
	switch {
	case err == nil || closed:
	case err == io.EOF: //nolint:errorlint // an error that wraps it is not the end
		e.end(good)
	default:
		err = e.explain(err)
		if e.handed {
			e.pool.counts.addError(err)
		}
		e.address.counts.addError(err)
		e.end(verdictOf(err))
	}
	return n, err
}

// Close ends the exchange. The upstream is told to stop if its response has not ended.
func (e *exchange) Close() error {
	e.mu.Lock()
	e.closing = true
	e.mu.Unlock()
	err := e.body.Close()
	e.end(neutral)
	return err
}

// sending reports whether the request's body is still being sent.
func (e *exchange) sending() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.source != nil && !e.sent && !e.detached
}

// connecting and connected are called by the transport while it looks for a connection.
func (e *exchange) connecting(string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if until := time.Now().Add(e.pool.connect); until.Before(e.deadline) && !e.over {
		e.startLocked(until, errNoConnection)
	}
}

func (e *exchange) connected(httptrace.GotConnInfo) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.answered && !e.over && !e.reading {
		e.startLocked(e.deadline, errNoAnswer)
	}
}

// startLocked lets the timer end the exchange at a time, with a cause.
func (e *exchange) startLocked(until time.Time, cause error) {
	e.until, e.cause = until, cause
	e.timer.Reset(time.Until(until))
}

// stopLocked lets the timer stand still.
func (e *exchange) stopLocked() {
	if !e.until.IsZero() {
		e.until = time.Time{}
		e.timer.Stop()
	}
}

// expire is the timer's. It may come late: what counts is until.
func (e *exchange) expire() {
	e.mu.Lock()
	if e.over || e.until.IsZero() || time.Now().Before(e.until) {
		e.mu.Unlock()
		return
	}
	e.fired = e.cause
	e.mu.Unlock()
	e.cancel(e.fired)
}
