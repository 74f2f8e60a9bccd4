package sse_test

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/web/sse"
)

// Readers of one message share its bytes, which are encoded once.
func TestFramesAreShared(t *testing.T) {
	var encoded atomic.Int32
	frames := sse.NewFrames(1<<20, func(hub.TopicID, uint64) ([]byte, error) {
		encoded.Add(1)
		return bytes.Repeat([]byte("x"), 1000), nil
	})
	var wg sync.WaitGroup
	taken := make([]*sse.Frame, 100)
	for i := range taken {
		wg.Go(func() {
			fr, err := frames.Take(t.Context(), "reader", 1, 7)
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
	if _, err := frames.Take(t.Context(), "reader", 1, 7); err != nil || encoded.Load() != 1 {
		t.Errorf("an idle frame was encoded again (%v)", err)
	}
}

// Idle frames are evicted, so that memory does not grow with the log.
func TestIdleFramesAreEvicted(t *testing.T) {
	const size = 1 << 20
	frames := sse.NewFrames(1<<20, func(hub.TopicID, uint64) ([]byte, error) { return make([]byte, size), nil })
	for offset := range uint64(100) {
		fr, err := frames.Take(t.Context(), "reader", 1, offset)
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
	frames := sse.NewFrames(1<<20, func(hub.TopicID, uint64) ([]byte, error) {
		if fail {
			return nil, hub.ErrTrimmed
		}
		return []byte("x"), nil
	})
	if _, err := frames.Take(t.Context(), "reader", 1, 1); !errors.Is(err, hub.ErrTrimmed) {
		t.Errorf("got %v, want ErrTrimmed", err)
	}
	fail = false
	if fr, err := frames.Take(t.Context(), "reader", 1, 1); err != nil || string(fr.Bytes()) != "x" {
		t.Errorf("got %v after an error", err)
	}
}

// Thousands of readers that reconnect at once at different places do not make more frames than there is room for.
func TestFramesAreCountedBeforeTheyAreMade(t *testing.T) {
	const size, readers = 1 << 20, 500
	var making, most atomic.Int64
	frames := sse.NewFrames(size, func(hub.TopicID, uint64) ([]byte, error) {
		now := making.Add(1)
		for {
			if seen := most.Load(); now <= seen || most.CompareAndSwap(seen, now) {
				break
			}
		}
		defer making.Add(-1)
		b := make([]byte, size)
		runtime.Gosched()
		return b, nil
	})
	var wg sync.WaitGroup
	var using, peak atomic.Int64
	for i := range uint64(readers) {
		wg.Go(func() {
			fr, err := frames.Take(t.Context(), i%100, 1, i)
			if err != nil {
				t.Error(err)
				return
			}
			now := using.Add(1)
			for {
				if seen := peak.Load(); now <= seen || peak.CompareAndSwap(seen, now) {
					break
				}
			}
			runtime.Gosched()
			using.Add(-1)
			frames.Release(fr)
		})
	}
	wg.Wait()
	if n := most.Load() * size; n > 64<<20 {
		t.Errorf("%d bytes were made at once", n)
	}
	if n := peak.Load() * size; n > 64<<20 {
		t.Errorf("%d bytes were in use at once", n)
	}
	if held := frames.Held(); held > 4<<20 {
		t.Errorf("%d bytes are held without readers", held)
	}
}

// A crowd of one owner that holds on to its frames leaves room for others.
func TestOwnersHaveAShareOfTheFrames(t *testing.T) {
	const size = 1 << 20
	frames := sse.NewFrames(size, func(hub.TopicID, uint64) ([]byte, error) { return make([]byte, size), nil })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	taken := 0
	for i := range uint64(100) {
		if _, err := frames.Take(ctx, "slow", 1, i); err != nil {
			break
		}
		taken++
	}
	if taken != 8 {
		t.Errorf("one owner holds %d MiB of 64", taken)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := frames.Take(ctx, "other", 2, 1); err != nil {
		t.Errorf("another owner: %v", err)
	}
	if _, err := frames.Take(ctx, "slow", 2, 1); err != nil {
		t.Errorf("what another one has made is shared: %v", err)
	}
}
