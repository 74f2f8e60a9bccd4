package sse

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// ContentType is the media type of an event stream.
const ContentType = "text/event-stream"

// pieceBytes is how much is written under one deadline.
const pieceBytes = 32 << 10

// Writer sends events to one reader. Only Finish may be called concurrently with its other methods.
type Writer struct {
	w       http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration

	mu   sync.Mutex
	last time.Time // nothing may be written after it; zero: no such limit
	over bool      // Close was called
}

// NewWriter starts an event stream: it sets the headers every stream needs, sends the status and
// lifts the read deadline, which would end the stream. The reader has timeout to
// take each 32 KiB; after that writing fails with os.ErrDeadlineExceeded. Close it before the handler returns.
func NewWriter(w http.ResponseWriter, timeout time.Duration) *Writer {
	h := w.Header()
	h.Set("Content-Type", ContentType)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{}) // fails without a connection, as in tests
	return &Writer{w: w, control: control, timeout: timeout}
}

// hurry gives the reader its time for what is written next.
func (sw *Writer) hurry() {
	sw.mu.Lock()
	defer sw.mu.Unlock()
	by := time.Now().Add(sw.timeout)
	if !sw.last.IsZero() && sw.last.Before(by) {
		by = sw.last
	}
	_ = sw.control.SetWriteDeadline(by) // fails without a connection, as in tests
}

// Finish gives the reader d for everything that is still to come, what is being written included. Later calls change nothing. Safe
// for concurrent use.
func (sw *Writer) Finish(d time.Duration) {
	sw.mu.Lock()
	defer sw.mu.Unlock()
	if sw.over || !sw.last.IsZero() {
		return
	}
	sw.last = time.Now().Add(d)
	_ = sw.control.SetWriteDeadline(sw.last)
}

// Close ends the use of the response: a later Finish does not touch it.
func (sw *Writer) Close() {
	sw.mu.Lock()
	defer sw.mu.Unlock()
	sw.over = true
}

// Write sends encoded events. The deadline is renewed for each piece, so that a slow line gets a large event in the end.
func (sw *Writer) Write(b []byte) (n int, err error) {
	for len(b) > n {
		piece := b[n:min(len(b), n+pieceBytes)]
		sw.hurry()
		written, err := sw.w.Write(piece)
		n += written
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// Event encodes and sends one event and flushes it.
func (sw *Writer) Event(kind, id string, data any) error {
	b, err := Encode(kind, id, data)
	if err != nil {
		return err
	}
	if _, err := sw.Write(b); err != nil {
		return err
	}
	return sw.Flush()
}

// Heartbeat sends an empty comment, which keeps proxies from closing an idle connection. Flush sends it on.
func (sw *Writer) Heartbeat() error {
	_, err := sw.Write([]byte(":\n\n"))
	return err
}

// Flush sends what is buffered.
func (sw *Writer) Flush() error {
	sw.hurry()
	err := sw.control.Flush()
	if errors.Is(err, http.ErrNotSupported) {
		return nil
	}
	return err
}

// Encode returns one event with data as one line of JSON. An empty kind is a "message" event; an empty id leaves the reader's
// last event ID as it was.
func Encode(kind, id string, data any) ([]byte, error) {
	var b bytes.Buffer
	if kind != "" {
		b.WriteString("event: " + kind + "\n")
	}
	if id != "" {
		b.WriteString("id: " + id + "\n")
	}
	b.WriteString("data: ")
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(data); err != nil { // ends with a line break
		return nil, fmt.Errorf("encode an event: %w", err)
	}
	b.WriteByte('\n')
	return b.Bytes(), nil
}
