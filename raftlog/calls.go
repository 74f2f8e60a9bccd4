package raftlog

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Calls between nodes. A request is a frame: 4 bytes length of the rest, 8 bytes number, 1 byte method, body. A response is a
// frame with the same number and 1 byte status in place of the method. Responses arrive in any order.
const (
	frameHead = 9
	// maxFrame bounds a frame: the largest message a hub can be configured for, plus overhead.
	maxFrame = 72 << 20

	methodState     byte = 1  // see stateRequest
	methodStatus    byte = 2  // see statusResponse
	methodForward   byte = 3  // see encodeForward
	methodJoin      byte = 4  // see joinRequest
	methodChange    byte = 5  // see Change
	methodReadIndex byte = 20 // see handleReadIndex
	methodTerm      byte = 21 // see handleTerm
	methodContact   byte = 22 // see handleReport
	methodNodeCall  byte = 32 // see Node.Call

	statusOK        byte = 0
	statusNotLeader byte = 1 // nothing was done
	statusRefused   byte = 2 // nothing was done; the body gives the reason
	statusUnknown   byte = 3 // it may have been done
	statusRemoved   byte = 4 // the caller was removed from the cluster; the body says so for people
	statusStranger  byte = 5 // nothing was done: the call is for members; the body says so for people
)

// maxCalls is how many calls of one connection are served concurrently.
const maxCalls = 64

// maxOpenFrame bounds a request of a node that is not a member.
const maxOpenFrame = 64 << 10

// writeTimeout bounds writing one frame.
const writeTimeout = 10 * time.Second

// errNotSent reports that a call did not reach the other node.
var errNotSent = errors.New("not sent")

type frame struct {
	number uint64
	kind   byte // method or status
	body   []byte
}

func writeFrame(ctx context.Context, conn net.Conn, f frame) error {
	if len(f.body) > maxFrame-frameHead {
		return fmt.Errorf("frame of %d bytes, expected at most %d", len(f.body), maxFrame-frameHead)
	}
	out := make([]byte, 0, 4+frameHead+len(f.body))
	out = binary.BigEndian.AppendUint32(out, uint32(frameHead+len(f.body)))
	out = binary.BigEndian.AppendUint64(out, f.number)
	out = append(out, f.kind)
	out = append(out, f.body...)
	end := time.Now().Add(writeTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(end) {
		end = d
	}
	if err := conn.SetWriteDeadline(end); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.SetWriteDeadline(time.Unix(1, 0)) })()
	_, err := conn.Write(out)
	return err
}

