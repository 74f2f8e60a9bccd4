package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/store"
)

// logged returns the apparent size of the files of the message log.
func logged(t *testing.T, dir string) (n int64) {
	t.Helper()
	for _, f := range segments(t, dir) {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		n += info.Size()
	}
	return n
}

// large returns the entries of a message of 1 MB, whose body is stored in parts.
func large(t *testing.T, w *writer, i int) (out []store.Entry) {
	t.Helper()
	const size, parts = 250_000, 4
	blob := fmt.Sprint("blob", i)
	for n := range parts {
		out = append(out, w.entry(t, part(blob, n, bytes.Repeat([]byte{byte(i)}, size))))
	}
	return append(out, w.entry(t, publishBlob("a", blob, parts, parts*size)))
}

// What is kept stays close to the limit, however little that is and however much one flush writes.
func TestRetentionStaysCloseToItsLimit(t *testing.T) {
	const limit = 5 << 20
	for _, tt := range []struct {
		name     string
		messages int
		perFlush int
		entries  func(w *writer, i int) []store.Entry
	}{
		{"messages of 1 MB", 60, 1, func(w *writer, i int) []store.Entry { return large(t, w, i) }},
		{"messages of 1 MB, many in a flush", 60, 20, func(w *writer, i int) []store.Entry { return large(t, w, i) }},
		{"messages of 100 kB", 300, 1, func(w *writer, i int) []store.Entry {
			return []store.Entry{w.entry(t, publish("a", bytes.Repeat([]byte{byte(i)}, 100_000)))}
		}},
		{"messages of 100 kB, many in a flush", 300, 150, func(w *writer, i int) []store.Entry {
			return []store.Entry{w.entry(t, publish("a", bytes.Repeat([]byte{byte(i)}, 100_000)))}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			opts := slow(t.TempDir())
			opts.RetainBytes, opts.TailBytes = limit, 1
			s, w, m := open(t, opts), newWriter(), newModel()
			for i := range tt.messages {
				for _, e := range tt.entries(w, i) {
					apply(t, s, e)
					m.apply(t, e)
				}
				if i%tt.perFlush < tt.perFlush-1 {
					continue
				}
				flush(t, s)
				select {
				case <-s.Grown():
				default:
					continue
				}
				trims := s.TrimCandidates(0, limit, time.Unix(0, w.now))
				if len(trims) == 0 {
					continue
				}
				e := w.entry(t, trimEvent(trims))
				apply(t, s, e)
				m.apply(t, e)
				flush(t, s)
				if got := s.Stats().SegmentBytes; got > limit*5/4 || got < limit/2 {
					t.Fatalf("%d bytes in segments after %d messages, the limit is %d", got, i+1, limit)
				}
			}
			if got := diskBytes(t, opts.Dir); got > limit*3/2 {
				t.Errorf("%d bytes on disk, the limit is %d", got, limit)
			}
			if got := logged(t, opts.Dir); got > limit*2 {
				t.Errorf("files of %d bytes, the limit is %d", got, limit)
			}
			if len(m.parts) > 0 {
				return // reading them takes the model long
			}
			m.check(t, s)
			crash(t, s)
			m.check(t, open(t, opts))
		})
	}
}

// Where messages end says nothing about where segments do: one whose messages are dropped may hold parts of the next message.
// Retention comes to its limit nevertheless, drops no more than it must, and comes to an end.
func TestRetentionOfStraddlingMessagesEnds(t *testing.T) {
	const limit = 5 << 20
	for _, perFlush := range []int{1, 2, 3, 4, 7} {
		t.Run(fmt.Sprint(perFlush, " entries in a flush"), func(t *testing.T) {
			opts := slow(t.TempDir())
			opts.RetainBytes, opts.TailBytes = limit, 1
			s, w := open(t, opts), newWriter()
			apply(t, s, w.entry(t, levelSet())) // parts are kept by use
			entries := 0
			for i := range 40 {
				if i > 20 { // every boundary is met
					rounds := 0
					for ; rounds < 10; rounds++ {
						select {
						case <-s.Grown():
						default:
						}
						trims := s.TrimCandidates(0, limit, time.Unix(0, w.now))
						if len(trims) == 0 {
							break
						}
						apply(t, s, w.entry(t, trimEvent(trims)))
						flush(t, s)
					}
					if got := s.Stats().SegmentBytes; got > limit || got < limit/2 || rounds == 10 {
						t.Fatalf("%d bytes in segments after %d messages and %d rounds, the limit is %d", got, i, rounds, limit)
					}
				}
				for _, e := range large(t, w, i) {
					apply(t, s, e)
					if entries++; entries%perFlush == 0 {
						flush(t, s)
					}
				}
			}
		})
	}
}

