package store_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"quorumhub/hub"
	"quorumhub/store"
)

// drawEntry draws a random entry that is meaningful for the state.
func drawEntry(rt *rapid.T, t testing.TB, w *writer, m *model) store.Entry {
	topic := rapid.SampledFrom([]string{"a", "b", "c", "https://example.org/d"}).Draw(rt, "topic")
	topics := m.state.Topics(0, 0)
	subs := m.state.Subscriptions(0, 0, nil)
	requests := m.state.Requests(0, 0, nil)
	switch n := rapid.IntRange(0, 19).Draw(rt, "kind"); {
	case n == 0 && len(topics) > 0:
		id := rapid.SampledFrom(topics).Draw(rt, "of")
		return w.entry(t, trim(uint64(id.ID), rapid.Uint64Range(0, id.Head+1).Draw(rt, "through")))
	case n == 1:
		return w.entry(t, deregister(topic))
	case n == 2:
		w.index++
		return store.Entry{Index: w.index, Term: 1, Data: []byte(fmt.Sprintf("servers at %d", w.index)), Configuration: true}
	case n <= 4:
		return w.entry(t, request(topic, fmt.Sprintf("http://127.0.0.1/%d", rapid.IntRange(0, 5).Draw(rt, "callback"))))
	case n <= 6 && len(requests) > 0:
		r := rapid.SampledFrom(requests).Draw(rt, "request")
		return w.entry(t, verified(uint64(r.ID), 0, w.now))
	case n == 7 && len(subs) > 0:
		return w.entry(t, ended(uint64(rapid.SampledFrom(subs).Draw(rt, "sub").ID)))
	case n <= 9 && len(subs) > 0:
		sub := rapid.SampledFrom(subs).Draw(rt, "sub")
		return w.entry(t, advance(uint64(sub.ID), rapid.Uint64Range(0, m.state.Head(sub.Topic)).Draw(rt, "offset")))
	case n == 10:
		return w.entry(t, levelSet())
	case n == 11 && len(subs) > 0:
		sub := rapid.SampledFrom(subs).Draw(rt, "sub")
		return w.entry(t, deadLettered(uint64(sub.ID), sub.Cursor.Offset+1))
	case n == 12 && m.state.Counts().DeadLetters > 0:
		return w.entry(t, lettersDropped(rapid.SampledFrom(m.state.DeadLetterIDs(nil)).Draw(rt, "letter")))
	}
	body := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(rt, "body")
	switch rapid.IntRange(0, 5).Draw(rt, "large") {
	case 0, 1:
		blob := rapid.SampledFrom([]string{"x", "y", "z"}).Draw(rt, "blob")
		index := len(m.uploads[blob])
		m.uploads[blob] = append(m.uploads[blob], byte(len(body)))
		return w.entry(t, part(blob, index, body))
	case 2:
		blob := rapid.SampledFrom([]string{"x", "y", "z"}).Draw(rt, "blob")
		size := 0
		for _, n := range m.uploads[blob] {
			size += int(n)
		}
		e := publishBlob(topic, blob, len(m.uploads[blob]), size)
		delete(m.uploads, blob)
		return w.entry(t, e)
	case 3:
		if rapid.IntRange(0, 4).Draw(rt, "drop") == 0 {
			clear(m.uploads)
			return w.entry(t, dropBlobs(w.now+1))
		}
	}
	return w.entry(t, publish(topic, body), publish("a", body))
}

// Random events in random batches, with flushes, crashes, restarts, snapshots and trims at random points, have exactly the
// same result as in plain memory.
func TestI1StoreEqualsModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		opts := slow(t.TempDir())
		opts.TailBytes = int64(rapid.SampledFrom([]int{1, 2000, 1 << 20}).Draw(rt, "tail"))
		opts.SegmentBytes = int64(rapid.SampledFrom([]int{1, 40 << 10, 1 << 20}).Draw(rt, "segment"))
		s := open(t, opts)
		w, m := newWriter(), newModel()
		var replay []store.Entry // raft's log beyond the durable position
		reopen := func() {
			s = open(t, opts)
			at := s.Durable().Index
			for len(replay) > 0 && replay[0].Index <= at {
				replay = replay[1:]
			}
			apply(t, s, replay...)
		}
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			switch rapid.IntRange(0, 9).Draw(rt, "step") {
			case 0, 1, 2:
				flush(t, s)
				if s.Durable().Index != m.index {
					rt.Fatalf("durable %d after a flush, want %d", s.Durable().Index, m.index)
				}
			case 3:
				crash(t, s)
				reopen()
			case 4:
				if err := s.Close(); err != nil {
					rt.Fatal(err)
				}
				reopen()
			case 5:
				flush(t, s)
				in := receive(t, s, snapshot(t, s))
				if err := s.Install(in); err != nil {
					rt.Fatal(err)
				}
			default:
				var batch []store.Entry
				for range rapid.IntRange(1, 6).Draw(rt, "batch") {
					e := drawEntry(rt, t, w, m)
					m.apply(t, e)
					batch = append(batch, e)
				}
				replay = append(replay, batch...)
				apply(t, s, batch...)
			}
			if d := m.difference(t, s); d != "" {
				rt.Fatal(d)
			}
		}
		if s.Applied().Index != m.index {
			rt.Fatalf("applied %d, want %d", s.Applied().Index, m.index)
		}
		if err := s.Close(); err != nil {
			rt.Fatal(err)
		}
		report, err := store.Inspect(opts.Dir)
		if err != nil {
			rt.Fatal(err)
		}
		if len(report.Problems) > 0 || report.StateHash != m.state.Hash() || report.Position.Index != m.index {
			rt.Fatalf("inspection of intact files: %+v", report)
		}
	})
}

