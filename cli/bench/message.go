package bench

import (
	"strconv"
	"time"
)

// messageSize is the size of every published body in bytes.
const messageSize = 1024

// A body is JSON in a fixed layout, which the sink can read without a parser:
//
//	{"seq":"000000000042","at":"0000000001234567890","fill":"..."}
//
// seq counts from 0 in each phase; at is the scheduled time in nanoseconds since the start of the stopwatch.
const (
	seqAt, seqDigits = 8, 12
	atAt, atDigits   = seqAt + seqDigits + 8, 19
)

// messages makes bodies.
type messages struct{ template []byte }

func newMessages() messages {
	t := make([]byte, 0, messageSize)
	t = append(t, `{"seq":"`...)
	t = append(t, zeros(seqDigits)...)
	t = append(t, `","at":"`...)
	t = append(t, zeros(atDigits)...)
	t = append(t, `","fill":"`...)
	const letters = "the quick brown fox jumps over the lazy dog, "
	for len(t) < messageSize-2 {
		t = append(t, letters[len(t)%len(letters)])
	}
	return messages{append(t, `"}`...)}
}

func zeros(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = '0'
	}
	return b
}

// body returns message seq, scheduled at the given time.
func (m messages) body(seq int, at time.Duration) []byte {
	b := append([]byte(nil), m.template...)
	putDigits(b[seqAt:seqAt+seqDigits], int64(seq))
	putDigits(b[atAt:atAt+atDigits], int64(at))
	return b
}

func putDigits(b []byte, n int64) {
	for i := len(b) - 1; i >= 0 && n > 0; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
}

// parse returns the number and the scheduled time of a body; ok is false for any other body.
func parse(b []byte) (seq int, at time.Duration, ok bool) {
	if len(b) != messageSize {
		return 0, 0, false
	}
	n, err := strconv.ParseInt(string(b[seqAt:seqAt+seqDigits]), 10, 64)
	if err != nil || n < 0 {
		return 0, 0, false
	}
	t, err := strconv.ParseInt(string(b[atAt:atAt+atDigits]), 10, 64)
	if err != nil {
		return 0, 0, false
	}
	return int(n), time.Duration(t), true
}

// stopwatch is the clock of a run. Publishers and sink share it, so latencies do not depend on the wall clock.
type stopwatch struct{ start time.Time }

func newStopwatch() stopwatch { return stopwatch{time.Now()} }

func (s stopwatch) now() time.Duration { return time.Since(s.start) }