// Whatever a flush that was divided among segments had written when the process ended: nothing is lost, and what is written
// again leaves no holes.
func TestI1DividedFlushSurvivesACrash(t *testing.T) {
	for failAt := 1; ; failAt++ {
		opts := slow(t.TempDir())
		opts.RetainBytes, opts.TailBytes = 1, 1 // segments of 64 KiB
		commits, failed := 0, false
		s := openFaulty(t, opts, func(string) error {
			if commits++; commits == failAt {
				failed = true
				return errors.New("power failure")
			}
			return nil
		})
		w, m := newWriter(), newModel()
		var entries []store.Entry
		for i := range 30 {
			e := w.entry(t, publish("a", bytes.Repeat([]byte{byte(i)}, 10_000)), publish(fmt.Sprint("t", i%3), []byte(fmt.Sprint(i))))
			entries = append(entries, e)
			if i%5 == 0 {
				blob := fmt.Sprint("blob", i)
				entries = append(entries, w.entry(t, part(blob, 0, bytes.Repeat([]byte{byte(i)}, 3000))), w.entry(t, publishBlob("a", blob, 1, 3000)))
			}
		}
		m.apply(t, entries...)
		apply(t, s, entries...)
		if err := s.Flush(t.Context()); (err != nil) != failed {
			t.Fatalf("commit %d: %v", failAt, err)
		}
		if failed && failAt == 1 && commits == 1 && len(segments(t, opts.Dir)) == 0 {
			t.Fatal("no segment was begun")
		}
		crash(t, s)
		s = open(t, opts)
		for len(entries) > 0 && entries[0].Index <= s.Durable().Index {
			entries = entries[1:]
		}
		for len(entries) > 0 { // flushes end elsewhere than before
			n := min(7, len(entries))
			apply(t, s, entries[:n]...)
			entries = entries[n:]
			flush(t, s)
		}
		m.check(t, s)
		crash(t, s)
		s = open(t, opts)
		m.check(t, s)
		for _, d := range []uint64{10, 20, 36} {
			e := w.entry(t, trim(1, d), trim(2, d/3), trim(3, d/3), trim(4, d/3))
			apply(t, s, e)
			m.apply(t, e)
			flush(t, s)
			m.check(t, s)
		}
		if !failed {
			if failAt < 5 {
				t.Fatalf("the flush took %d commits only", failAt-1)
			}
			return
		}
	}
}

// The active segment goes, too, once nothing in it is retained.
func TestRetentionFreesTheActiveSegment(t *testing.T) {
	opts := slow(t.TempDir())
	s, w, m := filled(t, opts)
	if n := len(segments(t, opts.Dir)); n != 1 {
		t.Fatalf("%d segments, want 1", n)
	}
	for _, topic := range []string{"a", "b"} {
		e := w.entry(t, deregister(topic))
		apply(t, s, e)
		m.apply(t, e)
	}
	flush(t, s)
	if left := segments(t, opts.Dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	m.check(t, s)
}

// A short age seals segments soon enough.
func TestRetentionOfAShortAge(t *testing.T) {
	c := newClock()
	opts := slow(t.TempDir())
	opts.RetainAge, opts.Now = 40*time.Second, c.now
	s, _, _ := filled(t, opts, func() { c.advance(20 * time.Second) })
	trims := s.TrimCandidates(opts.RetainAge, 0, time.Unix(0, newWriter().now).Add(210*time.Second))
	if len(trims) != 2 || trims[0] != (hub.Trim{Topic: 1, Through: 160}) {
		t.Errorf("trims %+v, want through 160 of 200, a message a second", trims)
	}
}
