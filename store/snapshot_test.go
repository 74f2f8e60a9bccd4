package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/store"
)

// snapshot takes a snapshot and reads all of it.
func snapshot(t testing.TB, s *store.Store) []byte {
	t.Helper()
	snap, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer snap.Close()
	b, err := io.ReadAll(snap)
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(b)) != snap.Size {
		t.Fatalf("snapshot of %d bytes, announced %d", len(b), snap.Size)
	}
	return b
}

func receive(t testing.TB, s *store.Store, stream []byte) *store.Incoming {
	t.Helper()
	in, err := s.Receive(bytes.NewReader(stream))
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// contentOf installs a stream into a fresh store.
func contentOf(t testing.TB, stream []byte) *store.Store {
	t.Helper()
	s := open(t, slow(t.TempDir()))
	in := receive(t, s, stream)
	if err := s.Install(in); err != nil {
		t.Fatal(err)
	}
	return s
}

// A snapshot's position matches its bytes, whatever is applied and flushed meanwhile.
func TestI8SnapshotIndexMatchesBytes(t *testing.T) {
	// mismatches takes snapshots while entries are applied and flushed, and counts those whose position does not match
	// their state: every entry publishes one message, so the head equals the index.
	mismatches := func(t *testing.T, take func(*store.Store, context.Context) (*store.Snapshot, error)) int {
		opts := slow(t.TempDir())
		opts.FlushInterval = time.Millisecond
		s := open(t, opts)
		w := newWriter()
		stop, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			for {
				select {
				case <-stop:
					return
				default:
					if _, err := s.Apply([]store.Entry{w.entry(t, publish("a", make([]byte, 100)))}); err != nil {
						t.Error(err)
						return
					}
				}
			}
		}()
		bad := 0
		for range 8 {
			snap, err := take(s, t.Context())
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(snap)
			if err != nil {
				t.Fatal(err)
			}
			snap.Close()
			other := open(t, slow(t.TempDir()))
			in, err := other.Receive(bytes.NewReader(b))
			if err != nil {
				bad++ // the files themselves contradict the manifest
				continue
			}
			if err := other.Install(in); err != nil {
				t.Fatal(err)
			}
			var head uint64
			other.View(func(st *hub.State) { head = st.Head(1) })
			if head != snap.Position.Index || other.Applied().Index != head {
				bad++
			}
			crash(t, other)
		}
		close(stop)
		<-done
		return bad
	}
	if n := mismatches(t, (*store.Store).Snapshot); n > 0 {
		t.Errorf("%d snapshots with a wrong position", n)
	}
	if mismatches(t, store.SnapshotFromMemory) == 0 {
		t.Error("this test does not detect a position taken from memory")
	}
}

func TestI8SnapshotHoldsEverythingDurable(t *testing.T) {
	opts := slow(t.TempDir())
	opts.SegmentBytes = 1 // every flush makes a segment
	s := open(t, opts)
	w, m := newWriter(), newModel()
	for i := range 5 {
		e := w.entry(t, publish("a", bytes.Repeat([]byte{byte(i)}, 3000)), request("a", "http://127.0.0.1/1"))
		apply(t, s, e)
		m.apply(t, e)
		flush(t, s)
	}
	s.Witness(9, 4, []byte("servers"), 7)
	flush(t, s)
	w.index = 9
	stream := snapshot(t, s)
	apply(t, s, w.entry(t, publish("a", []byte("not in it"))))
	other := contentOf(t, stream)
	m.index = 9
	m.check(t, other)
	p := other.Durable()
	if p.Term != 4 || p.ConfigurationIndex != 7 || string(p.Configuration) != "servers" {
		t.Errorf("position %+v", p)
	}
	if got := other.Stats(); got.Segments != 5 {
		t.Errorf("%d segments, want 5", got.Segments)
	}
	// The store continues from there.
	e := w.entry(t, publish("a", []byte("next")))
	apply(t, other, e)
	m.apply(t, e)
	flush(t, other)
	m.check(t, other)
}

func TestSnapshotEndsWithItsContextAndTheStore(t *testing.T) {
	s := open(t, slow(t.TempDir()))
	w := newWriter()
	apply(t, s, w.entry(t, publish("a", make([]byte, 2<<20))))
	flush(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	snap, err := s.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if n := s.Stats().OpenSnapshots; n != 1 {
		t.Errorf("%d open snapshots, want 1", n)
	}
	cancel()
	if _, err := io.ReadAll(snap); !errors.Is(err, context.Canceled) {
		t.Errorf("read after cancel: %v", err)
	}
	snap.Close()
	if n := s.Stats().OpenSnapshots; n != 0 {
		t.Errorf("%d open snapshots, want 0", n)
	}
	left, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(left); !errors.Is(err, store.ErrClosed) {
		t.Errorf("read after the store was closed: %v", err)
	}
}

func TestReceiveRefusesADamagedStream(t *testing.T) {
	opts := slow(t.TempDir())
	s := open(t, opts)
	w := newWriter()
	apply(t, s, w.entry(t, publish("a", make([]byte, 5000))))
	flush(t, s)
	stream := snapshot(t, s)
	tests := map[string][]byte{
		"empty":              nil,
		"other magic":        append([]byte("x"), stream...),
		"truncated manifest": stream[:60],
		"truncated file":     stream[:len(stream)/2],
		"truncated at end":   stream[:len(stream)-1],
		"path outside":       bytes.Replace(stream, []byte(`"log/1.db"`), []byte(`"../../x"`), 1),
	}
	for _, at := range []int{25, 60, len(stream) / 3, len(stream) - 20, len(stream) - 1} {
		bad := bytes.Clone(stream)
		bad[at] ^= 0x10
		tests[fmt.Sprintf("flipped bit at %d", at)] = bad
	}
	for name, stream := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := s.Receive(bytes.NewReader(stream))
			var c *store.CorruptError
			if !errors.As(err, &c) {
				t.Fatalf("received: %v", err)
			}
			if left, _ := filepath.Glob(filepath.Join(opts.Dir, "new-*")); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
	in := receive(t, s, stream)
	if err := in.Discard(); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(opts.Dir, "new-*")); len(left) > 0 {
		t.Errorf("left behind by Discard: %v", left)
	}
	if err := s.Install(in); err == nil {
		t.Error("installed after Discard")
	}
}

