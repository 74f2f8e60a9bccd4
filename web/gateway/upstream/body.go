package upstream

import (
	"errors"
	"io"
	"time"
)

// requestBody is the body of a request as the transport reads it, in a goroutine of its own that may outlive the response.
type requestBody exchange

// Read reads from the client. What it fails with is the client's doing and ends the call with that error.
func (b *requestBody) Read(p []byte) (int, error) {
	e := (*exchange)(b)
	e.mu.Lock()
	if e.detached {
		e.mu.Unlock()
		return 0, errOver
	}
	e.reading = true
	if e.replay == nil {
		e.stopLocked()
	}
	e.mu.Unlock()
	n, err := e.source.Read(p)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.reading = false
	if e.quiet != nil {
		close(e.quiet)
		e.quiet = nil
	}
	err = e.countLocked(n, err)
	if e.detached {
		return 0, errOver
	}
	switch {
	case e.replay != nil || e.over:
	case !e.answered:
		e.deadline = time.Now().Add(e.timeout)
		e.startLocked(e.deadline, errNoAnswer)
	case e.waiting:
		e.startLocked(time.Now().Add(e.idle), errIdle)
	}
	return n, err
}

// countLocked compares the body with its announced length.
func (e *exchange) countLocked(n int, err error) error {
	announced := e.expected >= 0
	e.expected -= int64(n)
	switch {
	case announced && e.expected < 0:
		err = errTooLong
	case errors.Is(err, io.EOF) && announced && e.expected > 0:
		err = io.ErrUnexpectedEOF
	}
	if err == io.EOF || err == nil && announced && e.expected == 0 { //nolint:errorlint // readers return io.EOF itself at the end
		e.sent = true
	} else if err != nil && !e.detached && e.broken == nil {
		e.broken = err
	}
	return err
}

// Close is called by the transport when it needs no more of the body.
func (b *requestBody) Close() error {
	if b.replay != nil {
		return b.replay.Close()
	}
	return nil // the caller's
}

// detach ends reading from the client: a Read under way is interrupted, and none follows.
func (e *exchange) detach() {
	e.mu.Lock()
	e.detached = true
	if !e.reading || e.interrupt == nil || e.replay != nil {
		e.mu.Unlock()
		return
	}
	quiet := make(chan struct{})
	e.quiet = quiet
	e.mu.Unlock()
	e.interrupt()
	<-quiet
}
