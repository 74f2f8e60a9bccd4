package bench

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func startSink(t *testing.T) *sink {
	t.Helper()
	s, err := newSink(newStopwatch())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// forwarder forwards every publish to the callbacks, as many times as copies says.
func forwarder(t *testing.T, s *sink, callbacks int, copies func(callback int, seq int64) int) target {
	t.Helper()
	var count atomic.Int64
	hub := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		n := count.Add(1) - 1
		for c := range callbacks {
			for range copies(c, n) {
				resp, err := http.Post(s.callback(c), "application/json", strings.NewReader(string(body)))
				if err != nil {
					t.Error(err)
					continue
				}
				resp.Body.Close()
			}
		}
	}))
	t.Cleanup(hub.Close)
	to, err := newTarget(hub.URL)
	if err != nil {
		t.Fatal(err)
	}
	return to
}

func TestSinkAndPublishersFindWhatAHubDoesWrong(t *testing.T) {
	const callbacks, messages = 3, 200
	for name, c := range map[string]struct {
		copies        func(callback int, n int64) int
		lost, doubled int64
	}{
		"all well":         {func(int, int64) int { return 1 }, 0, 0},
		"one lost":         {func(c int, n int64) int { return map[bool]int{true: 0, false: 1}[c == 1 && n == 50] }, 1, 0},
		"one doubled":      {func(c int, n int64) int { return map[bool]int{true: 2, false: 1}[c == 2 && n == 199] }, 0, 1},
		"lost and doubled": {func(c int, n int64) int { return map[bool]int{true: 0, false: 2}[n < 2] }, 6, 594},
	} {
		t.Run(name, func(t *testing.T) {
			s := startSink(t)
			st := &stage{tally: newTally(callbacks, messages)}
			s.set(st)
			p := newPool(4, s.clock)
			defer p.close()
			l := newLoad(messages)
			p.closedLoop(t.Context(), forwarder(t, s, callbacks, c.copies), l, messages)
			if l.accepted.Load() != messages || l.failed.Load() != 0 {
				t.Fatalf("accepted %d, failed %d: %v", l.accepted.Load(), l.failed.Load(), l.firstProblem())
			}
			if lost := st.tally.missing(l.acked, nil); int64(lost) != c.lost || st.tally.doubled.Load() != c.doubled {
				t.Fatalf("lost %d, doubled %d; want %d, %d", lost, st.tally.doubled.Load(), c.lost, c.doubled)
			}
			res := Result{Title: name, Lost: int64(st.tally.missing(l.acked, nil))}
			res.book(l, st.tally)
			if broken := res.broken() != ""; broken != (c.lost+c.doubled > 0) {
				t.Fatalf("broken: %q", res.broken())
			}
		})
	}
}

func TestPublisherRepeatsAfterRefusalOnly(t *testing.T) {
	var calls atomic.Int64
	answers := []int{503, 503, 200, 500, 200}
	hub := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(answers[calls.Add(1)-1])
	}))
	defer hub.Close()
	to, err := newTarget(hub.URL)
	if err != nil {
		t.Fatal(err)
	}
	p := newPool(1, newStopwatch())
	defer p.close()
	l := newLoad(3)
	p.closedLoop(t.Context(), to, l, 3)
	if l.accepted.Load() != 2 || l.refused.Load() != 2 || l.failed.Load() != 1 || l.acked.len() != 2 {
		t.Fatalf("accepted %d, refused %d, failed %d", l.accepted.Load(), l.refused.Load(), l.failed.Load())
	}
	if err := l.firstProblem(); err == nil || !strings.Contains(err.Error(), "got status 500") {
		t.Fatalf("got %v", err)
	}
}

func TestPacedPublishersKeepTheSchedule(t *testing.T) {
	s := startSink(t)
	st := &stage{tally: newTally(1, 41)}
	st.tally.latency = newLatencies(nil)
	s.set(st)
	to, err := newTarget(s.callback(0))
	if err != nil {
		t.Fatal(err)
	}
	p := newPool(4, s.clock)
	defer p.close()
	l := newLoad(41)
	p.closedLoop(t.Context(), to, l, 1) // as in a warm-up; its number must not be used again
	l.next.Store(1)
	began := time.Now()
	p.paced(t.Context(), to, l, 40, 400)
	if took := time.Since(began); took < 39*time.Second/400 {
		t.Fatalf("40 messages at 400/s took %v", took)
	}
	if st.tally.missing(l.acked, nil) != 0 || l.accepted.Load() != 41 || st.tally.latency.quantiles().Count != 41 {
		t.Fatal("not everything arrived")
	}
	if st.tally.doubled.Load() != 0 {
		t.Fatal("a number was used twice")
	}
}

