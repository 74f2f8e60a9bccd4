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
	// forwardTimeout bounds one attempt to forward a batch to the leader.
	forwardTimeout = 2 * time.Second
	// forwardLanes is how many connections carry batches to a leader.
	forwardLanes = 2
	// leaderLook is how often a waiting batch checks whether the leader is still the same.
	leaderLook = 20 * time.Millisecond
)

// router is the sink of a node in a cluster. Batches go to its own log while it leads, otherwise to the leader in one hop.
// The leader's results are passed on once this node has applied the batch too, so that clients of this node read their own
// writes.
type router struct {
	node  *Node
	own   *leader
	lanes atomic.Uint64
}

func (r *router) send(b *batch) (hub.BatchResult, error) {
	n := r.node
	if n.raft.State() == raft.Leader {
		if !n.clockSettled() {
			return hub.BatchResult{}, errNotLeader // see establish
		}
		return r.own.send(b)
	}
	id, address := n.Leader()
	if address == "" || id == n.opts.ID {
		return hub.BatchResult{}, errNotLeader
	}
	ctx, cancel := context.WithTimeout(n.ctx, forwardTimeout)
	defer cancel()
	stop := n.whenLeaderChanges(ctx, id, cancel)
	defer stop()
	lane := 1 + int(r.lanes.Add(1)%forwardLanes)
	status, body, err := n.caller.call(ctx, Peer{id, address}, lane, methodForward, encodeForward(b))
	switch {
	case errors.Is(err, errNotSent):
		return hub.BatchResult{}, errNotLeader
	case err != nil:
		return hub.BatchResult{}, fmt.Errorf("%w: %w", errUnknown, err)
	}
	switch status {
	case statusOK:
	case statusNotLeader, statusStranger:
		return hub.BatchResult{}, errNotLeader // or that node does not know yet that this one is a member
	case statusRefused:
		return hub.BatchResult{}, decodeRefusal(body)
	default:
		return hub.BatchResult{}, fmt.Errorf("%w: %s", errUnknown, oneLine(string(body)))
	}
	index, answer, err := decodeForwarded(body)
	if err != nil {
		return hub.BatchResult{}, fmt.Errorf("%w: unreadable response from the leader to batch %d: %w", errUnknown, b.seq, err)
	}
	if answer.Seq != b.seq || len(answer.Proposals) != len(b.proposals) {
		return hub.BatchResult{}, fmt.Errorf("%w: the leader's results are not those of batch %d", errUnknown, b.seq)
	}
	n.written.raise(index)
	// The batch is in the log whatever happens here, so a lagging node delays the results only for a while, and a removed
	// node, which receives no more of the log, does not wait.
	wait, end := context.WithTimeout(n.members.part, n.opts.RetryFor)
	defer end()
	n.progress.wait(wait, index)
	return answer, nil
}

// whenLeaderChanges calls lost when the leader is no longer id. The caller must call stop.
func (n *Node) whenLeaderChanges(ctx context.Context, id string, lost func()) (stop func()) {
	done := make(chan struct{})
	go func() {
		tick := time.NewTicker(leaderLook)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-ctx.Done():
				return
			case <-tick.C:
				if now, _ := n.Leader(); now != id {
					lost()
					return
				}
			}
		}
	}()
	return func() { close(done) }
}

// handleForward writes another node's batch. It never forwards it again.
func (n *Node) handleForward(body []byte) (status byte, out []byte) {
	if !n.running.Load() || !n.IsLeader() {
		return statusNotLeader, nil
	}
	b, err := decodeForward(body)
	if err != nil {
		return statusRefused, encodeRefusal(err)
	}
	if held := n.forwarded.Add(int64(b.size)); held > n.opts.MaxQueuedBytes && held > int64(b.size) {
		n.forwarded.Add(-int64(b.size))
		return statusRefused, encodeRefusal(hub.ErrOverloaded)
	}
	defer n.forwarded.Add(-int64(b.size))
	if b.newWork {
		if err := n.refuse(); err != nil {
			return statusRefused, encodeRefusal(err)
		}
	}
	index, answer, err := n.own.write(b)
	switch {
	case errors.Is(err, errNotLeader):
		return statusNotLeader, nil
	case err != nil:
		return statusUnknown, []byte(err.Error())
	}
	return statusOK, encodeForwarded(index, answer)
}

// Codes of a refused batch: the first byte of the body of a statusRefused response. The rest is text for people.
const (
	refusedOther      byte = 0
	refusedOverloaded byte = 1
	refusedDiskFull   byte = 2
	refusedStopping   byte = 3
)

// refusalError maps a code to the error that the leader's own clients get.
func refusalError(code byte) error {
	switch code {
	case refusedOverloaded:
		return hub.ErrOverloaded
	case refusedDiskFull:
		return hub.ErrDiskFull
	case refusedStopping:
		return hub.ErrStopping
	}
	return nil
}

func encodeRefusal(err error) []byte {
	code := refusedOther
	for _, c := range []byte{refusedOverloaded, refusedDiskFull, refusedStopping} {
		if errors.Is(err, refusalError(c)) {
			code = c
		}
	}
	return append([]byte{code}, err.Error()...)
}