// Readers of the old files continue while a snapshot is installed, and the last of them deletes the files.
func TestI8InstallDoesNotWaitForReaders(t *testing.T) {
	dir := t.TempDir()
	s := open(t, slow(dir))
	w, m := newWriter(), newModel()
	e := w.entry(t, publish("a", bytes.Repeat([]byte("old"), 1<<20)))
	apply(t, s, e)
	m.apply(t, e)
	flush(t, s)
	reader, err := s.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	installs := 0
	s.OnInstall(func() { installs++ })
	for i := range 3 {
		if err := s.Install(receive(t, s, snapshot(t, s))); err != nil {
			t.Fatal(err)
		}
		m.check(t, s)
		if installs != i+1 {
			t.Fatalf("notified of %d installs, want %d", installs, i+1)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "gen-1")); err != nil {
		t.Errorf("files with a reader were deleted: %v", err)
	}
	b, err := io.ReadAll(reader)
	if err != nil {
		t.Fatalf("reading after the installs: %v", err)
	}
	reader.Close()
	await(t, "the removal of the old files", func() bool {
		gens, _ := filepath.Glob(filepath.Join(dir, "gen-*"))
		return len(gens) == 1
	})
	m.check(t, contentOf(t, b))
	// The installed generation is still current after a restart.
	crash(t, s)
	m.check(t, open(t, slow(dir)))
}

// A flush of the old generation in progress during an Install neither counts for the new generation nor writes to it.
func TestI8FlushRacingInstall(t *testing.T) {
	// race blocks a flush in its commit, installs a snapshot meanwhile, and returns what is wrong afterwards.
	race := func(t *testing.T, install func(*store.Store, *store.Incoming) error, flushOnce func(*store.Store, context.Context) error, waits bool) string {
		source := open(t, slow(t.TempDir()))
		w, m := newWriter(), newModel()
		first := w.entry(t, publish("a", []byte("1")))
		apply(t, source, first)
		m.apply(t, first)
		flush(t, source)
		stream := snapshot(t, source) // at index 1

		dir := t.TempDir()
		opts := slow(dir)
		committing, goOn := make(chan struct{}), make(chan struct{})
		var once sync.Once
		armed := atomic.Bool{}
		held := func(file string) error {
			if armed.Load() && strings.HasSuffix(file, "state.db") {
				once.Do(func() { close(committing); <-goOn })
			}
			return nil
		}
		s := openFaulty(t, opts, held)
		armed.Store(true)
		second := w.entry(t, publish("a", []byte("2"))) // index 2, which the snapshot does not contain
		third := second
		third.Index = 7
		apply(t, s, third)
		flushed := make(chan error, 1)
		go func() { flushed <- flushOnce(s, t.Context()) }()
		<-committing
		in := receive(t, s, stream)
		installed := make(chan error, 1)
		go func() { installed <- install(s, in) }()
		if !waits {
			if err := <-installed; err != nil {
				t.Fatal(err)
			}
			close(goOn)
		} else {
			select {
			case <-installed:
				t.Error("Install did not wait for the flush")
			case <-time.After(50 * time.Millisecond):
			}
			close(goOn)
			if err := <-installed; err != nil {
				t.Fatal(err)
			}
		}
		if err := <-flushed; err != nil {
			t.Fatal(err)
		}
		await(t, "the end of the flush", func() bool { return s.Stats().Flushes > 0 })
		if d := s.Durable().Index; d != 1 {
			return fmt.Sprintf("claims to be at index %d, but the files are at 1", d)
		}
		if d := m.difference(t, s); d != "" {
			return d
		}
		crash(t, s)
		return m.difference(t, open(t, slow(dir)))
	}
	if d := race(t, (*store.Store).Install, (*store.Store).Flush, true); d != "" {
		t.Error(d)
	}
	if d := race(t, store.InstallDuringFlush, (*store.Store).Flush, false); d != "" {
		t.Errorf("with only the generation check: %s", d)
	}
	if race(t, store.InstallDuringFlush, store.FlushWhateverIsCurrent, false) == "" {
		t.Error("this test does not detect a flush that counts for the wrong generation")
	}
}

func TestFailedSwitchInInstallIsADiskError(t *testing.T) {
	dir := t.TempDir()
	opts := slow(dir)
	var fatal int
	opts.Fatal = func(error) { fatal++ }
	failing := func(file string) error {
		if file == "CURRENT" {
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
	in := receive(t, s, snapshot(t, s))
	if err := s.Install(in); !errors.Is(err, store.ErrFailed) || fatal != 1 {
		t.Fatalf("install: %v; Fatal called %d times", err, fatal)
	}
	in.Discard()
	crash(t, s)
	m.check(t, open(t, slow(dir)))
}