// A hanging subscriber delays the messages behind it, and their latency must include the delay.
func TestPacedLatencyIncludesTheWait(t *testing.T) {
	s := startSink(t)
	var slow atomic.Bool
	slow.Store(true)
	st := &stage{tally: newTally(1, 20)}
	st.tally.latency = newLatencies(nil)
	s.set(st)
	gate := make(chan struct{})
	hub := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if slow.Swap(false) {
			<-gate
		}
		resp, err := http.Post(s.callback(0), "application/json", strings.NewReader(string(body)))
		if err == nil {
			resp.Body.Close()
		}
	}))
	defer hub.Close()
	to, err := newTarget(hub.URL)
	if err != nil {
		t.Fatal(err)
	}
	p := newPool(1, s.clock) // a single publisher, so that later messages wait for the first
	defer p.close()
	timer := time.AfterFunc(100*time.Millisecond, func() { close(gate) })
	defer timer.Stop()
	p.paced(t.Context(), to, newLoad(20), 20, 1000)
	if q := st.tally.latency.quantiles(); q.P50 < 80 {
		t.Fatalf("the latency excludes the wait for a stalled publisher: %v", q)
	}
}

func TestSinkConfirmsIntentAtTheEndOfTheQuery(t *testing.T) {
	s := startSink(t)
	st := &stage{tally: newTally(1, 1)}
	s.set(st)
	get := func(query string) string {
		resp, err := http.Get(s.callback(0) + "?" + query)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	q := url.Values{"hub.mode": {"x", "subscribe"}, "hub.challenge": {"old", "new"}}
	if got := get(q.Encode()); got != "new" || st.intent.Load() != 1 {
		t.Fatalf("got %q", got)
	}
	get("hub.mode=denied&hub.reason=no")
	if st.denied.Load() != 1 || st.intent.Load() != 1 {
		t.Fatal("a denial was counted as an intent")
	}
}

func TestSinkChecksSignatures(t *testing.T) {
	body := newMessages().body(0, 0)
	mac := hmac.New(sha256.New, []byte("right"))
	mac.Write(body)
	good := "sha256=" + hex.EncodeToString(mac.Sum(nil))
	st := &stage{tally: newTally(1, 1), secret: []byte("right")}
	for range 2 * signatureSample {
		if !st.signed(good, body) {
			t.Fatal("a valid signature was rejected")
		}
		if st.signed("", body) || st.signed("sha1=00", body) {
			t.Fatal("a delivery without a signature was accepted")
		}
	}
	wrong := 0
	for range 2 * signatureSample {
		if !st.signed("sha256=00", body) {
			wrong++
		}
	}
	if wrong != 2 {
		t.Fatalf("%d of %d bad signatures were found, want every %dth", wrong, 2*signatureSample, signatureSample)
	}
}

func TestMessagesAreJSONAndReadBack(t *testing.T) {
	m := newMessages()
	for _, c := range []struct {
		seq int
		at  time.Duration
	}{{0, 0}, {42, time.Second}, {math.MaxInt32, 1<<62 - 1}} {
		b := m.body(c.seq, c.at)
		if !json.Valid(b) || len(b) != messageSize {
			t.Fatalf("%d bytes of invalid JSON: %s", len(b), b)
		}
		if seq, at, ok := parse(b); !ok || seq != c.seq || at != c.at {
			t.Fatalf("got %d, %v, %v; want %d, %v", seq, at, ok, c.seq, c.at)
		}
	}
	for _, b := range [][]byte{nil, []byte("x"), make([]byte, messageSize)} {
		if _, _, ok := parse(b); ok {
			t.Errorf("%.20q was parsed as a message", b)
		}
	}
}

func TestRawMeasurementCountsAnswers(t *testing.T) {
	s := startSink(t)
	samples, err := measureRaw(t.Context(), s, 2, 200*time.Millisecond, nil)
	if err != nil || len(samples) != rawWindows {
		t.Fatalf("%v %v", samples, err)
	}
	if sp := spreadOf(samples); sp.Max <= 0 {
		t.Fatalf("no response was counted: %+v", sp)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := measureRaw(ctx, s, 2, time.Hour, newPlainPoster(2)); err == nil {
		t.Fatal("a cancelled measurement returned a figure")
	}
}
