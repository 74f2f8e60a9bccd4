package chaos

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"quorumhub/test/hubtest"
)

// Proxy sits in front of a node's cluster port and delays what passes through. It loses nothing and keeps the
// order.
type Proxy struct {
	Addr string

	to       string
	listener net.Listener
	low      atomic.Int64 // ns, each way
	high     atomic.Int64
	work     sync.WaitGroup

	mu     sync.Mutex
	conns  map[net.Conn]bool
	closed bool
}

// NewProxy starts a proxy to a loopback address. It ends with the test.
func NewProxy(tb testing.TB, to string) *Proxy {
	tb.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &Proxy{Addr: l.Addr().String(), to: to, listener: l, conns: map[net.Conn]bool{}}
	p.work.Go(p.accept)
	tb.Cleanup(func() {
		p.mu.Lock()
		p.closed = true
		for c := range p.conns {
			c.Close()
		}
		p.mu.Unlock()
		l.Close()
		p.work.Wait()
	})
	return p
}

// Delay delays everything from now on by a time between low and high, in each direction.
func (p *Proxy) Delay(low, high time.Duration) {
	p.low.Store(int64(low))
	p.high.Store(int64(high))
}

func (p *Proxy) accept() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				continue
			}
			return
		}
		p.work.Go(func() { p.serve(c) })
	}
}

func (p *Proxy) serve(in net.Conn) {
	defer in.Close()
	out, err := net.DialTimeout("tcp4", p.to, requestTimeout)
	if err != nil {
		return
	}
	defer out.Close()
	if !p.track(true, in, out) {
		return
	}
	defer p.track(false, in, out)
	var both sync.WaitGroup
	both.Go(func() { p.pass(out, in) })
	both.Go(func() { p.pass(in, out) })
	both.Wait()
}

func (p *Proxy) track(open bool, conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		if open {
			p.conns[c] = true
		} else {
			delete(p.conns, c)
		}
	}
	return !p.closed
}

// part is a piece of data in transit.
type part struct {
	bytes []byte
	due   time.Time
}

// inFlight limits the parts in transit, of up to 64 KiB each; beyond it the sender waits.
const inFlight = 256

func (p *Proxy) pass(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	parts := make(chan part, inFlight)
	var sent sync.WaitGroup
	sent.Go(func() {
		for x := range parts {
			hubtest.Pause(time.Until(x.due))
			if _, err := to.Write(x.bytes); err != nil {
				from.Close()
			}
		}
	})
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			late := time.Duration(p.low.Load())
			if more := p.high.Load() - p.low.Load(); more > 0 {
				late += time.Duration(rand.Int64N(more))
			}
			parts <- part{append([]byte(nil), buffer[:n]...), time.Now().Add(late)}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				to.Close()
			}
			break
		}
	}
	close(parts)
	sent.Wait()
}
