package web

import (
	"bytes"
	"net/http"
	"sync/atomic"
)

// headBytes is how much of a request's header a connection remembers.
const headBytes = 1 << 10

// head is the beginning of the last request on a connection, as it arrived. net/http does not show a Content-Length beside a
// Transfer-Encoding, nor a Transfer-Encoding in HTTP/1.0, to handlers.
type head struct {
	expected atomic.Bool // the next bytes begin a request
	bytes    [headBytes]byte
	n        int
	early    atomic.Uint32 // the last byte read on its own: net/http looks for the next request while it answers this one
}

// saw takes what was read from the connection. net/http reads from one goroutine at a time.
func (h *head) saw(b []byte) {
	switch {
	case len(b) > 0 && h.expected.CompareAndSwap(true, false):
		h.n = copy(h.bytes[:], b)
	case len(b) == 1:
		h.early.Store(uint32(b[0]))
	}
}

// lines returns the header of the request that is being served, or nil if it is longer than that or was sent before the answer to the
// previous request.
func (h *head) lines() []byte {
	end := bytes.Index(h.bytes[:h.n], []byte("\r\n\r\n"))
	if h.expected.Load() || end < 0 {
		return nil
	}
	return h.bytes[:end]
}

// framedTwice reports whether an HTTP/1 request says in two ways where its body ends, or may do so. Another server on the way may
// have read it in the other way, so nothing that follows it on the connection can be trusted (RFC 9112 section 6.1).
func framedTwice(r *http.Request, conn *slotConn) bool {
	if r.ProtoMajor != 1 || r.ProtoAtLeast(1, 1) && len(r.TransferEncoding) == 0 {
		return false
	}
	if r.TLS != nil { // the connection saw only what was encrypted
		return true
	}
	// net/http has removed the second indication from the header, so a line is missing there.
	first, fields, _ := bytes.Cut(conn.head.lines(), []byte("\r\n"))
	want := len(r.TransferEncoding)
	if r.Host != "" {
		want++
	}
	for _, values := range r.Header {
		want += len(values)
	}
	start := []byte(r.Method + " " + r.RequestURI + " HTTP/1.")
	whole := bytes.HasPrefix(first, start) || conn.head.early.Load() == uint32(start[0]) && bytes.HasPrefix(first, start[1:])
	return !whole || bytes.Count(fields, []byte("\r\n"))+1 != want
}