// readFrame reads a frame of at most limit bytes, which it asks for once it knows that there is a frame.
func readFrame(r io.Reader, limit func() uint32) (f frame, err error) {
	var head [4 + frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return f, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if at := limit(); size < frameHead || size > at {
		return f, fmt.Errorf("frame of %d bytes, expected %d to %d", size, frameHead, at)
	}
	f.number, f.kind = binary.BigEndian.Uint64(head[4:]), head[4+8]
	f.body = make([]byte, size-frameHead)
	_, err = io.ReadFull(r, f.body)
	return f, err
}

// serveCalls serves the calls of one connection until it ends. Calls run concurrently; serveCalls does not wait for a call
// that never returns.
func serveCalls(conn net.Conn, limit func() uint32, answer func(method byte, body []byte) (status byte, out []byte)) {
	var writing sync.Mutex
	places := make(chan struct{}, maxCalls)
	r := bufio.NewReaderSize(conn, 64<<10)
	for {
		f, err := readFrame(r, limit)
		if err != nil {
			return
		}
		places <- struct{}{}
		go func() {
			defer func() { <-places }()
			status, out := answer(f.kind, f.body)
			writing.Lock()
			defer writing.Unlock()
			if writeFrame(context.Background(), conn, frame{f.number, status, out}) != nil {
				conn.Close()
			}
		}()
	}
}

// caller calls other nodes over connections that it keeps open. It is safe for concurrent use.
type caller struct {
	dial func(ctx context.Context, to Peer, lane int) (net.Conn, error)

	mu    sync.Mutex
	lines map[lineKey]*callLine
}

// lineKey separates calls that must not wait for each other: lane 0 is for short requests, the others for batches.
type lineKey struct {
	to   Peer // a connection is to a node, not only to an address: another node may be there later
	lane int
}

// laneOpen is for calls that need no membership, to nodes that may not have proven theirs either.
const laneOpen = -2

func newCaller(dial func(ctx context.Context, to Peer, lane int) (net.Conn, error)) *caller {
	return &caller{dial: dial, lines: map[lineKey]*callLine{}}
}

// call calls a node; an empty ID stands for whoever is at the address. The error wraps errNotSent if the node never received the request.
func (c *caller) call(ctx context.Context, to Peer, lane int, method byte, body []byte) (status byte, answer []byte, err error) {
	c.mu.Lock()
	key := lineKey{to, lane}
	l := c.lines[key]
	if l == nil {
		l = &callLine{turn: make(chan struct{}, 1)}
		c.lines[key] = l
	}
	c.mu.Unlock()
	s, err := l.session(ctx, func() (net.Conn, error) { return c.dial(ctx, to, lane) })
	if err != nil {
		return 0, nil, fmt.Errorf("%w: %w", errNotSent, err)
	}
	return s.call(ctx, method, body)
}

// drop closes the connection of a lane if it was opened before a call that got no response.
func (c *caller) drop(to Peer, lane int, before time.Time) {
	c.mu.Lock()
	l := c.lines[lineKey{to, lane}]
	c.mu.Unlock()
	if s := l.alive(); s != nil && s.began.Before(before) {
		s.conn.Close()
	}
}

// callLine holds one connection, and opens a new one when it has ended.
type callLine struct {
	turn    chan struct{} // held while dialing
	mu      sync.Mutex
	current *session
}

func (l *callLine) alive() *session {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current != nil && !l.current.ended() {
		return l.current
	}
	return nil
}

func (l *callLine) session(ctx context.Context, dial func() (net.Conn, error)) (*session, error) {
	if s := l.alive(); s != nil {
		return s, nil
	}
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if s := l.alive(); s != nil {
		return s, nil
	}
	conn, err := dial()
	if err != nil {
		return nil, err
	}
	s := newSession(conn)
	l.mu.Lock()
	l.current = s
	l.mu.Unlock()
	return s, nil
}

// session is one connection with its calls in flight.
type session struct {
	conn    net.Conn
	began   time.Time
	writing sync.Mutex
	over    chan struct{} // closed when the connection has ended

	mu      sync.Mutex
	next    uint64
	waiting map[uint64]chan frame
}

func newSession(conn net.Conn) *session {
	s := &session{conn: conn, began: time.Now(), waiting: map[uint64]chan frame{}, over: make(chan struct{})}
	go s.read() // ends with the connection; the port closes that at the latest
	return s
}

func (s *session) ended() bool {
	select {
	case <-s.over:
		return true
	default:
		return false
	}
}

func (s *session) read() {
	defer close(s.over)
	defer s.conn.Close()
	r := bufio.NewReaderSize(s.conn, 64<<10)
	for {
		f, err := readFrame(r, func() uint32 { return maxFrame })
		if err != nil {
			return
		}
		s.mu.Lock()
		ch := s.waiting[f.number]
		delete(s.waiting, f.number)
		s.mu.Unlock()
		if ch != nil {
			ch <- f
		}
	}
}

func (s *session) call(ctx context.Context, method byte, body []byte) (byte, []byte, error) {
	ch := make(chan frame, 1)
	if err := ctx.Err(); err != nil {
		return 0, nil, fmt.Errorf("%w: %w", errNotSent, err)
	}
	s.mu.Lock()
	s.next++
	number := s.next
	s.waiting[number] = ch
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.waiting, number)
		s.mu.Unlock()
	}()
	s.writing.Lock()
	err := writeFrame(ctx, s.conn, frame{number, method, body})
	s.writing.Unlock()
	if err != nil {
		s.conn.Close() // half a frame may have been sent
		return 0, nil, err
	}
	select {
	case f := <-ch:
		return f.kind, f.body, nil
	case <-ctx.Done():
		return 0, nil, ctx.Err()
	case <-s.over:
		select {
		case f := <-ch:
			return f.kind, f.body, nil
		default:
			return 0, nil, errors.New("connection closed")
		}
	}
}
