package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/store"
)

// clock is a test's own clock.
type clock struct{ ns atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(0, c.ns.Load()) }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }

func newClock() *clock {
	c := &clock{}
	c.ns.Store(newWriter().now)
	return c
}

// diskBytes returns the disk space that files below dir actually use.
func diskBytes(t *testing.T, dir string) int64 {
	t.Helper()
	var n int64
	for _, f := range files(t, dir, ".db") {
		var st syscall.Stat_t
		if err := syscall.Stat(f, &st); err != nil {
			t.Fatal(err)
		}
		n += st.Blocks * 512
	}
	return n
}

func trimEvent(trims []hub.Trim) *hubpb.Event {
	e := &hubpb.LogTrimmed{Reason: "retention"}
	for _, r := range trims {
		e.Ranges = append(e.Ranges, &hubpb.LogTrimmed_Range{Topic: uint64(r.Topic), Through: r.Through})
	}
	return &hubpb.Event{Kind: &hubpb.Event_LogTrimmed{LogTrimmed: e}}
}

// filled returns a store of ten segments, each with messages of two topics. between is called after each segment.
func filled(t *testing.T, opts store.Options, between ...func()) (*store.Store, *writer, *model) {
	t.Helper()
	s := open(t, opts)
	w, m := fill(t, s, between...)
	return s, w, m
}

func fill(t *testing.T, s *store.Store, between ...func()) (*writer, *model) {
	t.Helper()
	w, m := newWriter(), newModel()
	for i := range 10 {
		for range 20 {
			e := w.entry(t, publish("a", bytes.Repeat([]byte{byte(i)}, 10_000)), publish("b", []byte{byte(i)}))
			apply(t, s, e)
			m.apply(t, e)
		}
		flush(t, s)
		for _, f := range between {
			f()
		}
	}
	return w, m
}

func TestRetentionFreesDiskSpace(t *testing.T) {
	opts := slow(t.TempDir())
	opts.SegmentBytes, opts.TailBytes = 1, 1
	s, w, m := filled(t, opts)
	before := diskBytes(t, opts.Dir)
	if n := len(segments(t, opts.Dir)); n != 10 {
		t.Fatalf("%d segments, want 10", n)
	}
	size := s.Stats().SegmentBytes
	trims := s.TrimCandidates(0, size/2, time.Unix(0, w.now))
	if len(trims) != 2 || trims[0].Topic != 1 || trims[1].Topic != 2 || trims[0].Through != trims[1].Through {
		t.Fatalf("candidates %+v", trims)
	}
	e := w.entry(t, trimEvent(trims))
	apply(t, s, e)
	m.apply(t, e)
	m.check(t, s)
	if n := len(segments(t, opts.Dir)); n != 10 {
		t.Errorf("%d segments before the trim is durable, want 10", n)
	}
	flush(t, s)
	m.check(t, s)
	if n := len(segments(t, opts.Dir)); n > 5 || n < 4 {
		t.Errorf("%d segments left, want about half of 10", n)
	}
	if after := diskBytes(t, opts.Dir); after > before*6/10 {
		t.Errorf("%d bytes on disk after the trim, %d before", after, before)
	}
	if got := s.Stats().SegmentBytes; got > size/2 {
		t.Errorf("%d bytes in segments, want at most %d", got, size/2)
	}
	crash(t, s)
	m.check(t, open(t, opts))
}

func TestTrimCandidates(t *testing.T) {
	c := newClock()
	opts := slow(t.TempDir())
	opts.SegmentAge, opts.Now = 20*time.Second, c.now
	// One entry per second, 20 s per segment; the tenth is the active one.
	s, _, _ := filled(t, opts, func() { c.advance(20 * time.Second) })
	at := func(seconds int) time.Time {
		return time.Unix(0, newWriter().now).Add(time.Duration(seconds) * time.Second)
	}
	through := func(trims []hub.Trim) []uint64 {
		var out []uint64
		for _, r := range trims {
			out = append(out, r.Through)
		}
		return out
	}
	tests := []struct {
		name     string
		maxAge   time.Duration
		maxBytes int64
		now      time.Time
		want     []uint64
	}{
		{"no limit", 0, 0, at(190), nil},
		{"nothing is old", time.Minute, 0, at(60), nil},
		{"two segments are old", time.Minute, 0, at(101), []uint64{40, 40}},
		{"all but the active one are old", time.Second, 0, at(190), []uint64{180, 180}},
		{"far below the size limit", 0, 1 << 40, at(0), nil},
		{"far above the size limit", 0, 1, at(0), []uint64{180, 180}},
		{"an active segment past its age is sealed", time.Second, 0, at(202), []uint64{200, 200}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := through(s.TrimCandidates(tt.maxAge, tt.maxBytes, tt.now)); !slices.Equal(got, tt.want) {
				t.Errorf("through %v, want %v", got, tt.want)
			}
		})
	}
}