// Two stores that apply the same entries in different batches have the same rows and hash.
func TestI6SameEntriesSameState(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w, m := newWriter(), newModel()
		var entries []store.Entry
		for range rapid.IntRange(1, 40).Draw(rt, "entries") {
			e := drawEntry(rt, t, w, m)
			m.apply(t, e)
			entries = append(entries, e)
		}
		var all []map[string]string
		for i := range 2 {
			s := open(t, slow(t.TempDir()))
			for rest := entries; len(rest) > 0; {
				n := rapid.IntRange(1, len(rest)).Draw(rt, fmt.Sprint("split of store ", i))
				apply(t, s, rest[:n]...)
				rest = rest[n:]
			}
			s.View(func(st *hub.State) { all = append(all, rows(t, st)) })
			crash(t, s)
		}
		for k, v := range all[0] {
			if all[1][k] != v {
				rt.Fatalf("row %x differs: %q and %q", k, v, all[1][k])
			}
		}
	})
}

// The index and the hash that a node reports belong together, however fast it applies entries: others compare them (I6).
func TestAppliedHashBelongsToItsIndexI6(t *testing.T) {
	s, w := open(t, slow(t.TempDir())), newWriter()
	seen := make(chan map[uint64]uint64)
	stop := make(chan struct{})
	for range 2 {
		go func() {
			pairs := map[uint64]uint64{}
			for {
				select {
				case <-stop:
					seen <- pairs
					return
				default:
					index, hash := s.AppliedHash()
					pairs[index] = hash
				}
			}
		}()
	}
	right := map[uint64]uint64{0: 0}
	for i := range 3000 {
		apply(t, s, w.entry(t, publish("a", []byte(fmt.Sprint(i)))))
		index, hash := s.AppliedHash()
		right[index] = hash
	}
	close(stop)
	for range 2 {
		for index, hash := range <-seen {
			if right[index] != hash {
				t.Errorf("at %d the hash was reported as %x, and is %x", index, hash, right[index])
			}
		}
	}
	crash(t, s)
}

func TestApplyRefusesARepeatedIndex(t *testing.T) {
	s := open(t, slow(t.TempDir()))
	w := newWriter()
	e := w.entry(t, publish("a", []byte("1")))
	apply(t, s, e)
	if _, err := s.Apply([]store.Entry{e}); !errors.Is(err, store.ErrNotIncreasing) {
		t.Fatalf("the same entry again: %v", err)
	}
	if _, err := s.Apply([]store.Entry{w.entry(t, publish("a", []byte("2")))}); !errors.Is(err, store.ErrNotIncreasing) {
		t.Fatalf("apply after an error: %v", err)
	}
}

func TestApplyStopsAtACorruptEntry(t *testing.T) {
	dir := t.TempDir()
	s := open(t, slow(dir))
	w, m := newWriter(), newModel()
	good, bad := w.entry(t, publish("a", []byte("1"))), w.entry(t, publish("a", []byte("2")))
	bad.Data[len(bad.Data)-1] ^= 1
	results, err := s.Apply([]store.Entry{good, bad})
	if !errors.Is(err, hub.ErrCorrupt) || len(results) != 1 {
		t.Fatalf("%d results, %v", len(results), err)
	}
	m.apply(t, good)
	m.check(t, s)
	flush(t, s) // what was applied is good
	crash(t, s)
	m.check(t, open(t, slow(dir)))
}

type recorder struct{ seen []*hub.Effects }

func (r *recorder) Applied(fx *hub.Effects) { r.seen = append(r.seen, fx) }

