package raftlog_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"quorumhub/raftlog"
	"quorumhub/store"
)

// failingStart closes raft.db when NewRaft has read the last entry: everything written later fails.
type failingStart struct {
	raft.LogStore
	fail func()
}

func (f failingStart) GetLog(index uint64, log *raft.Log) error {
	err := f.LogStore.GetLog(index, log)
	f.fail()
	return err
}

// TestI8DiskThatFailsAtStartEndsOpen: the term cannot be saved. Open returns an error or the node reports a fatal one; the goroutine that
// called Open goes on in any case.
func TestI8DiskThatFailsAtStartEndsOpen(t *testing.T) {
	for _, voters := range []int{1, 3} {
		dir := t.TempDir()
		options := func(s *store.Store) raftlog.Options {
			o := raftlog.Options{ID: "n", Dir: dir, Store: s}
			if voters > 1 {
				for _, id := range []raft.ServerID{"n", "other", "another"} {
					o.Bootstrap = append(o.Bootstrap, raft.Server{ID: id, Address: raft.ServerAddress(id)})
				}
			}
			return o
		}
		n, s := openAt(t, dir, options)
		if err := errors.Join(n.Close(context.Background()), s.Close()); err != nil {
			t.Fatal(err)
		}
		s, err := store.Open(store.Options{Dir: filepath.Join(dir, "store")})
		if err != nil {
			t.Fatal(err)
		}
		o := options(s)
		fatal := make(chan error, 1)
		o.Fatal = func(err error) { fatal <- err }
		var closed atomic.Bool
		type result struct {
			node *raftlog.Node
			err  error
		}
		returned, ended := make(chan result, 1), make(chan struct{})
		go func() {
			defer close(ended)
			node, err := raftlog.OpenFaulty(context.Background(), o, raftlog.Faults{WrapLog: func(l raft.LogStore) raft.LogStore {
				return failingStart{l, func() {
					if !closed.Swap(true) {
						_ = raftlog.CloseLogFile(l) // it is open
					}
				}}
			}})
			returned <- result{node, err}
		}()
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			t.Fatalf("%d voters: Open hangs", voters)
		}
		var r result
		select {
		case r = <-returned:
		default:
			t.Fatalf("%d voters: the goroutine that called Open has ended", voters)
		}
		if r.err == nil {
			select {
			case <-fatal:
			case <-time.After(20 * time.Second):
				t.Errorf("%d voters: the node runs on a disk that fails", voters)
			}
			_ = r.node.Abort() // its disk has failed
		}
		_ = s.Crash() // likewise
	}
}

func openAt(t *testing.T, dir string, options func(*store.Store) raftlog.Options) (*raftlog.Node, *store.Store) {
	t.Helper()
	s, err := store.Open(store.Options{Dir: filepath.Join(dir, "store")})
	if err != nil {
		t.Fatal(err)
	}
	n, err := raftlog.Open(context.Background(), options(s))
	if err != nil {
		t.Fatal(err)
	}
	return n, s
}
