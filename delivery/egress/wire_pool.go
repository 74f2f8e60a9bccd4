package egress

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// wireAddr is the destination of connections; those with the same wireAddr are interchangeable.
type wireAddr struct {
	secure bool
	addr   string      // host:port
	name   string      // the host without brackets, as the certificate must name it
	tls    *tls.Config // from the host's TLSRule and its current files; nil: no rule
}

// wire is one HTTP/1.1 connection. It serves one request at a time. Between requests it is in the pool and costs a
// file descriptor and this struct.
type wire struct {
	to   wireAddr
	conn net.Conn // the TCP connection, or TLS on top of it
	tcp  net.Conn

	used                 bool // it has carried a request
	certificateRequested bool // the server requested one
	idleSince            time.Time
	prev, next           *wire // in the pool's list by idleSince
}

// wirePool makes connections and keeps idle ones. No goroutine watches them: a connection closed in the meantime is
// noticed when it is taken out or used. Safe for concurrent use.
type wirePool struct {
	dial        func(ctx context.Context, network, address string) (net.Conn, error)
	tls         *tls.Config
	rules       *TLSRules
	sessions    map[*tls.Config]*tls.Config // complete configurations, by those of the rules; guarded by mu
	maxPerHost  int
	maxIdle     int
	idleTimeout time.Duration
	buffers     sync.Pool // *wireBuffers

	mu    sync.Mutex
	idle  map[wireAddr][]*wire // by destination; the most recently used is last
	old   *wire                // idle for longest
	young *wire
	count int
	sweep *time.Timer // set while there are idle connections
}

// wireBuffers holds the buffers of a request in flight.
type wireBuffers struct {
	br  *bufio.Reader
	out []byte
}

// maxKeptBuffer is the largest request buffer, in bytes, that is kept for reuse.
const maxKeptBuffer = 64 << 10

// ErrNeedsHTTP2 means that the server speaks only HTTP/2.
var ErrNeedsHTTP2 = errors.New("the server does not speak HTTP/1.1")

// newWirePool returns a pool with complete options.
func newWirePool(dial func(ctx context.Context, network, address string) (net.Conn, error), o ClientOptions) *wirePool {
	p := &wirePool{
		dial: dial, rules: o.TLS, maxPerHost: o.MaxIdlePerHost, maxIdle: o.MaxIdle, idleTimeout: o.IdleTimeout,
		tls: noteCertificateRequests(&tls.Config{
			MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
			ClientSessionCache: tls.NewLRUClientSessionCache(256),
		}),
		idle: map[wireAddr][]*wire{}, sessions: map[*tls.Config]*tls.Config{},
	}
	p.buffers.New = func() any {
		return &wireBuffers{br: bufio.NewReaderSize(nil, responseBuffer), out: make([]byte, 0, 4<<10)}
	}
	return p
}

func (p *wirePool) getBuffers() *wireBuffers { return p.buffers.Get().(*wireBuffers) }

func (p *wirePool) putBuffers(b *wireBuffers) {
	b.br.Reset(nil)
	if cap(b.out) > maxKeptBuffer {
		b.out = make([]byte, 0, 4<<10)
	}
	p.buffers.Put(b)
}

// connect makes a connection. The dialer checks the address; ctx bounds all of it.
func (p *wirePool) connect(ctx context.Context, to wireAddr) (*wire, error) {
	c, err := p.dial(ctx, "tcp", to.addr)
	if err != nil {
		return nil, err
	}
	w := &wire{to: to, conn: c, tcp: c}
	if !to.secure {
		return w, nil
	}
	cfg := p.config(to)
	asked := new(atomic.Bool)
	t := tls.Client(c, cfg)
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	if err := t.HandshakeContext(context.WithValue(ctx, certificateRequested{}, asked)); err != nil {
		_ = c.Close()
		if strings.Contains(err.Error(), noApplicationProtocol) {
			return nil, ErrNeedsHTTP2
		}
		return nil, fmt.Errorf("tls: %w", err)
	}
	w.conn, w.certificateRequested = t, asked.Load()
	return w, nil
}

// resolve adds the current TLS configuration to a destination. Since renewed files make it a different destination,
// no connection is used with a client certificate or authority other than its own.
func (p *wirePool) resolve(to wireAddr) wireAddr {
	if to.secure && !p.rules.none() {
		if _, port, err := net.SplitHostPort(to.addr); err == nil {
			to.tls = p.rules.configFor(to.name, port)
		}
	}
	return to
}