func TestObserversGetOneEffectsPerCall(t *testing.T) {
	s := open(t, slow(t.TempDir()))
	r := &recorder{}
	s.Observe(r)
	w := newWriter()
	apply(t, s, w.entry(t, publish("a", nil)), w.entry(t, publish("a", nil), publish("b", nil)))
	if len(r.seen) != 1 || len(r.seen[0].Messages) != 3 {
		t.Fatalf("observed %+v", r.seen)
	}
	msgs, err := s.Read(1, 1, 10, 100)
	if err != nil || len(msgs) != 2 {
		t.Fatalf("reading the observed messages returned %v, %v", msgs, err)
	}
}

func TestFlushIntervalAndBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := store.Open(store.Options{Dir: t.TempDir(), FlushInterval: time.Minute, FlushBytes: 1000})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Crash()
		w := newWriter()
		apply(t, s, w.entry(t, publish("a", []byte("x"))))
		time.Sleep(59 * time.Second)
		synctest.Wait()
		if s.Durable().Index != 0 {
			t.Fatal("flushed too early")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if s.Durable().Index != 1 {
			t.Fatal("not flushed after FlushInterval")
		}
		apply(t, s, w.entry(t, publish("a", make([]byte, 1001))))
		synctest.Wait()
		if s.Durable().Index != 2 {
			t.Fatal("not flushed although FlushBytes are waiting")
		}
	})
}

func TestWitness(t *testing.T) {
	type conf struct {
		index uint64
		data  string
	}
	tests := []struct {
		name        string
		index, term uint64
		conf        conf
		wantIndex   uint64
		wantConf    conf
		unchanged   bool
	}{
		{name: "a no-op advances the index", index: 12, term: 3, wantIndex: 12, wantConf: conf{5, "old"}},
		{name: "an old index does not", index: 3, term: 1, wantIndex: 10, wantConf: conf{5, "old"}, unchanged: true},
		{name: "a newer configuration", index: 10, term: 2, conf: conf{8, "new"}, wantIndex: 10, wantConf: conf{8, "new"}},
		{name: "an older configuration is ignored", index: 10, term: 2, conf: conf{4, "older"}, wantIndex: 10, wantConf: conf{5, "old"}, unchanged: true},
		{name: "a forced one has index 1", index: 10, term: 2, conf: conf{1, "forced"}, wantIndex: 10, wantConf: conf{1, "forced"}},
		{name: "a repeated configuration is ignored", index: 10, term: 2, conf: conf{5, "old"}, wantIndex: 10, wantConf: conf{5, "old"}, unchanged: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, slow(dir))
			s.Witness(10, 2, []byte("old"), 5)
			flush(t, s)
			flushes := s.Stats().Flushes
			s.Witness(tt.index, tt.term, []byte(tt.conf.data), tt.conf.index)
			flush(t, s)
			if did := s.Stats().Flushes > flushes; did == tt.unchanged {
				t.Errorf("flushed: %v", did)
			}
			crash(t, s)
			p := open(t, slow(dir)).Durable()
			if p.Index != tt.wantIndex || p.ConfigurationIndex != tt.wantConf.index || string(p.Configuration) != tt.wantConf.data {
				t.Errorf("stored position %+v", p)
			}
		})
	}
}

// A recovery's configuration does not advance the index. Comparing indexes to decide whether to flush would lose it.
func TestI8ForcedConfigurationIsFlushed(t *testing.T) {
	survives := func(t *testing.T, flush func(*store.Store, context.Context) error) bool {
		dir := t.TempDir()
		s := open(t, slow(dir))
		s.Witness(10, 2, []byte("dead cluster"), 5)
		if err := flush(s, t.Context()); err != nil {
			t.Fatal(err)
		}
		s.Witness(10, 2, []byte("me alone"), 1)
		if err := flush(s, t.Context()); err != nil {
			t.Fatal(err)
		}
		crash(t, s)
		return string(open(t, slow(dir)).Durable().Configuration) == "me alone"
	}
	if !survives(t, (*store.Store).Flush) {
		t.Error("the forced configuration is lost")
	}
	if survives(t, store.FlushByIndex) {
		t.Error("this test does not detect flushing by index")
	}
}

