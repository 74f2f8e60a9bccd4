package store_test

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"quorumhub/hub"
	"quorumhub/store"
)

// A flipped bit in a message of any segment is found after the next start without reading the message. The message is never
// served. Once marked, the store does not open until the damage is repaired.
func TestScrubFindsAFlippedBitInAnySegment(t *testing.T) {
	l := written(t)
	all := segments(t, l.opts.Dir)
	if len(all) < 3 {
		t.Fatalf("%d segments", len(all))
	}
	for _, file := range all {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		bad := bytes.Clone(data)
		for i := range bad { // in every page that may hold a body, including old copies
			if i%1000 == 500 && i > 16<<10 && bad[i] == bad[i-1] && bad[i] == bad[i+1] && bad[i] != 0 {
				bad[i] ^= 4
			}
		}
		if err := os.WriteFile(file, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		found := make(chan error, 8)
		opts := l.opts
		opts.Damaged = func(err error) { found <- err }
		s, err := store.Open(opts)
		if err != nil {
			t.Fatal(err)
		}
		damage := <-found
		if !errors.Is(damage, hub.ErrCorrupt) || !strings.Contains(damage.Error(), file) || !strings.Contains(damage.Error(), "new node id") || strings.Contains(damage.Error(), "\n") {
			t.Errorf("Damaged got %v", damage)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if verdict, _ := l.check(t, file); verdict != "" {
			t.Errorf("damage was served: %s", verdict)
		}
		if err := store.MarkDamaged(l.opts.Dir, damage); err != nil {
			t.Fatal(err)
		}
		if _, err := store.Open(l.opts); err == nil || refusal(err, file) != "" {
			t.Errorf("open after the mark: %v", err)
		}
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			open(t, l.opts).Close()
		}
	}
}

// Scrubbing an intact store finds no damage while it is written to and trimmed.
func TestScrubFindsNothingInAnIntactStore(t *testing.T) {
	l := written(t)
	opts := l.opts
	opts.Damaged = func(err error) { t.Error(err) }
	s := open(t, opts)
	w := newWriter()
	w.index = s.Applied().Index
	for i := range 30 {
		apply(t, s, w.entry(t, publish("a", bytes.Repeat([]byte{1}, 5000)), trim(1, uint64(i+1))))
		flush(t, s)
	}
	crash(t, s)
}
