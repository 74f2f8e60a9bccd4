package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/store"
)

// ledger records what a store held at each durable position.
type ledger struct {
	opts     store.Options
	rows     map[uint64]map[string]string // by index
	messages map[hub.TopicID][]hub.Message
}

// written creates a store of several segments, closes it, and returns what it held.
func written(t *testing.T) *ledger {
	t.Helper()
	l := &ledger{opts: slow(t.TempDir()), rows: map[uint64]map[string]string{}}
	l.opts.SegmentBytes = 64 << 10
	l.opts.TailBytes = 1
	s := open(t, l.opts)
	w, m := newWriter(), newModel()
	flush := func() {
		flush(t, s)
		l.rows[s.Durable().Index] = rows(t, m.state)
	}
	for i := range 60 {
		e := w.entry(t,
			publish("a", bytes.Repeat([]byte{byte(i)}, 3000)), publish(fmt.Sprint("t", i%5), []byte(fmt.Sprint(i))),
			request("a", fmt.Sprint("http://127.0.0.1/", i)), verified(uint64(i+1), 0, w.now))
		apply(t, s, e)
		m.apply(t, e)
		if i%10 == 9 {
			flush()
		}
	}
	l.messages = m.messages
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	l.rows[0] = map[string]string{string(hub.RowKey{Table: hub.TableMeta}.Append(nil)): ""}
	return l
}

// check opens the store and reads everything. The verdict is "" if everything is either correct or refused with a
// CorruptError that names file, and says what is wrong otherwise.
func (l *ledger) check(t *testing.T, file string) (verdict string, refused bool) {
	t.Helper()
	s, err := store.Open(l.opts)
	if err != nil {
		return refusal(err, file), true
	}
	defer s.Crash()
	want, ok := l.rows[s.Applied().Index]
	if !ok {
		return fmt.Sprintf("opened at index %d, which was never durable", s.Applied().Index), false
	}
	var got map[string]string
	s.View(func(st *hub.State) { got = rows(t, st) })
	for k, v := range want {
		if got[k] != v {
			return fmt.Sprintf("row %x is %q, want %q", k, got[k], v), false
		}
	}
	if len(got) != len(want) {
		return fmt.Sprintf("%d rows, want %d", len(got), len(want)), false
	}
	var topics []hub.Topic
	s.View(func(st *hub.State) { topics = st.Topics(0, 0) })
	for _, topic := range topics {
		for offset := topic.First; offset <= topic.Head; offset++ {
			msgs, err := s.Read(topic.ID, offset, 1, 1)
			if err != nil {
				if v := refusal(err, file); v != "" {
					return v, true
				}
				refused = true
				continue
			}
			if d := sameMessages(msgs, l.messages[topic.ID][offset-1:offset]); d != "" {
				return d, false
			}
		}
	}
	return "", refused
}

func putByte(t *testing.T, file string, at int, b byte) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte{b}, int64(at))
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func refusal(err error, file string) string {
	var c *store.CorruptError
	if !errors.As(err, &c) || !errors.Is(err, hub.ErrCorrupt) {
		return fmt.Sprintf("not a CorruptError: %v", err)
	}
	if file != "" && !strings.Contains(c.File, file) && !strings.Contains(c.Problem, file) {
		return fmt.Sprintf("does not name %s: %v", file, err)
	}
	if c.Hint == "" {
		return "the error has no hint"
	}
	return ""
}

