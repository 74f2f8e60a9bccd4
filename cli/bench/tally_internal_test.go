package bench

import (
	"testing"
	"time"
)

// owes returns a tally of 3 callbacks and 130 messages in which everything has arrived once.
func owes() (*tally, *bitset) {
	t, owed := newTally(3, 130), newBitset(130)
	for seq := range 130 {
		owed.add(seq)
		for c := range 3 {
			t.arrived(c, seq, 0, time.Duration(seq))
		}
	}
	return t, owed
}

func TestTallyOfACompletePhase(t *testing.T) {
	got, owed := owes()
	if n := got.missing(owed, nil); n != 0 || got.doubled.Load() != 0 || got.first.Load() != 390 || owed.len() != 130 {
		t.Fatalf("missing %d, doubled %d, first %d, owed %d", n, got.doubled.Load(), got.first.Load(), owed.len())
	}
	if got.last.Load() != 129 {
		t.Fatalf("the last arrival was at %d, want 129", got.last.Load())
	}
}

func TestTallyFindsALostMessage(t *testing.T) {
	for _, lost := range []struct{ callback, seq int }{{0, 0}, {1, 63}, {1, 64}, {2, 129}} {
		got, owed := newTally(3, 130), newBitset(130)
		for seq := range 130 {
			owed.add(seq)
			for c := range 3 {
				if c != lost.callback || seq != lost.seq {
					got.arrived(c, seq, 0, 0)
				}
			}
		}
		if n := got.missing(owed, nil); n != 1 || got.has(lost.callback, lost.seq) {
			t.Errorf("%+v: missing %d, want 1", lost, n)
		}
		if n := got.missing(owed, func(c int) bool { return c == lost.callback }); n != 0 {
			t.Errorf("%+v: missing %d without that callback, want 0", lost, n)
		}
	}
}

func TestTallyFindsADoubledMessage(t *testing.T) {
	got, owed := owes()
	got.arrived(1, 77, 0, 500)
	if got.doubled.Load() != 1 || got.first.Load() != 390 || got.missing(owed, nil) != 0 {
		t.Fatalf("doubled %d, first %d", got.doubled.Load(), got.first.Load())
	}
	if got.last.Load() != 129 {
		t.Fatal("a duplicate moved the last arrival")
	}
	// The same message at another callback is not a duplicate.
	other := newTally(2, 10)
	other.arrived(0, 5, 0, 0)
	other.arrived(1, 5, 0, 0)
	if other.doubled.Load() != 0 {
		t.Fatal("one message at two callbacks was counted as a duplicate")
	}
}

func TestTallyWhatNobodySentIsForeign(t *testing.T) {
	got := newTally(1, 10)
	for _, at := range [][2]int{{-1, 0}, {1, 0}, {0, -1}, {0, 10}} {
		got.arrived(at[0], at[1], 0, 0)
	}
	if got.foreign.Load() != 4 || got.first.Load() != 0 {
		t.Fatalf("foreign %d, first %d; want 4, 0", got.foreign.Load(), got.first.Load())
	}
}

func TestTallyWhatWasNotAcknowledgedIsNotOwed(t *testing.T) {
	got, owed := newTally(1, 10), newBitset(10)
	owed.add(3)
	got.arrived(0, 3, 0, 0)
	got.arrived(0, 4, 0, 0)
	if n := got.missing(owed, nil); n != 0 {
		t.Fatalf("missing %d, want 0", n)
	}
}

func TestLatencyCountsFromTheSchedule(t *testing.T) {
	got := newTally(2, 200)
	got.latency = newLatencies(func(c int) bool { return c == 1 })
	got.latency.since.Store(int64(time.Second))
	for i := range 100 {
		at := time.Second + time.Duration(i)*time.Millisecond
		got.arrived(0, i, at, at+time.Duration(i+1)*time.Millisecond)
		got.arrived(1, i, at, at+time.Hour) // not counted: the callback is excluded
	}
	got.arrived(0, 150, 0, time.Hour) // not counted: scheduled before the start
	q := got.latency.quantiles()
	if q.Count != 100 || q.P50 < 49 || q.P50 > 51 || q.P99 < 98 || q.P99 > 100 || q.Max < 99.9 || q.Max > 100.2 {
		t.Fatalf("got %+v", q)
	}
}

func TestLatencyBeyondTheScaleIsKept(t *testing.T) {
	l := newLatencies(nil)
	l.record(0, 0, time.Hour)
	l.record(0, time.Hour, 0) // clocks that disagree are no reason to fail
	if q := l.quantiles(); q.Count != 2 || q.Max < 299_000 {
		t.Fatalf("got %+v", q)
	}
}

// With several topics in one tally, each callback is owed every k-th message and no other.
func TestTallyOfSeveralTopics(t *testing.T) {
	const topics, callbacks, messages = 8, 16, 200
	y := newTally(callbacks, messages)
	y.owed = func(callback int) uint64 { return every(topics, callback) }
	owed := newBitset(messages)
	for seq := range messages {
		owed.add(seq)
	}
	if n := y.missing(owed, nil); n != messages/topics*callbacks {
		t.Fatalf("%d pairs are owed, want %d", n, messages/topics*callbacks)
	}
	for callback := range callbacks {
		for seq := callback % topics; seq < messages; seq += topics {
			y.arrived(callback, seq, 0, 0)
		}
	}
	if n := y.missing(owed, nil); n != 0 || y.foreign.Load() != 0 || y.doubled.Load() != 0 {
		t.Errorf("%d missing, %d foreign, %d doubled", n, y.foreign.Load(), y.doubled.Load())
	}
	y.arrived(3, 4, 0, 0)
	if y.foreign.Load() != 1 {
		t.Error("a message of another topic is not noticed")
	}
}
