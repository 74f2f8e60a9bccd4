package raftlog

import (
	"errors"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"quorumhub/store"
)

// brokenLog fails or blocks certain writes.
type brokenLog struct {
	raft.LogStore
	writes atomic.Int64
	failAt int64         // only this write fails: a disk may work again after a failed fsync
	block  chan struct{} // if set, writes wait for it
}

var errDisk = errors.New("input/output error")

func (b *brokenLog) StoreLogs(logs []*raft.Log) error {
	n := b.writes.Add(1)
	if b.block != nil {
		<-b.block
	}
	if n == b.failAt {
		return errDisk
	}
	return b.LogStore.StoreLogs(logs)
}

type at struct{ applied, durable uint64 }

func (a *at) Applied() store.Position { return store.Position{Index: a.applied} }
func (a *at) Durable() store.Position { return store.Position{Index: a.durable} }

func testLog(t *testing.T, change func(*Options)) (*logStore, *at, func() []error) {
	t.Helper()
	var mu sync.Mutex
	var fatal []error
	o := Options{Dir: t.TempDir(), StallTimeout: time.Minute, LockTimeout: time.Second, SnapshotBytes: 1 << 20}
	if change != nil {
		change(&o)
	}
	l, err := openLog(o, true, func(err error) {
		mu.Lock()
		defer mu.Unlock()
		fatal = append(fatal, err)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.close() })
	pos := new(at)
	l.state = pos
	return l, pos, func() []error {
		mu.Lock()
		defer mu.Unlock()
		return append([]error(nil), fatal...)
	}
}

func entries(from, to uint64) (out []*raft.Log) {
	for i := from; i <= to; i++ {
		out = append(out, &raft.Log{Index: i, Term: 1, Data: []byte("0123456789")})
	}
	return out
}

// After a failed fsync the next one may succeed, with a hole where the first write was.
func TestFirstFailedWriteIsTheLast(t *testing.T) {
	b := &brokenLog{failAt: 2}
	l, _, fatal := testLog(t, nil)
	b.LogStore, l.logs = l.logs, b
	if err := l.StoreLogs(entries(1, 2)); err != nil {
		t.Fatal(err)
	}
	if err := l.StoreLogs(entries(3, 3)); !errors.Is(err, errDisk) || !errors.Is(err, ErrLogFailed) {
		t.Errorf("failed write: %v", err)
	}
	writes := []func() error{
		func() error { return l.StoreLogs(entries(4, 4)) },
		func() error { return l.StoreLog(entries(4, 4)[0]) },
		func() error { return l.DeleteRange(1, 1) },
		func() error { return l.Set([]byte("k"), []byte("v")) },
		func() error { return l.SetUint64([]byte("k"), 1) },
	}
	for i, w := range writes {
		if err := w(); !errors.Is(err, ErrLogFailed) {
			t.Errorf("write %d after the failed one: %v", i, err)
		}
	}
	if last, err := l.LastIndex(); err != nil || last != 2 {
		t.Errorf("last entry %d, %v", last, err)
	}
	if f := fatal(); len(f) != 1 || !strings.Contains(f[0].Error(), "raft.db") {
		t.Errorf("Fatal got %v", f)
	}
}

func TestStalledWriteIsTheLast(t *testing.T) {
	b := &brokenLog{block: make(chan struct{})}
	l, _, fatal := testLog(t, func(o *Options) { o.StallTimeout = 20 * time.Millisecond })
	b.LogStore, l.logs = l.logs, b
	answer := make(chan error, 1)
	go func() { answer <- l.StoreLogs(entries(1, 1)) }()
	for end := time.Now().Add(10 * time.Second); len(fatal()) == 0; {
		if time.Now().After(end) {
			t.Fatal("the stall was not detected")
		}
		time.Sleep(time.Millisecond) // poll interval
	}
	close(b.block)
	if err := <-answer; !errors.Is(err, ErrLogFailed) {
		t.Errorf("the write that stalled: %v", err)
	}
	if len(fatal()) != 1 {
		t.Errorf("Fatal got %v", fatal())
	}
}

