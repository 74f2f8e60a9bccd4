package raftlog

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// Raft stops reading responses at a rejected entry while its sender may still be sending.
func TestUnreadPipelineAcceptsMore(t *testing.T) {
	open := func() *raft.NetworkTransport {
		t.Helper()
		tr, err := raft.NewTCPTransport("127.0.0.1:0", nil, 3, 10*time.Second, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { tr.Close() })
		return tr
	}
	leader, follower := open(), open()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for {
			select {
			case rpc := <-follower.Consumer():
				rpc.Respond(&raft.AppendEntriesResponse{Term: 1}, nil) // no success
			case <-stop:
				return
			}
		}
	}()
	p, err := (&transport{NetworkTransport: leader}).AppendEntriesPipeline("follower", follower.LocalAddr())
	if err != nil {
		t.Fatal(err)
	}
	const sent = 20
	done := make(chan error, 1)
	go func() {
		for range sent {
			if _, err := p.AppendEntries(&raft.AppendEntriesRequest{Term: 1}, new(raft.AppendEntriesResponse)); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the sender waits for a reader of the responses")
	}
	for i := range sent {
		select {
		case f := <-p.Consumer():
			if f.Error() != nil || f.Response().Term != 1 {
				t.Fatalf("response %d: %v %+v", i, f.Error(), f.Response())
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("response %d does not arrive", i)
		}
	}
	for range 2 {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
}
