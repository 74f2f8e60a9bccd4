package raftlog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"quorumhub/hub"
)

const (
	// readIndexTimeout is how long a consistent read waits for the leader's confirmation before it is refused.
	readIndexTimeout = 1500 * time.Millisecond
	// readPause is the pause between two attempts to get it.
	readPause = 20 * time.Millisecond
)

// Written returns a log index. Everything written through this node and acknowledged is at or before it.
func (n *Node) Written() uint64 { return n.written.Load() }

// AwaitIndex returns once the node has applied the entry at index, or hub.CodeUnavailable if ctx ends first.
func (n *Node) AwaitIndex(ctx context.Context, index uint64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(n.ctx, cancel)()
	n.progress.wait(ctx, index)
	if at := n.store.Applied().Index; at < index {
		return hub.Errorf(hub.CodeUnavailable, "this node has applied entry %d but not yet %d; try again shortly, or try another node", at, index)
	}
	return nil
}

// Consistent returns once the node has applied everything that any node acknowledged before the call: a subsequent read is
// linearizable (Raft thesis 6.4). It returns hub.ErrNoLeader if no leader with a quorum answered in time, or
// hub.CodeUnavailable if ctx ended before this node had caught up.
func (n *Node) Consistent(ctx context.Context) error {
	select {
	case <-n.ready:
	default:
		return hub.ErrNoLeader
	}
	ask, cancel := context.WithTimeout(ctx, readIndexTimeout) // a request may have to wait for the previous one
	defer cancel()
	index, err := n.reading.read(ask)
	if err != nil {
		return err
	}
	return n.AwaitIndex(ctx, index)
}

// readIndex returns an index at or after everything acknowledged before the call.
func (n *Node) readIndex() (uint64, error) {
	ctx, cancel := context.WithTimeout(n.ctx, readIndexTimeout)
	defer cancel()
	pause := time.NewTicker(readPause)
	defer pause.Stop()
	for {
		index, err := n.requestReadIndex(ctx)
		if err == nil {
			return index, nil
		}
		select {
		case <-ctx.Done():
			return 0, hub.ErrNoLeader
		case <-pause.C:
		}
	}
}

func (n *Node) requestReadIndex(ctx context.Context) (uint64, error) {
	if n.IsLeader() {
		return n.verifying.read(ctx)
	}
	id, address := n.Leader()
	if n.caller == nil || address == "" || id == n.opts.ID {
		return 0, errNotLeader
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer n.whenLeaderChanges(ctx, id, cancel)()
	status, body, err := n.caller.call(ctx, Peer{id, address}, 0, methodReadIndex, nil)
	switch {
	case err != nil:
		return 0, err
	case status != statusOK:
		return 0, fmt.Errorf("%w: %s", errNotLeader, oneLine(string(body)))
	}
	index, size := binary.Uvarint(body)
	if size <= 0 {
		return 0, fmt.Errorf("unreadable read index from the leader: %w", hub.ErrCorrupt)
	}
	return index, nil
}

// handleReadIndex answers another node. It never forwards the request.
func (n *Node) handleReadIndex() (status byte, out []byte) {
	if !n.running.Load() || !n.IsLeader() {
		return statusNotLeader, nil
	}
	ctx, cancel := context.WithTimeout(n.ctx, readIndexTimeout)
	defer cancel()
	index, err := n.verifying.read(ctx)
	if err != nil {
		return statusNotLeader, []byte(err.Error())
	}
	return statusOK, binary.AppendUvarint(nil, index)
}

// verifiedIndex is the leader's part of a consistent read. An entry of this term is committed before the node counts as
// leader, so the commit index is at or after everything acknowledged so far, by earlier leaders too. That there is no later
// leader is certain once a quorum, asked after the index was read, has confirmed this one.
func (n *Node) verifiedIndex() (uint64, error) {
	term, index, err := n.commitIndex()
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(n.ctx, readIndexTimeout)
	defer cancel()
	if err := n.verifyTerm(ctx, term); err != nil {
		return 0, fmt.Errorf("%w: %w", errNotLeader, err)
	}
	if n.raft.CurrentTerm() != term {
		return 0, errNotLeader
	}
	return index, nil
}

// commitIndex returns this leader's term, and the index that a reader must have applied if the term is still current.
func (n *Node) commitIndex() (term, index uint64, err error) {
	term, index = n.leadTerm.Load(), n.raft.CommitIndex()
	if !n.IsLeader() || n.raft.CurrentTerm() != term {
		return 0, 0, errNotLeader
	}
	// Raft's own entries at the start of a term never reach a store. If nothing was written since, nobody can wait for them.
	if b := n.leadBegin.Load(); index <= b.barrier {
		index = min(index, b.applied)
	}
	return term, index, nil
}

// verifyTerm returns nil if a quorum, asked after the call, knows of no later term: then no later leader had been elected.
// Raft's own VerifyLeader also counts answers to heartbeats sent earlier, which may have been sitting in the socket of a
// process that was suspended meanwhile.
func (n *Node) verifyTerm(ctx context.Context, term uint64) error {
	if n.caller == nil {
		return await(ctx, n.raft.VerifyLeader())
	}
	return n.askVoters(ctx, methodTerm, nil, func(answer []byte) bool {
		its, size := binary.Uvarint(answer)
		return size > 0 && its == term
	})
}

// askVoters asks all other voters, and returns nil when a quorum agrees, this node included.
func (n *Node) askVoters(ctx context.Context, method byte, question []byte, agrees func(answer []byte) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	voters, agreed := 0, 0
	servers := n.servers()
	answers := make(chan []byte, len(servers)) // nil: none
	for _, s := range servers {
		switch {
		case s.Suffrage != raft.Voter:
			continue
		case string(s.ID) == n.opts.ID:
			agreed++
		default:
			asking.Go(func() {
				status, answer, err := n.caller.call(ctx, Peer{string(s.ID), string(s.Address)}, 0, method, question)
				if err != nil || status != statusOK {
					answer = nil
				}
				answers <- answer
			})
		}
		voters++
	}
	for left := voters - agreed; agreed <= voters/2; left-- {
		if left == 0 {
			return errors.New("no quorum answered")
		}
		select {
		case answer := <-answers:
			if agrees(answer) {
				agreed++
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// readGate answers many callers with one request. A request serves only callers that arrived before it was sent.
type readGate struct {
	ask  func() (uint64, error)
	wake chan struct{}

	mu   sync.Mutex
	next *readRound
}

type readRound struct {
	done  chan struct{}
	index uint64
	err   error
}

func newReadGate(ask func() (uint64, error)) *readGate {
	return &readGate{ask: ask, wake: make(chan struct{}, 1)}
}

func (g *readGate) read(ctx context.Context) (uint64, error) {
	g.mu.Lock()
	if g.next == nil {
		g.next = &readRound{done: make(chan struct{})}
	}
	r := g.next
	g.mu.Unlock()
	select {
	case g.wake <- struct{}{}:
	default:
	}
	select {
	case <-r.done:
		return r.index, r.err
	case <-ctx.Done():
		return 0, hub.ErrNoLeader
	}
}

func (g *readGate) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.wake:
		}
		g.mu.Lock()
		r := g.next
		g.next = nil
		g.mu.Unlock()
		if r == nil {
			continue
		}
		r.index, r.err = g.ask()
		close(r.done)
	}
}

// highest is a number that only grows.
type highest struct{ atomic.Uint64 }

func (h *highest) raise(to uint64) {
	for {
		now := h.Load()
		if to <= now || h.CompareAndSwap(now, to) {
			return
		}
	}
}