// maxSessions bounds the configurations kept: the rules' current ones and some earlier ones.
const maxSessions = 256

// config returns the TLS configuration for a destination. Sessions are resumed only with the same rule and files.
func (p *wirePool) config(to wireAddr) *tls.Config {
	c := p.tls
	if to.tls != nil {
		p.mu.Lock()
		if c = p.sessions[to.tls]; c == nil {
			c = noteCertificateRequests(to.tls.Clone())
			c.NextProtos, c.ClientSessionCache = p.tls.NextProtos, tls.NewLRUClientSessionCache(64)
			if len(p.sessions) >= maxSessions {
				clear(p.sessions)
			}
			p.sessions[to.tls] = c
		}
		p.mu.Unlock()
	}
	c = c.Clone()
	if c.ServerName == "" {
		c.ServerName = to.name
	}
	return c
}

// noApplicationProtocol is the error text when the server speaks none of the offered protocols (RFC 7301). crypto/tls
// does not export the alert.
const noApplicationProtocol = "remote error: tls: no application protocol"

// drop closes a connection in an unknown state, without another word.
func (w *wire) drop() { _ = w.tcp.Close() }

// hangUp closes an idle connection cleanly.
func (w *wire) hangUp() { _ = w.conn.Close() }

// staleAfter is how long a connection may be idle and still be used without a probe.
const staleAfter = time.Second

// get returns an idle connection, or nil if there is none.
func (p *wirePool) get(to wireAddr) *wire {
	for {
		w := p.pop(to)
		if w == nil || time.Since(w.idleSince) < staleAfter || w.quiet() {
			return w
		}
		w.hangUp()
	}
}

func (p *wirePool) pop(to wireAddr) *wire {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.idle[to]
	if len(list) == 0 {
		return nil
	}
	w := list[len(list)-1]
	list[len(list)-1] = nil
	p.idle[to] = list[:len(list)-1]
	if len(list) == 1 {
		delete(p.idle, to)
	}
	p.unlinkLocked(w)
	return w
}

// put returns a connection with nothing left to read to the pool.
func (p *wirePool) put(w *wire) {
	w.used, w.idleSince = true, time.Now()
	p.mu.Lock()
	list := p.idle[w.to]
	if len(list) >= p.maxPerHost {
		p.mu.Unlock()
		w.hangUp()
		return
	}
	var out *wire
	if p.count >= p.maxIdle {
		out = p.old
		p.removeLocked(out)
		list = p.idle[w.to]
	}
	p.idle[w.to] = append(list, w)
	if w.prev = p.young; w.prev != nil {
		w.prev.next = w
	} else {
		p.old = w
	}
	p.young = w
	p.count++
	if p.sweep == nil {
		p.sweep = time.AfterFunc(p.idleTimeout, p.expire)
	}
	p.mu.Unlock()
	if out != nil {
		out.hangUp()
	}
}

// removeLocked takes out the connection that has been idle for longest.
func (p *wirePool) removeLocked(w *wire) {
	list := p.idle[w.to] // w is the first: the others were used later
	copy(list, list[1:])
	list[len(list)-1] = nil
	if p.idle[w.to] = list[:len(list)-1]; len(list) == 1 {
		delete(p.idle, w.to)
	}
	p.unlinkLocked(w)
}

func (p *wirePool) unlinkLocked(w *wire) {
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		p.old = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		p.young = w.prev
	}
	w.prev, w.next = nil, nil
	p.count--
}

// expire closes connections that have been idle for too long.
func (p *wirePool) expire() {
	var out []*wire
	p.mu.Lock()
	now := time.Now()
	for p.old != nil && now.Sub(p.old.idleSince) >= p.idleTimeout {
		out = append(out, p.old)
		p.removeLocked(p.old)
	}
	switch {
	case p.sweep == nil: // closed meanwhile
	case p.old == nil:
		p.sweep = nil
	default:
		p.sweep.Reset(p.old.idleSince.Add(p.idleTimeout).Sub(now))
	}
	p.mu.Unlock()
	for _, w := range out {
		w.hangUp()
	}
}

// close closes the idle connections.
func (p *wirePool) close() {
	p.mu.Lock()
	if p.sweep != nil {
		p.sweep.Stop()
		p.sweep = nil
	}
	var out []*wire
	for p.old != nil {
		out = append(out, p.old)
		p.removeLocked(p.old)
	}
	p.mu.Unlock()
	for _, w := range out {
		w.hangUp()
	}
}