// A segment whose messages all belong to removed topics is removed too.
func TestRetentionAfterDeregistration(t *testing.T) {
	opts := slow(t.TempDir())
	opts.SegmentBytes = 1
	s, w, m := filled(t, opts)
	for _, topic := range []string{"a", "b"} {
		e := w.entry(t, deregister(topic))
		apply(t, s, e)
		m.apply(t, e)
	}
	flush(t, s)
	m.check(t, s)
	if left := segments(t, opts.Dir); len(left) > 1 {
		t.Errorf("left: %v", left)
	}
	crash(t, s)
	m.check(t, open(t, opts))
}

// Files are unlinked only after the trim that emptied them is durable: otherwise a crash in between would leave a state that
// lacks messages.
func TestI1UnlinkAfterTheTrimIsDurable(t *testing.T) {
	reopens := func(t *testing.T, before func(*store.Store) error) error {
		opts := slow(t.TempDir())
		opts.SegmentBytes = 1
		fail := false
		s := openFaulty(t, opts, func(string) error {
			if fail {
				return errors.New("power failure")
			}
			return nil
		})
		w, _ := fill(t, s)
		apply(t, s, w.entry(t, trim(1, 100), trim(2, 100)))
		if err := before(s); err != nil {
			t.Fatal(err)
		}
		fail = true
		if err := s.Flush(t.Context()); err == nil {
			t.Fatal("flushed")
		}
		crash(t, s)
		s, err := store.Open(slow(opts.Dir))
		if err == nil {
			crash(t, s)
		}
		return err
	}
	if err := reopens(t, func(*store.Store) error { return nil }); err != nil {
		t.Error(err)
	}
	if err := reopens(t, store.UnlinkEarly); !errors.Is(err, hub.ErrCorrupt) {
		t.Errorf("this test does not detect early unlinking: %v", err)
	}
}

// A reader can finish reading a file that is unlinked meanwhile.
func TestUnlinkedSegmentIsReadToTheEnd(t *testing.T) {
	opts := slow(t.TempDir())
	opts.SegmentBytes, opts.TailBytes = 1, 1
	s, w, m := filled(t, opts)
	snap, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Close()
	apply(t, s, w.entry(t, trim(1, 190), trim(2, 190)))
	flush(t, s)
	if left := segments(t, opts.Dir); len(left) != 1 {
		t.Fatalf("left: %v", left)
	}
	other := open(t, slow(t.TempDir()))
	in, err := other.Receive(snap)
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Install(in); err != nil {
		t.Fatal(err)
	}
	m.check(t, other)
}

// A trim moves cursors past the gap and counts it, durably.
func TestI9CursorGapIsDurable(t *testing.T) {
	opts := slow(t.TempDir())
	s := open(t, opts)
	w, m := newWriter(), newModel()
	for _, e := range []store.Entry{
		w.entry(t, request("a", "http://127.0.0.1/x")), w.entry(t, verified(1, 0, w.now)),
		w.entry(t, publish("a", []byte("1")), publish("a", []byte("2")), publish("a", []byte("3"))),
		w.entry(t, advance(1, 1)), w.entry(t, trim(1, 2)),
	} {
		apply(t, s, e)
		m.apply(t, e)
	}
	flush(t, s)
	crash(t, s)
	s = open(t, opts)
	m.check(t, s)
	s.View(func(st *hub.State) {
		sub, _ := st.Subscription(1)
		if sub.Cursor.Offset != 2 || sub.Cursor.Gap != 1 || st.GapMessages() != 1 {
			t.Errorf("cursor %+v, %d in all", sub.Cursor, st.GapMessages())
		}
	})
	if _, err := s.Read(1, 2, 10, 100); !errors.Is(err, hub.ErrTrimmed) {
		t.Errorf("reading a trimmed message: %v", err)
	}
}

