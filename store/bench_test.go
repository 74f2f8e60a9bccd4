package store_test

import (
	"bytes"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/store"
)

// batchOf returns an entry that publishes n messages of size bytes.
func batchOf(b testing.TB, w *writer, n, size int) store.Entry {
	body := bytes.Repeat([]byte("x"), size)
	events := make([]*hubpb.Event, n)
	for i := range events {
		events[i] = publish("a", body)
	}
	return w.entry(b, events...)
}

// BenchmarkApply measures applying an entry of 32 messages of 1 KiB, on the goroutine that all commits wait for.
func BenchmarkApply(b *testing.B) {
	opts := store.Options{Dir: b.TempDir()}
	s := open(b, opts)
	w := newWriter()
	b.SetBytes(32 << 10)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		e := batchOf(b, w, 32, 1024)
		if s.Overloaded() {
			flush(b, s)
		}
		b.StartTimer()
		if _, err := s.Apply([]store.Entry{e}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/32, "ns/message")
}

// BenchmarkReadTail measures 100 lanes reading the same recent messages, as a fan-out does.
func BenchmarkReadTail(b *testing.B) {
	s := open(b, slow(b.TempDir()))
	w := newWriter()
	for range 32 {
		apply(b, s, batchOf(b, w, 32, 1024))
	}
	b.ReportAllocs()
	for b.Loop() {
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				for from := uint64(1); from <= 1024; from += 32 {
					if msgs, err := s.Read(1, from, 32, 1<<20); err != nil || len(msgs) != 32 {
						b.Errorf("%d messages, %v", len(msgs), err)
					}
				}
			})
		}
		wg.Wait()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/(100*1024), "ns/message")
}

// BenchmarkReadDisk measures reading 1 KiB messages from a segment file.
func BenchmarkReadDisk(b *testing.B) {
	opts := slow(b.TempDir())
	opts.TailBytes = 1
	s := open(b, opts)
	w := newWriter()
	for range 128 {
		apply(b, s, batchOf(b, w, 32, 1024))
	}
	flush(b, s)
	b.SetBytes(4096 << 10)
	for b.Loop() {
		for from := uint64(1); from <= 4096; from += 64 {
			if msgs, err := s.Read(1, from, 64, 1<<20); err != nil || len(msgs) != 64 {
				b.Fatalf("%d messages, %v", len(msgs), err)
			}
		}
	}
}

// BenchmarkFlush measures flushing 16 MiB of 1 KiB messages.
func BenchmarkFlush(b *testing.B) {
	opts := slow(b.TempDir())
	opts.FlushBytes = 1 << 40
	s := open(b, opts)
	w := newWriter()
	b.SetBytes(16 << 20)
	for b.Loop() {
		b.StopTimer()
		for range 64 {
			apply(b, s, batchOf(b, w, 256, 1024))
		}
		b.StartTimer()
		flush(b, s)
	}
	st := s.Stats()
	b.ReportMetric(float64(st.SegmentBytes)/float64(st.FlushedMessages<<10), "disk/payload")
}

// withSubscriptions creates a store with n subscriptions and closes it.
func withSubscriptions(t testing.TB, opts store.Options, n int) {
	t.Helper()
	s := open(t, opts)
	subscribe(t, s, n)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func subscribe(t testing.TB, s *store.Store, n int) {
	w := newWriter()
	for i := 0; i < n; i += 500 {
		var events []*hubpb.Event
		for j := i; j < i+500; j++ {
			topic := fmt.Sprintf("https://example.org/feeds/topic-%d", j%100)
			r := request(topic, fmt.Sprintf("https://subscriber-%d.example.net/websub/callback?id=%d", j%1000, j))
			r.GetSubscriptionRequested().SealedSecret = bytes.Repeat([]byte{1}, 60)
			events = append(events, r, verified(uint64(j+1), 0, w.now))
		}
		apply(t, s, w.entry(t, events...))
	}
}

// BenchmarkOpen100kSubscriptions measures opening a store with 100,000 subscriptions.
func BenchmarkOpen100kSubscriptions(b *testing.B) {
	opts := slow(b.TempDir())
	withSubscriptions(b, opts, 100_000)
	for b.Loop() {
		crash(b, open(b, opts))
	}
}

func TestOpenIsQuickWithManySubscriptions(t *testing.T) {
	n := 100_000
	if raceDetector { // ten times slower
		n = 10_000
	}
	opts := slow(t.TempDir())
	withSubscriptions(t, opts, n)
	start := time.Now()
	s := open(t, opts)
	took := time.Since(start)
	var counts hub.Counts
	s.View(func(st *hub.State) { counts = st.Counts() })
	if counts.Subscriptions != n {
		t.Fatalf("%+v", counts)
	}
	t.Logf("opened %d subscriptions in %v", n, took)
	if took > 5*time.Second {
		t.Errorf("took %v, want less than 5 s", took)
	}
}

// A subscription with a secret of 32 bytes and URLs of typical length takes at most 1 KiB of memory.
func TestMemoryPerSubscription(t *testing.T) {
	const n, limit = 20_000, 1 << 10
	opts := slow(t.TempDir())
	withSubscriptions(t, opts, n)
	before := heap()
	s := open(t, opts)
	loaded := heap() - before
	t.Logf("%d bytes per subscription after opening", loaded/n)
	if loaded/n > limit {
		t.Errorf("%d bytes per subscription after opening, want at most %d", loaded/n, limit)
	}
	crash(t, s)

	before = heap()
	s = open(t, slow(t.TempDir()))
	subscribe(t, s, n)
	flush(t, s)
	fresh := heap() - before
	t.Logf("%d bytes per subscription after subscribing", fresh/n)
	if fresh/n > limit {
		t.Errorf("%d bytes per subscription after subscribing, want at most %d", fresh/n, limit)
	}
	runtime.KeepAlive(s)
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
