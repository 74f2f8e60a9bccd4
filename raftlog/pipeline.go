package raftlog

import (
	"sync"

	"github.com/hashicorp/raft"
)

// transport is raft's network transport with pipelines that cannot deadlock.
type transport struct{ *raft.NetworkTransport }

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