func TestReadLimits(t *testing.T) {
	for name, tail := range map[string]int64{"from memory": 1 << 30, "from disk": 1, "from both": 3 * 260} {
		t.Run(name, func(t *testing.T) {
			opts := slow(t.TempDir())
			opts.TailBytes = tail
			s := open(t, opts)
			w := newWriter()
			for range 10 {
				apply(t, s, w.entry(t, publish("a", make([]byte, 100))))
			}
			flush(t, s)
			apply(t, s, w.entry(t, &hubpb.Event{Kind: &hubpb.Event_TopicRegistered{TopicRegistered: &hubpb.TopicRegistered{Topic: "empty"}}}))
			tests := []struct {
				topic         hub.TopicID
				from          uint64
				max, maxBytes int
				want          int
				err           error
			}{
				{1, 1, 100, 1 << 20, 10, nil},
				{1, 4, 100, 1 << 20, 7, nil},
				{1, 4, 3, 1 << 20, 3, nil},
				{1, 1, 100, 350, 3, nil},
				{1, 1, 100, 300, 3, nil},
				{1, 6, 100, 1, 1, nil}, // at least one
				{1, 11, 100, 1 << 20, 0, nil},
				{1, 99, 100, 1 << 20, 0, nil},
				{2, 1, 100, 1 << 20, 0, nil},
				{3, 1, 100, 1 << 20, 0, hub.ErrUnknownTopic},
			}
			for _, tt := range tests {
				msgs, err := s.Read(tt.topic, tt.from, tt.max, tt.maxBytes)
				if len(msgs) != tt.want || !errors.Is(err, tt.err) {
					t.Errorf("Read(%d, %d, %d, %d) returned %d messages and %v, want %d and %v",
						tt.topic, tt.from, tt.max, tt.maxBytes, len(msgs), err, tt.want, tt.err)
				}
				for i, m := range msgs {
					if m.Offset != tt.from+uint64(i) {
						t.Errorf("message %d of the read from %d has offset %d", i, tt.from, m.Offset)
					}
				}
			}
		})
	}
}

// Readers at any distance from the head see every message once and in order, while messages are applied, flushed, evicted from
// memory and trimmed.
func TestI2ReadersDuringFlushesTrimsAndInstalls(t *testing.T) {
	const total = 2000
	opts := store.Options{Dir: t.TempDir(), FlushInterval: time.Millisecond, TailBytes: 20 << 10, SegmentBytes: 50 << 10}
	s := open(t, opts)
	body := func(offset uint64) []byte { return bytes.Repeat([]byte(fmt.Sprint(offset, ".")), 20) }
	var wg sync.WaitGroup
	var passed [6]atomic.Uint64 // offset that each lane has passed
	for lane := range 6 {
		wg.Go(func() {
			next := uint64(1)
			for next <= total {
				msgs, err := s.Read(1, next, 1+lane*7, 1<<20)
				if err != nil && !errors.Is(err, hub.ErrUnknownTopic) {
					t.Errorf("lane %d at %d: %v", lane, next, err)
					return
				}
				for _, m := range msgs {
					if m.Offset != next || !bytes.Equal(m.Body, body(next)) {
						t.Errorf("lane %d: message %d with body %q, want %d", lane, m.Offset, m.Body, next)
						return
					}
					next++
				}
				passed[lane].Store(next - 1)
				if len(msgs) == 0 {
					runtime.Gosched()
				}
			}
		})
	}
	w := newWriter()
	for i := 1; i <= total; i++ {
		events := []*hubpb.Event{publish("a", body(uint64(i)))}
		if i%50 == 0 {
			through := uint64(total)
			for lane := range passed {
				through = min(through, passed[lane].Load())
			}
			events = append(events, trim(1, through))
		}
		apply(t, s, w.entry(t, events...))
		if i%100 == 0 {
			flush(t, s)
		}
	}
	wg.Wait()
	flush(t, s)
	if st := s.Stats(); st.TailBytes > opts.TailBytes {
		t.Errorf("%d bytes in memory, limit %d", st.TailBytes, opts.TailBytes)
	}
	if left := segments(t, opts.Dir); len(left) == 1 && filepath.Base(left[0]) == "1.db" {
		t.Error("the log was only one segment")
	}
}