// A flipped bit anywhere in any file is refused or has no effect: what is served is always what was written.
func TestI8FlippedBitIsNeverServed(t *testing.T) {
	l := written(t)
	report, err := store.Inspect(l.opts.Dir)
	if err != nil || len(report.Problems) > 0 {
		t.Fatalf("inspection of intact files: %v, %v", err, report)
	}
	all := files(t, l.opts.Dir, "")
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	refusals, found := 0, 0
	for _, file := range all {
		whole, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		used := len(bytes.TrimRight(whole, "\x00"))
		for i := range 24 {
			at := rng.IntN(used)
			switch i % 4 {
			case 0:
				at = rng.IntN(min(used, 256)) // a meta page
			case 1:
				at = (at&^4095 + rng.IntN(200)) % used // a page's header and elements
			}
			putByte(t, file, at, whole[at]^1<<(i%8))
			verdict, refused := l.check(t, "")
			if verdict != "" {
				t.Errorf("%s, bit %d of byte %d flipped: %s", file, i%8, at, verdict)
			}
			if report, err := store.Inspect(l.opts.Dir); err != nil || len(report.Problems) > 0 {
				found++
			} else if refused {
				t.Errorf("%s, byte %d: Inspect finds no problem", file, at)
			}
			if refused {
				refusals++
			}
			putByte(t, file, at, whole[at])
		}
	}
	if refusals < 20 {
		t.Errorf("only %d cases of damage were detected; the checks do not work", refusals)
	}
	t.Logf("%d files, %d refusals, %d found by Inspect", len(all), refusals, found)
	if verdict, refused := l.check(t, ""); verdict != "" || refused {
		t.Errorf("intact again, but: %s", verdict)
	}
}

func TestI8DamagedFileIsRefusedAtOpen(t *testing.T) {
	truncate := func(n int64) func(string) error { return func(f string) error { return os.Truncate(f, n) } }
	tests := []struct {
		name, file string
		damage     func(file string) error
	}{
		{"state empty", "gen-1/state.db", truncate(0)},
		{"state truncated inside its meta pages", "gen-1/state.db", truncate(5000)},
		{"state truncated", "gen-1/state.db", truncate(20 << 10)},
		{"state missing", "gen-1/state.db", os.Remove},
		{"state is something else", "gen-1/state.db", func(f string) error { return os.WriteFile(f, bytes.Repeat([]byte("x"), 1<<16), 0o600) }},
		{"segment empty", "gen-1/log/2.db", truncate(0)},
		{"segment truncated", "gen-1/log/2.db", truncate(30 << 10)},
		{"first segment missing", "gen-1/log", func(f string) error { return os.Remove(f + "/1.db") }},
		{"last segment missing", "gen-1/log", func(f string) error {
			all, err := filepath.Glob(f + "/*.db")
			if err != nil {
				return err
			}
			return os.Remove(all[len(all)-1])
		}},
		{"log directory missing", "gen-1/log", os.RemoveAll},
		{"generation missing", "gen-1", os.RemoveAll},
		{"CURRENT missing", "CURRENT", os.Remove},
		{"CURRENT empty", "CURRENT", truncate(0)},
		{"CURRENT names another", "CURRENT", func(f string) error { return os.WriteFile(f, []byte("gen-2 00000000\n"), 0o600) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := written(t)
			if err := tt.damage(filepath.Join(l.opts.Dir, tt.file)); err != nil {
				t.Fatal(err)
			}
			verdict, refused := l.check(t, tt.file)
			if verdict != "" || !refused {
				t.Fatalf("refused: %v; %s", refused, verdict)
			}
		})
	}
}

