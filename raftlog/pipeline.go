package raftlog

import (
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// transport is raft's network transport with pipelines that cannot deadlock, and transfers of leadership that end.
type transport struct {
	*raft.NetworkTransport
	patience time.Duration // for the answer of a node that is to lead

	mu     sync.Mutex
	closed bool
	asking sync.WaitGroup
}

var errNoAnswer = errors.New("no answer in time")

// TimeoutNow implements raft.Transport. Raft lets a leader write nothing before it has returned (v1.7.3), however long ago the
// transfer has failed, and also if the node leads again meanwhile.
func (t *transport) TimeoutNow(id raft.ServerID, target raft.ServerAddress, args *raft.TimeoutNowRequest, answer *raft.TimeoutNowResponse) error {
	type result struct {
		answer raft.TimeoutNowResponse
		err    error
	}
	done := make(chan result, 1)
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return raft.ErrTransportShutdown
	}
	t.asking.Go(func() {
		var r result
		r.err = t.NetworkTransport.TimeoutNow(id, target, args, &r.answer)
		done <- r
	})
	t.mu.Unlock()
	patience := time.NewTimer(t.patience)
	defer patience.Stop()
	select {
	case r := <-done:
		*answer = r.answer
		return r.err
	case <-patience.C:
		return errNoAnswer
	}
}

// Close implements raft.WithClose.
func (t *transport) Close() error {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	err := t.NetworkTransport.Close() // ends what is asked
	t.asking.Wait()
	return err
}

// AppendEntriesPipeline implements raft.Transport.
func (t *transport) AppendEntriesPipeline(id raft.ServerID, target raft.ServerAddress) (raft.AppendPipeline, error) {
	p, err := t.NetworkTransport.AppendEntriesPipeline(id, target)
	if err != nil {
		return nil, err
	}
	return newPipeline(p), nil
}

// pipeline receives every response at once. Raft stops reading responses at the first failure while it may still be sending:
// its sender then waits for earlier responses, which wait for a reader (raft v1.7.3). Nothing would resolve that deadlock:
// the follower would get no more entries from this leader, and stopping the node would hang.
type pipeline struct {
	raft.AppendPipeline
	answers chan raft.AppendFuture
	closed  chan struct{}
	once    sync.Once
	pump    sync.WaitGroup
}

func newPipeline(p raft.AppendPipeline) *pipeline {
	w := &pipeline{AppendPipeline: p, answers: make(chan raft.AppendFuture), closed: make(chan struct{})}
	w.pump.Go(w.run)
	return w
}

func (p *pipeline) run() {
	var waiting []raft.AppendFuture // bounded by what raft sends before it notices that it has stopped reading
	for {
		var out chan raft.AppendFuture
		var first raft.AppendFuture
		if len(waiting) > 0 {
			out, first = p.answers, waiting[0]
		}
		select {
		case f := <-p.AppendPipeline.Consumer():
			waiting = append(waiting, f)
		case out <- first:
			waiting[0] = nil
			waiting = waiting[1:]
		case <-p.closed:
			return
		}
	}
}

// Consumer implements raft.AppendPipeline.
func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.answers }

// Close implements raft.AppendPipeline.
func (p *pipeline) Close() error {
	p.once.Do(func() {
		close(p.closed)
		p.pump.Wait()
	})
	return p.AppendPipeline.Close()
}
