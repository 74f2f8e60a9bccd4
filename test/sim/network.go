package sim

import (
	"context"
	"net"
	"sync"
	"syscall"
	"time"
)

const (
	usualDelay  = 100 * time.Microsecond
	usualJitter = 900 * time.Microsecond
	// synRetry is how often a lost connection request is sent again.
	synRetry = 250 * time.Millisecond
)

// Network is what lies between the nodes. It delivers the bytes of a connection in order; what is sent into a cut
// arrives when the cut is mended, as TCP would repeat it. Safe for concurrent use.
type Network struct {
	mu        sync.Mutex
	seed      uint64
	links     map[direction]*link
	listeners map[string]*listener
	nodes     map[string]int // by address, whether the node listens or not
	dark      map[int]bool   // machines without power: nothing answers for them
	conns     map[*conn]struct{}
}

// direction is from one node to another.
type direction struct{ from, to int }

type link struct {
	cut           bool
	delay, jitter time.Duration
}

// NewNetwork connects so many nodes.
func NewNetwork(seed uint64, nodes int) *Network {
	n := &Network{seed: seed, links: map[direction]*link{}, listeners: map[string]*listener{}, nodes: map[string]int{},
		dark: map[int]bool{}, conns: map[*conn]struct{}{}}
	for from := range nodes {
		for to := range nodes {
			n.links[direction{from, to}] = &link{delay: usualDelay, jitter: usualJitter}
		}
	}
	return n
}

// Cut stops everything that one node sends to another, until Mend.
func (n *Network) Cut(from, to int) { n.change(from, to, func(l *link) { l.cut = true }) }

// Slow makes everything from one node to another take delay to twice as long, until Mend.
func (n *Network) Slow(from, to int, delay time.Duration) {
	n.change(from, to, func(l *link) { l.delay, l.jitter = delay, delay })
}

// Mend puts all links right.
func (n *Network) Mend() {
	for d := range n.links { // the map itself never changes
		n.change(d.from, d.to, func(l *link) { *l = link{delay: usualDelay, jitter: usualJitter} })
	}
}

func (n *Network) change(from, to int, f func(*link)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f(n.links[direction{from, to}])
	for c := range n.conns {
		c.in.signal()
	}
}

// latencyLocked is that of one segment. It follows from the seed, the moment and what is sent, not from a sequence of
// random numbers, so that the order of goroutines at one moment does not change everything that comes later.
func (n *Network) latencyLocked(from, to, what int) time.Duration {
	l := n.links[direction{from, to}]
	return l.delay + time.Duration(draw(n.seed, uint64(time.Now().UnixNano()), uint64(from), uint64(to), uint64(what))%uint64(l.jitter+1))
}

// draw is a random number that follows from the words (splitmix64).
func draw(words ...uint64) uint64 {
	x := uint64(0x9e3779b97f4a7c15)
	for _, w := range words {
		x += w + 0x9e3779b97f4a7c15
		x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
		x = (x ^ x>>27) * 0x94d049bb133111eb
		x ^= x >> 31
	}
	return x
}

// Drop ends all that a node has open: its process is gone. The others are told, as the kernel of its machine would;
// when the machine has lost its power they are not, until Restore.
func (n *Network) Drop(node int, power bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for address, l := range n.listeners {
		if l.node == node {
			l.end()
			delete(n.listeners, address)
		}
	}
	n.dark[node] = power
	for c := range n.conns {
		if c.node != node {
			continue
		}
		c.closed, c.unplugged = true, power
		delete(n.conns, c)
		c.in.signal()
		if !power {
			c.peer.in.finish(time.Now().Add(n.latencyLocked(node, c.peer.node, 0)))
		}
	}
}

// Restore gives a machine its power back: whoever still talks to what was there is told that it is gone.
func (n *Network) Restore(node int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.dark, node)
	for c := range n.conns {
		if c.peer.node == node && c.peer.unplugged {
			c.in.reset = true
			c.in.signal()
		}
	}
}

// Listen opens a node's port.
func (n *Network) Listen(node int, address *net.TCPAddr) net.Listener {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := &listener{net: n, node: node, address: address, backlog: make(chan net.Conn, 64), over: make(chan struct{})}
	n.listeners[address.String()], n.nodes[address.String()] = l, node
	return l
}

// Dial connects a node with an address. alive tells whether the dialling process is still there.
func (n *Network) Dial(ctx context.Context, from int, address string, alive func() bool) (net.Conn, error) {
	for {
		n.mu.Lock()
		to := n.nodes[address]
		lost := n.links[direction{from, to}].cut || n.links[direction{to, from}].cut || n.dark[to]
		wait := synRetry
		if !lost {
			wait = n.latencyLocked(from, to, 1) + n.latencyLocked(to, from, 2)
		}
		n.mu.Unlock()
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: ctx.Err()}
		}
		if !alive() {
			return nil, net.ErrClosed
		}
		if !lost {
			return n.connect(from, address)
		}
	}
}

func (n *Network) connect(from int, address string) (net.Conn, error) {
	n.mu.Lock()
	l := n.listeners[address]
	if l == nil {
		n.mu.Unlock()
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}
	near := &conn{net: n, node: from, in: newStream(), local: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40000}, remote: l.address}
	far := &conn{net: n, node: l.node, in: newStream(), local: l.address, remote: near.local, peer: near}
	near.peer = far
	n.conns[near], n.conns[far] = struct{}{}, struct{}{}
	n.mu.Unlock()
	select {
	case l.backlog <- far:
		return near, nil
	case <-l.over:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNRESET}
	}
}

// listener implements net.Listener.
type listener struct {
	net     *Network
	node    int
	address *net.TCPAddr
	backlog chan net.Conn
	over    chan struct{}
	once    sync.Once
}

func (l *listener) end() { l.once.Do(func() { close(l.over) }) }

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.backlog:
		return c, nil
	case <-l.over:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	if l.net.listeners[l.address.String()] == l {
		delete(l.net.listeners, l.address.String())
	}
	l.end()
	return nil
}

func (l *listener) Addr() net.Addr { return l.address }
