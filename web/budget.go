package web

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"quorumhub/hub"
	"quorumhub/web/problem"
)

// budget is a number of bytes that all requests share, and of which one client may use a share. Taking never waits.
type budget struct {
	limit, share int64

	mu   sync.Mutex
	used int64
	by   map[netip.Addr]int64
}

// shares is the number of shares in a budget, so that one client that is slow to send leaves the rest to others.
const shares = 4

func newBudget(limit, largest int64) *budget {
	return &budget{limit: limit, share: max(limit/shares, 4*largest, blobUploadBytes), by: map[netip.Addr]int64{}}
}

// take reserves n bytes for a client. An error means that there is no room now.
func (b *budget) take(client netip.Addr, n int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used+n > b.limit {
		return hub.ErrOverloaded
	}
	held := b.by[client] + n
	if held > b.share {
		return &problem.Details{Status: http.StatusTooManyRequests, Code: "rate_limited", Limit: "bodies", RetryAfter: time.Second, HangUp: true,
			Detail: "too many request bodies from this client are in flight at this node; send fewer at a time"}
	}
	b.by[client] = held
	b.used += n
	return nil
}

func (b *budget) give(client netip.Addr, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	if b.by[client] -= n; b.by[client] == 0 {
		delete(b.by, client)
	}
}

// inUse returns the bytes taken.
func (b *budget) inUse() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

// content is a whole body in memory, counted against the budget until release.
type content struct {
	bytes  []byte
	held   int64
	client netip.Addr
	budget *budget
}

func (c *content) release() {
	if c.held > 0 {
		c.budget.give(c.client, c.held)
		c.held = 0
	}
}

// firstChunk is the initial buffer for a body of unknown length.
const firstChunk = 16 << 10

// readBody reads the request's body of at most limit bytes; tooLarge is the error for a longer one. Release the content, even
// after an error.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request, limit int64, tooLarge error) (content, error) {
	c := content{budget: s.budget, client: clientAt(w)}
	if err := checkEncoding(r); err != nil {
		return c, err
	}
	n := r.ContentLength
	switch {
	case n == 0:
		return c, nil
	case n > limit:
		return c, tooLarge
	}
	if err := c.read(r.Body, n, limit, tooLarge); err != nil {
		return c, err
	}
	// Otherwise the server's deadline for the body would cancel the request's context while the message is being written. This
	// fails without a connection, as in tests.
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	return c, nil
}

func (c *content) read(body io.Reader, n, limit int64, tooLarge error) error {
	size := n
	if n < 0 {
		size = min(firstChunk, limit+1)
	}
	if err := c.grow(size); err != nil {
		return err
	}
	for {
		got, err := body.Read(c.bytes[len(c.bytes):cap(c.bytes)])
		c.bytes = c.bytes[:len(c.bytes)+got]
		have := int64(len(c.bytes))
		switch {
		case have > limit:
			return tooLarge
		case err == nil && have == n:
			return nil
		case err == io.EOF: // not errors.Is: a wrapped EOF would be a failure
			if n > have {
				return badBody("ended after %d of %d bytes", have, n)
			}
			return nil
		case err != nil:
			return unreadable(err)
		case len(c.bytes) == cap(c.bytes):
			if err := c.grow(min(2*have, limit+1)); err != nil {
				return err
			}
		}
	}
}

func unreadable(err error) *problem.Details {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &problem.Details{Status: http.StatusRequestTimeout, Code: "body_timeout", Param: "body", Detail: "did not arrive in time; send it again"}
	}
	return badBody("cannot be read (%v)", err)
}

func checkEncoding(r *http.Request) error {
	for _, enc := range r.Header["Content-Encoding"] {
		if !strings.EqualFold(enc, "identity") {
			return &problem.Details{Status: http.StatusUnsupportedMediaType, Code: "unsupported_encoding", Param: "Content-Encoding", AcceptEncoding: "identity",
				Detail: "is " + problem.Quote(enc) + "; expected identity (no encoding)"}
		}
	}
	return nil
}

// grow makes room for size bytes in total and counts them.
func (c *content) grow(size int64) error {
	if err := c.budget.take(c.client, size-c.held); err != nil {
		return err
	}
	c.held = size
	buf := make([]byte, len(c.bytes), size)
	copy(buf, c.bytes)
	c.bytes = buf
	return nil
}

func badBody(format string, args ...any) *problem.Details {
	return &problem.Details{Status: http.StatusBadRequest, Code: "bad_body", Param: "body", Detail: fmt.Sprintf(format, args...)}
}