// Invariant I8 from the log's side: whatever raft believes, only what is durable in the store is deleted.
func TestI8LogIsCompactedOnlyUpToDurable(t *testing.T) {
	tests := []struct {
		name             string
		applied, durable uint64
		from, to         uint64
		refused          bool
		compacted        uint64
	}{
		{"compact up to the durable entry", 80, 50, 1, 50, false, 50},
		{"compact beyond the durable entry", 80, 50, 1, 51, true, 0},
		{"compact all, nothing is durable", 100, 0, 1, 100, true, 0},
		{"delete an uncommitted suffix", 80, 50, 81, 100, false, 0},
		{"delete all, nothing was applied", 0, 0, 1, 100, false, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, pos, fatal := testLog(t, nil)
			if err := l.StoreLogs(entries(1, 100)); err != nil {
				t.Fatal(err)
			}
			*pos = at{tt.applied, tt.durable}
			err := l.DeleteRange(tt.from, tt.to)
			if refused := err != nil; refused != tt.refused || refused != (len(fatal()) == 1) {
				t.Errorf("DeleteRange: %v, Fatal %v", err, fatal())
			}
			if c, err := l.mark64(keyCompacted); err != nil || c != tt.compacted {
				t.Errorf("compacted mark %d, %v, want %d", c, err, tt.compacted)
			}
			first, _ := l.FirstIndex()
			if tt.refused && first != 1 {
				t.Errorf("refused, but the log begins at %d", first)
			}
		})
	}
}

// Raft panics when it cannot save its term. Only its goroutine ends, so that the process can exit cleanly.
func TestUnsavedTermEndsOnlyTheGoroutine(t *testing.T) {
	l, _, fatal := testLog(t, nil)
	if err := l.close(); err != nil { // every write fails now
		t.Fatal(err)
	}
	if err := l.SetUint64(keyCurrentTerm, 1); !errors.Is(err, ErrLogFailed) {
		t.Errorf("before raft runs: %v", err)
	}
	l.started.Store(true)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		l.SetUint64(keyCurrentTerm, 2)
		t.Error("the goroutine continues with an unsaved term")
	}()
	<-ended
	if len(fatal()) != 1 {
		t.Errorf("Fatal got %v", fatal())
	}
}

func TestTruncatedLogIsDetectedAtOpen(t *testing.T) {
	l, _, _ := testLog(t, nil)
	if err := l.StoreLogs(entries(1, 2000)); err != nil {
		t.Fatal(err)
	}
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(l.path, 32<<10); err != nil {
		t.Fatal(err)
	}
	_, err := openLog(Options{Dir: strings.TrimSuffix(l.path, "/raft.db"), LockTimeout: time.Second}, true, func(error) {})
	var fe *FileError
	if !errors.As(err, &fe) {
		t.Fatalf("opened: %v", err)
	}
}

// A damaged entry is neither served nor accepted: reading an entry with a flipped bit fails the log, while one received
// from another node is refused and may be sent again.
func TestDamagedEntryIsNeitherServedNorAccepted(t *testing.T) {
	l, _, fatal := testLog(t, nil)
	if err := l.StoreLogs(entries(1, 3)); err != nil {
		t.Fatal(err)
	}
	var good raft.Log
	if err := l.GetLog(2, &good); err != nil || string(good.Data) != "0123456789" {
		t.Fatal(good, err)
	}
	for name, change := range map[string]func(*raft.Log){
		"data":  func(e *raft.Log) { e.Data = []byte("0123456788") },
		"term":  func(e *raft.Log) { e.Term++ },
		"type":  func(e *raft.Log) { e.Type = raft.LogNoop },
		"index": func(e *raft.Log) { e.Index++ },
		"sum":   func(e *raft.Log) { e.Extensions = []byte{1, 2, 3, 4} },
	} {
		bad := good
		change(&bad)
		if err := l.StoreLogs([]*raft.Log{&bad}); !errors.Is(err, errChecksum) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if errs := fatal(); len(errs) > 0 {
		t.Fatalf("the log failed because of a received entry: %v", errs)
	}
	bad := good
	bad.Data = []byte("0123456788")
	if err := l.logs.StoreLogs([]*raft.Log{&bad}); err != nil { // past the guard, like a flipped bit on disk
		t.Fatal(err)
	}
	if err := l.GetLog(2, new(raft.Log)); !errors.Is(err, ErrLogFailed) || len(fatal()) != 1 {
		t.Errorf("got %v, %v", err, fatal())
	}
	if err := l.check(); !errors.Is(err, errChecksum) {
		t.Errorf("check: %v", err)
	}
}
