package sse_test

import (
	"bytes"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"quorumhub/hub"
	"quorumhub/web/sse"
)

// Readers of one message share its bytes, which are encoded once.
func TestFramesAreShared(t *testing.T) {
	var encoded atomic.Int32
	frames := sse.NewFrames(func(hub.TopicID, uint64) ([]byte, error) {
		encoded.Add(1)
		return bytes.Repeat([]byte("x"), 1000), nil
	})
	var wg sync.WaitGroup
	taken := make([]*sse.Frame, 100)
	for i := range taken {
		wg.Go(func() {
			fr, err := frames.Take(t.Context(), 1, 7)
			if err != nil {
				t.Error(err)
			}
			taken[i] = fr
		})
	}
	wg.Wait()
	if n := encoded.Load(); n != 1 || frames.Held() != 1000 {
		t.Errorf("encoded %d times, %d bytes held; want once and 1000", n, frames.Held())
	}
	for _, fr := range taken {
		frames.Release(fr)
	}
	if _, err := frames.Take(t.Context(), 1, 7); err != nil || encoded.Load() != 1 {
		t.Errorf("an idle frame was encoded again (%v)", err)
	}
}

// Idle frames are evicted, so that memory does not grow with the log.
func TestIdleFramesAreEvicted(t *testing.T) {
	const size = 1 << 20
	frames := sse.NewFrames(func(hub.TopicID, uint64) ([]byte, error) { return make([]byte, size), nil })
	for offset := range uint64(100) {
		fr, err := frames.Take(t.Context(), 1, offset)
		if err != nil {
			t.Fatal(err)
		}
		frames.Release(fr)
	}
	if held := frames.Held(); held > 4*size {
		t.Errorf("%d bytes held without readers", held)
	}
}

// An error is not cached.
func TestFrameErrors(t *testing.T) {
	fail := true
	frames := sse.NewFrames(func(hub.TopicID, uint64) ([]byte, error) {
		if fail {
			return nil, hub.ErrTrimmed
		}
		return []byte("x"), nil
	})
	if _, err := frames.Take(t.Context(), 1, 1); !errors.Is(err, hub.ErrTrimmed) {
		t.Errorf("got %v, want ErrTrimmed", err)
	}
	fail = false
	if fr, err := frames.Take(t.Context(), 1, 1); err != nil || string(fr.Bytes()) != "x" {
		t.Errorf("got %v after an error", err)
	}
}