func TestI8DamageWhileRunningIsNeverServed(t *testing.T) {
	for name, damage := range map[string]func(file string, size int64) error{
		"flipped": func(file string, size int64) error {
			f, err := os.OpenFile(file, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			b := make([]byte, 1)
			for at := int64(16 << 10); at < size; at += 512 {
				if _, err := f.ReadAt(b, at); err != nil {
					return err
				}
				b[0] ^= 4
				if _, err := f.WriteAt(b, at); err != nil {
					return err
				}
			}
			return nil
		},
		"truncated": func(file string, size int64) error { return os.Truncate(file, 16<<10) },
	} {
		t.Run(name, func(t *testing.T) {
			opts := slow(t.TempDir())
			opts.TailBytes = 1
			s := open(t, opts)
			w, m := newWriter(), newModel()
			for i := range 50 {
				e := w.entry(t, publish("a", bytes.Repeat([]byte{byte(i)}, 2000)))
				apply(t, s, e)
				m.apply(t, e)
			}
			flush(t, s)
			m.check(t, s)
			file := segments(t, opts.Dir)[0]
			info, err := os.Stat(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := damage(file, min(info.Size(), 100<<10)); err != nil {
				t.Fatal(err)
			}
			refused := 0
			for offset := uint64(1); offset <= 50; offset++ {
				msgs, err := s.Read(1, offset, 1, 1)
				if err == nil {
					if d := sameMessages(msgs, m.messages[1][offset-1:offset]); d != "" {
						t.Fatal(d)
					}
					continue
				}
				if v := refusal(err, "log/1.db"); v != "" {
					t.Fatal(v)
				}
				refused++
			}
			if refused == 0 {
				t.Error("nothing was refused; the damage had no effect")
			}
		})
	}
}

func TestOpenNamesTheFileAnotherProcessHolds(t *testing.T) {
	opts := slow(t.TempDir())
	s := open(t, opts)
	w, m := newWriter(), newModel()
	e := w.entry(t, publish("a", nil))
	apply(t, s, e)
	m.apply(t, e)
	flush(t, s)
	_, err := store.Open(opts)
	if err == nil || errors.Is(err, hub.ErrCorrupt) || !strings.Contains(err.Error(), filepath.Join(opts.Dir, "gen-1", "state.db")) ||
		!strings.Contains(err.Error(), "another process") {
		t.Fatalf("opened twice: %v", err)
	}
	if _, err := store.Inspect(opts.Dir); err == nil {
		t.Error("Inspect read a running node")
	}
	m.check(t, s)
}

// The next start deletes what an interrupted first start left behind.
func TestOpenAfterAnInterruptedFirstStart(t *testing.T) {
	opts := slow(t.TempDir())
	crash(t, open(t, opts))
	if err := os.Remove(filepath.Join(opts.Dir, "CURRENT")); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"new-gen-7/log", "gen-1/log"} {
		if err := os.MkdirAll(filepath.Join(opts.Dir, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"new-gen-7/state.db", "gen-1/log/1.db.tmp", "CURRENT.tmp"} {
		if err := os.WriteFile(filepath.Join(opts.Dir, f), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, opts)
	if s.Applied().Index != 0 {
		t.Errorf("position %+v", s.Applied())
	}
	if left := files(t, opts.Dir, "state.db"); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
}

// A crash between the commits of messages and state leaves messages beyond the position. They are not served, and a replay
// writes them again.
func TestI8CrashBetweenTheTwoCommits(t *testing.T) {
	for _, segmentBytes := range []int64{1, 1 << 20} {
		opts := slow(t.TempDir())
		opts.SegmentBytes, opts.TailBytes = segmentBytes, 1
		fail := false
		powerLoss := func(file string) error {
			if fail && strings.HasSuffix(file, "state.db") {
				return errors.New("power failure")
			}
			return nil
		}
		s := openFaulty(t, opts, powerLoss)
		w, m := newWriter(), newModel()
		first := w.entry(t, publish("a", []byte("1")), publish("b", []byte("1")))
		apply(t, s, first)
		m.apply(t, first)
		flush(t, s)
		lost := []store.Entry{w.entry(t, publish("a", []byte("2"))), w.entry(t, publish("a", []byte("3")), publish("c", []byte("1")))}
		apply(t, s, lost...)
		fail = true
		if err := s.Flush(t.Context()); err == nil {
			t.Fatal("flushed")
		}
		crash(t, s)
		fail = false

		s = open(t, opts)
		m.check(t, s)
		for _, e := range lost {
			apply(t, s, e)
			m.apply(t, e)
			flush(t, s)
			m.check(t, s)
		}
		crash(t, s)
		s = open(t, opts)
		m.check(t, s)
		crash(t, s)
	}
}