func TestFailedCommitIsTheLast(t *testing.T) {
	for _, file := range []string{"gen-1/state.db", "gen-1/log/1.db"} {
		t.Run(file, func(t *testing.T) {
			var fatal []error
			fail := false
			commits := 0
			opts := slow(t.TempDir())
			opts.Fatal = func(err error) { fatal = append(fatal, err) }
			failing := func(f string) error {
				commits++
				if fail && f == file {
					return errors.New("input/output error")
				}
				return nil
			}
			s := openFaulty(t, opts, failing)
			w, m := newWriter(), newModel()
			e := w.entry(t, publish("a", []byte("1")))
			apply(t, s, e)
			m.apply(t, e)
			flush(t, s)
			fail = true
			apply(t, s, w.entry(t, publish("a", []byte("2"))))
			if err := s.Flush(t.Context()); !errors.Is(err, store.ErrFailed) {
				t.Fatalf("flush: %v", err)
			}
			await(t, "the call of Fatal", func() bool { return s.Stats().Failed })
			fail = false // the disk seems to work again, but must not be trusted
			before := commits
			if err := s.Flush(t.Context()); !errors.Is(err, store.ErrFailed) {
				t.Errorf("second flush: %v", err)
			}
			if _, err := s.Apply([]store.Entry{w.entry(t, publish("a", []byte("3")))}); !errors.Is(err, store.ErrFailed) {
				t.Errorf("apply: %v", err)
			}
			if _, err := s.Snapshot(t.Context()); !errors.Is(err, store.ErrFailed) {
				t.Errorf("snapshot: %v", err)
			}
			if !s.Overloaded() {
				t.Error("accepts more work")
			}
			if d := s.Durable().Index; d != 1 {
				t.Errorf("durable %d, want 1", d)
			}
			if err := s.Close(); !errors.Is(err, store.ErrFailed) {
				t.Errorf("close: %v", err)
			}
			if commits != before || len(fatal) != 1 {
				t.Errorf("%d commits after the failed one, Fatal called %d times", commits-before, len(fatal))
			}
			m.check(t, open(t, slow(opts.Dir)))
		})
	}
}

func TestOverloaded(t *testing.T) {
	opts := slow(t.TempDir())
	opts.MaxUnflushedBytes = 1000
	s := open(t, opts)
	w := newWriter()
	apply(t, s, w.entry(t, publish("a", make([]byte, 100))))
	if s.Overloaded() {
		t.Fatal("overloaded by 100 bytes")
	}
	apply(t, s, w.entry(t, publish("a", make([]byte, 1000))))
	if !s.Overloaded() {
		t.Fatal("not overloaded")
	}
	flush(t, s)
	if s.Overloaded() || s.Stats().UnflushedBytes != 0 {
		t.Fatalf("overloaded after a flush: %+v", s.Stats())
	}
}

func TestClosedStore(t *testing.T) {
	s := open(t, slow(t.TempDir()))
	w := newWriter()
	apply(t, s, w.entry(t, publish("a", nil)))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, applyErr := s.Apply([]store.Entry{w.entry(t, publish("a", nil))})
	_, readErr := s.Read(1, 1, 1, 1)
	_, snapErr := s.Snapshot(context.Background())
	for what, err := range map[string]error{"apply": applyErr, "read": readErr, "snapshot": snapErr, "close": s.Close()} {
		if !errors.Is(err, store.ErrClosed) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// While a flush waits for the disk, everything else continues, and reads see what is being flushed.
func TestReadsAndAppliesContinueDuringAFlush(t *testing.T) {
	opts := slow(t.TempDir())
	opts.TailBytes = 1
	for _, file := range []string{"state.db", "1.db"} {
		t.Run(file, func(t *testing.T) {
			opts.Dir = t.TempDir()
			committing, goOn := make(chan struct{}), make(chan struct{})
			var once sync.Once
			held := func(f string) error {
				if filepath.Base(f) == file {
					once.Do(func() { close(committing); <-goOn })
				}
				return nil
			}
			s := openFaulty(t, opts, held)
			w, m := newWriter(), newModel()
			step := func() {
				e := w.entry(t, publish("a", []byte(fmt.Sprint(w.index))), request("a", "http://127.0.0.1/x"))
				apply(t, s, e)
				m.apply(t, e)
				m.check(t, s)
			}
			step()
			flushed := make(chan error, 1)
			go func() { flushed <- s.Flush(t.Context()) }()
			<-committing
			step()
			s.Witness(w.index, 1, []byte("servers"), 1)
			if s.Durable().Index != 0 {
				t.Error("durable before the commit")
			}
			s.TrimCandidates(time.Hour, 1, time.Now())
			s.Stats()
			close(goOn)
			if err := <-flushed; err != nil {
				t.Fatal(err)
			}
			if d := s.Durable().Index; d != 1 {
				t.Errorf("durable %d after the flush, want 1", d)
			}
			m.check(t, s)
			flush(t, s)
			crash(t, s)
			m.check(t, open(t, opts))
		})
	}
}
