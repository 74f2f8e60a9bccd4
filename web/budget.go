package web

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"quorumhub/hub"
	"quorumhub/web/problem"
)

// budget is a number of bytes that all requests share, and of which one caller may use a share. Taking never waits.
type budget struct {
	limit, share int64
	bodies       int // that one caller may be slow to send at a time; 0: no limit

	mu    sync.Mutex
	used  int64
	by    map[callerID]int64
	under map[callerID]int // bodies under way
}

// shares is the number of shares in what callers share, so that one that is slow to send leaves nearly all of it to others.
const shares = 8

func newBudget(limit, largest int64, bodies int) *budget {
	return &budget{limit: limit, share: max(limit/shares, largest, blobUploadBytes), bodies: bodies,
		by: map[callerID]int64{}, under: map[callerID]int{}}
}

// take reserves n bytes for a caller. An error means that there is no room now.
func (b *budget) take(caller callerID, n int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used+n > b.limit {
		return hub.ErrOverloaded
	}
	held := b.by[caller] + n
	if held > b.share {
		return tooManyBodies("the bodies of this caller that are in flight at this node exceed its share of %d bytes (%d are in use); send fewer at a time",
			b.share, b.by[caller])
	}
	b.by[caller] = held
	b.used += n
	return nil
}

func (b *budget) give(caller callerID, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= n
	if b.by[caller] -= n; b.by[caller] == 0 {
		delete(b.by, caller)
	}
}

// enter counts a body that did not come with its request, until leave.
func (b *budget) enter(caller callerID) error {
	if b.bodies <= 0 {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.under[caller] >= b.bodies {
		return tooManyBodies("this node is receiving %d request bodies from this caller already (at most %d); send fewer at a time", b.under[caller], b.bodies)
	}
	b.under[caller]++
	return nil
}

func (b *budget) leave(caller callerID) {
	if b.bodies <= 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.under[caller]--; b.under[caller] == 0 {
		delete(b.under, caller)
	}
}

func tooManyBodies(format string, args ...any) error {
	return &problem.Details{Status: http.StatusTooManyRequests, Code: "rate_limited", Limit: "bodies", RetryAfter: time.Second, HangUp: true,
		Detail: fmt.Sprintf(format, args...)}
}

// inUse returns the bytes taken.
func (b *budget) inUse() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.used
}

// content is a body in memory, counted against the budget until release.
type content struct {
	bytes   []byte
	held    int64
	waiting bool // it counts as under way
	caller  callerID
	budget  *budget
}

func (c *content) release() {
	if c.held > 0 {
		c.budget.give(c.caller, c.held)
		c.held = 0
	}
	c.arrived()
}

// arrived says that nothing more is read.
func (c *content) arrived() {
	if c.waiting {
		c.budget.leave(c.caller)
		c.waiting = false
	}
}

// firstChunk is the initial buffer for a larger body, and chunkGrowth how many times what has arrived is reserved from then on.
const (
	firstChunk  = 16 << 10
	chunkGrowth = 4
)

// readBody reads the request's body of at most limit bytes; tooLarge is the error for a longer one. Release the content, even
// after an error.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request, limit int64, tooLarge error) (content, error) {
	c := content{budget: s.budget, caller: callerAt(w)}
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
	bodyRead(w)
	// Otherwise the server's deadline for the body would cancel the request's context while the message is being written. This
	// fails without a connection, as in tests.
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	return c, nil
}

// read reads a body of n bytes, or of unknown length if n is negative.
func (c *content) read(body io.Reader, n, limit int64, tooLarge error) error {
	most := n
	if n < 0 {
		most = limit + 1
	}
	defer c.arrived()
	ended, err := c.fill(body, most)
	have := int64(len(c.bytes))
	switch {
	case err != nil:
		return err
	case have > limit:
		return tooLarge
	case ended && have < n:
		return badBody("ended after %d of %d bytes", have, n)
	}
	return nil
}

// fill reads until c holds most bytes or the body ends, and reports whether it ended.
func (c *content) fill(body io.Reader, most int64) (ended bool, err error) {
	for {
		have := int64(len(c.bytes))
		if have == most {
			return false, nil
		}
		if have == int64(cap(c.bytes)) {
			if err := c.grow(min(max(firstChunk, chunkGrowth*have), most)); err != nil {
				return false, err
			}
		}
		got, err := body.Read(c.bytes[have:cap(c.bytes)])
		c.bytes = c.bytes[:have+int64(got)]
		switch {
		case err == io.EOF: // not errors.Is: a wrapped EOF would be a failure
			return true, nil
		case err != nil:
			return false, unreadable(err)
		case !c.waiting && have+int64(got) < most:
			if err := c.budget.enter(c.caller); err != nil {
				return false, err
			}
			c.waiting = true
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
	if err := c.budget.take(c.caller, size-c.held); err != nil {
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
