package sim

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// conn is one end of a connection. It implements net.Conn.
type conn struct {
	net           *Network
	node          int
	peer          *conn
	in            *stream
	local, remote *net.TCPAddr
	closed        bool
	unplugged     bool // its machine lost its power
	writeBy       time.Time
}

// stream is what is on its way to one end. Writing to it never blocks. The network's mutex guards it.
type stream struct {
	queue  []segment
	newest time.Time // arrival of the last segment
	ends   bool
	endsAt time.Time
	reset  bool
	readBy time.Time
	wake   chan struct{}
}

type segment struct {
	at   time.Time
	data []byte
}

func newStream() *stream { return &stream{wake: make(chan struct{}, 1)} }

func (s *stream) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// finish ends the stream behind what is on its way.
func (s *stream) finish(at time.Time) {
	if s.ends {
		return
	}
	if at.Before(s.newest) {
		at = s.newest
	}
	s.ends, s.endsAt = true, at
	s.signal()
}

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	for {
		n, next, err := c.poll(b)
		if n > 0 || err != nil {
			return n, err
		}
		if next.IsZero() {
			<-c.in.wake
			continue
		}
		t := time.NewTimer(time.Until(next))
		select {
		case <-c.in.wake:
		case <-t.C:
		}
		t.Stop()
	}
}

// poll reads what has arrived. When there is nothing, next is when to look again at the latest; zero: when woken.
func (c *conn) poll(b []byte) (n int, next time.Time, err error) {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	now, s := time.Now(), c.in
	cut := c.net.links[direction{c.peer.node, c.node}].cut
	switch {
	case c.closed:
		return 0, next, net.ErrClosed
	case !s.readBy.IsZero() && !now.Before(s.readBy):
		return 0, next, os.ErrDeadlineExceeded
	case s.reset:
		return 0, next, syscall.ECONNRESET
	case cut: // mending it wakes
	case len(s.queue) > 0:
		if next = s.queue[0].at; !next.After(now) {
			n = copy(b, s.queue[0].data)
			if s.queue[0].data = s.queue[0].data[n:]; len(s.queue[0].data) == 0 {
				s.queue = s.queue[1:]
			}
			return n, next, nil
		}
	case s.ends:
		if next = s.endsAt; !next.After(now) {
			return 0, next, io.EOF
		}
	}
	if !s.readBy.IsZero() && (next.IsZero() || s.readBy.Before(next)) {
		next = s.readBy
	}
	return 0, next, nil
}

// Write implements net.Conn. It never blocks.
func (c *conn) Write(b []byte) (int, error) {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	now := time.Now()
	switch {
	case c.closed:
		return 0, net.ErrClosed
	case !c.writeBy.IsZero() && !now.Before(c.writeBy):
		return 0, os.ErrDeadlineExceeded
	case c.peer.unplugged:
		return len(b), nil
	case c.in.reset || c.peer.closed:
		return 0, syscall.EPIPE
	}
	s := c.peer.in
	at := now.Add(c.net.latencyLocked(c.node, c.peer.node, 10+len(b)))
	if at.Before(s.newest) {
		at = s.newest
	}
	s.newest = at
	s.queue = append(s.queue, segment{at, bytes.Clone(b)})
	s.signal()
	return len(b), nil
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	delete(c.net.conns, c)
	c.in.queue = nil
	c.in.signal()
	c.peer.in.finish(time.Now().Add(c.net.latencyLocked(c.node, c.peer.node, 3)))
	return nil
}

// LocalAddr implements net.Conn.
func (c *conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements net.Conn.
func (c *conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	c.in.readBy = t
	c.in.signal()
	return nil
}

// SetWriteDeadline implements net.Conn. Writing never blocks, so it only matters to writes that come later.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.net.mu.Lock()
	defer c.net.mu.Unlock()
	c.writeBy = t
	return nil
}