// decodeRefusal returns the error with which the leader refused a batch. An unknown code is a generic refusal.
func decodeRefusal(body []byte) error {
	if len(body) == 0 {
		return hub.Errorf(hub.CodeUnavailable, "the leader refused the batch without a reason")
	}
	if err := refusalError(body[0]); err != nil {
		return err
	}
	return hub.Errorf(hub.CodeUnavailable, "the leader refused the batch: %s", oneLine(string(body[1:])))
}

// encodeForward encodes a batch: flags, origin, seq, proposals; counts and lengths as uvarints.
func encodeForward(b *batch) []byte {
	out := make([]byte, 0, 64+len(b.origin)+b.size+5*len(b.proposals))
	var flags byte
	if b.newWork {
		flags = 1
	}
	out = append(out, flags)
	out = binary.AppendUvarint(out, uint64(len(b.origin)))
	out = append(out, b.origin...)
	out = binary.AppendUvarint(out, b.seq)
	out = binary.AppendUvarint(out, uint64(len(b.proposals)))
	for _, p := range b.proposals {
		out = binary.AppendUvarint(out, uint64(len(p)))
		out = append(out, p...)
	}
	return out
}

// decodeForward is the inverse. The proposals share memory with data.
func decodeForward(data []byte) (*batch, error) {
	d := decoder{data: data}
	flags := d.byte()
	b := &batch{newWork: flags&1 != 0, origin: string(d.bytes()), seq: d.uvarint()}
	count := d.count(1)
	for range count {
		p := d.bytes()
		b.proposals = append(b.proposals, p)
		b.size += len(p)
	}
	if err := d.end(); err != nil {
		return nil, fmt.Errorf("forwarded batch: %w", err)
	}
	if b.origin == "" || b.seq == 0 || count == 0 {
		return nil, errors.New("forwarded batch: empty or without origin")
	}
	return b, nil
}

// encodeForwarded encodes the leader's response: log index, seq, results of each proposal.
func encodeForwarded(index uint64, r hub.BatchResult) []byte {
	out := binary.AppendUvarint(nil, index)
	out = binary.AppendUvarint(out, r.Seq)
	out = binary.AppendUvarint(out, uint64(len(r.Proposals)))
	for _, p := range r.Proposals {
		out = binary.AppendUvarint(out, uint64(len(p)))
		for _, e := range p {
			for _, v := range []uint64{uint64(e.Outcome), uint64(e.Topic), e.Offset, e.ID} {
				out = binary.AppendUvarint(out, v)
			}
		}
	}
	return out
}

func decodeForwarded(data []byte) (index uint64, r hub.BatchResult, err error) {
	d := decoder{data: data}
	index, r.Seq = d.uvarint(), d.uvarint()
	r.Proposals = make([][]hub.Result, d.count(1))
	for i := range r.Proposals {
		results := make([]hub.Result, d.count(4))
		for j := range results {
			results[j] = hub.Result{Outcome: hub.Outcome(d.uvarint()), Topic: hub.TopicID(d.uvarint()), Offset: d.uvarint(), ID: d.uvarint()}
		}
		r.Proposals[i] = results
	}
	return index, r, d.end()
}

// decoder reads fields one after another; its first error sticks.
type decoder struct {
	data []byte
	bad  bool
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.data)
	if n <= 0 {
		d.bad, d.data = true, nil
		return 0
	}
	d.data = d.data[n:]
	return v
}

func (d *decoder) byte() byte {
	if len(d.data) == 0 {
		d.bad = true
		return 0
	}
	b := d.data[0]
	d.data = d.data[1:]
	return b
}

func (d *decoder) bytes() []byte {
	n := d.uvarint()
	if n > uint64(len(d.data)) {
		d.bad, d.data = true, nil
		return nil
	}
	b := d.data[:n:n]
	d.data = d.data[n:]
	return b
}

// count reads a number of items of at least size bytes each, so that a wrong number cannot allocate much memory.
func (d *decoder) count(size int) int {
	n := d.uvarint()
	if n > uint64(len(d.data)/size) {
		d.bad, d.data = true, nil
		return 0
	}
	return int(n)
}

func (d *decoder) end() error {
	if d.bad || len(d.data) > 0 {
		return hub.ErrCorrupt
	}
	return nil
}

// progress lets callers wait until the store has applied an index.
type progress struct {
	mu      sync.Mutex
	index   uint64
	waiting bool
	moved   chan struct{}
}

func (p *progress) reach(index uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.index = max(p.index, index)
	if p.waiting {
		p.waiting = false
		close(p.moved)
	}
}

// wait returns when index is reached or ctx ends.
func (p *progress) wait(ctx context.Context, index uint64) {
	for {
		p.mu.Lock()
		if p.index >= index {
			p.mu.Unlock()
			return
		}
		if !p.waiting {
			p.waiting, p.moved = true, make(chan struct{})
		}
		moved := p.moved
		p.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return
		}
	}
}
