package web

import (
	"net"
	"sync"
)

// limited bounds the connections that are open at a time; further ones wait in the kernel's queue.
type limited struct {
	net.Listener
	slots chan struct{}
	done  chan struct{}
	once  sync.Once
}

func limitConnections(ln net.Listener, n int) *limited {
	return &limited{Listener: ln, slots: make(chan struct{}, n), done: make(chan struct{})}
}

// Accept waits for a free slot, then for a connection.
func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.done:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &slotConn{Conn: c, listener: l}, nil
}

// Close stops accepting; connections stay open.
func (l *limited) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

type slotConn struct {
	net.Conn
	listener *limited
	once     sync.Once
}

// Close gives the slot back.
func (c *slotConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { <-c.listener.slots })
	return err
}

// CloseWrite lets net/http end an answer to a request that it has not read to its end, so that the client gets
// that answer and not a reset.
func (c *slotConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// SetWriteBuffer bounds what the kernel keeps of what was written and not yet received.
func (c *slotConn) SetWriteBuffer(bytes int) error {
	if tcp, ok := c.Conn.(interface{ SetWriteBuffer(int) error }); ok {
		return tcp.SetWriteBuffer(bytes)
	}
	return nil
}
