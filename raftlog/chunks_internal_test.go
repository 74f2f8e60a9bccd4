package raftlog

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

func entryOf(index uint64, size int) *raft.Log {
	data := make([]byte, size)
	rng := rand.New(rand.NewPCG(index, uint64(size)))
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	return &raft.Log{Index: index, Term: 3, Type: raft.LogCommand, Data: data, AppendedAt: time.Unix(1_700_000_000, 0)}
}

// Entries of every size are read back unchanged, also after reopening. Deleting a range leaves no chunk behind.
func TestEntriesInChunks(t *testing.T) {
	dir := t.TempDir()
	l, _, _ := testLog(t, func(o *Options) { o.Dir = dir })
	sizes := []int{0, 1, chunkBytes - 1, chunkBytes, chunkBytes + 1, 3 * chunkBytes, 3*chunkBytes + 7, 256 << 10, maxChunks*chunkBytes + 1}
	var logs []*raft.Log
	for i, size := range sizes {
		logs = append(logs, entryOf(uint64(i+1), size))
	}
	if err := l.StoreLogs(logs); err != nil {
		t.Fatal(err)
	}
	same := func(l *logStore, want *raft.Log) {
		t.Helper()
		var got raft.Log
		if err := l.GetLog(want.Index, &got); err != nil {
			t.Fatalf("entry %d: %v", want.Index, err)
		}
		if got.Index != want.Index || got.Term != want.Term || got.Type != want.Type || !bytes.Equal(got.Data, want.Data) ||
			!bytes.Equal(got.Extensions, want.Extensions) || !got.AppendedAt.Equal(want.AppendedAt) {
			t.Errorf("entry %d of %d bytes was read back changed", want.Index, len(want.Data))
		}
	}
	check := func(l *logStore, first, last uint64, logs ...*raft.Log) {
		t.Helper()
		if f, n := l.bounds(); f != first || n != last {
			t.Errorf("the log has entries %d to %d, want %d to %d", f, n, first, last)
		}
		for _, e := range logs {
			same(l, e)
		}
	}
	check(l, 1, 9, logs...)
	if err := errors.Join(l.check(), l.close()); err != nil {
		t.Fatal(err)
	}

	l, at, _ := testLog(t, func(o *Options) { o.Dir = dir })
	check(l, 1, 9, logs...)
	at.applied, at.durable = 6, 6
	if err := l.DeleteRange(8, 9); err != nil { // never committed: a new leader has others
		t.Fatal(err)
	}
	other := entryOf(8, 10)
	if err := l.StoreLogs([]*raft.Log{other}); err != nil {
		t.Fatal(err)
	}
	if err := l.DeleteRange(1, 6); err != nil {
		t.Fatal(err)
	}
	check(l, 7, 8, logs[6], other)
	for i := uint64(1); i <= 9; i++ {
		if err := l.GetLog(i, new(raft.Log)); (err == nil) != (i == 7 || i == 8) {
			t.Errorf("entry %d: %v", i, err)
		}
	}
	var left int
	for i := uint64(1); i <= 9; i++ {
		for chunk := range maxChunks {
			if l.db.GetLog(chunkKey(i, chunk), new(raft.Log)) == nil {
				left++
			}
		}
	}
	if want := 4 + 1; left != want { // 3*chunkBytes+7, and 10 bytes
		t.Errorf("%d chunks left, want %d", left, want)
	}
}

// Any damaged or missing chunk is detected.
func TestDamagedChunks(t *testing.T) {
	for chunk := range 3 {
		l, _, fatal := testLog(t, nil)
		if err := l.StoreLogs([]*raft.Log{entryOf(1, 2*chunkBytes+100)}); err != nil {
			t.Fatal(err)
		}
		var stored raft.Log
		if err := l.db.GetLog(chunkKey(1, chunk), &stored); err != nil {
			t.Fatal(err)
		}
		stored.Data[len(stored.Data)/2] ^= 0x10
		if err := l.db.StoreLog(&stored); err != nil {
			t.Fatal(err)
		}
		if err := l.check(); !errors.Is(err, errChecksum) {
			t.Errorf("chunk %d damaged: %v", chunk, err)
		}
		if err := l.db.DeleteRange(chunkKey(1, chunk), chunkKey(1, chunk)); err != nil {
			t.Fatal(err)
		}
		err := l.GetLog(1, new(raft.Log))
		if first := errors.Is(err, raft.ErrLogNotFound); first != (chunk == 0) || !first && (!errors.Is(err, ErrLogFailed) || len(fatal()) != 1) {
			t.Errorf("without chunk %d: %v", chunk, err)
		}
	}
}
