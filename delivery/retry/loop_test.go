package retry_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"quorumhub/delivery/retry"
)

// Wakes before the loop looks are one, Close waits for all goroutines, and a loop that never began closes at once.
func TestLoop(t *testing.T) {
	retry.NewLoop().Close()
	synctest.Test(t, func(t *testing.T) {
		l := retry.NewLoop()
		l.Wake()
		l.Wake()
		var rounds, ended atomic.Int32
		l.Begin(t.Context(), func() {
			for {
				select {
				case <-l.Woken():
					rounds.Add(1)
					l.Go(func() {
						<-l.Context().Done()
						ended.Add(1)
					})
				case <-l.Done():
					if !l.Closing() {
						t.Error("it is done, but not closing")
					}
					return
				}
			}
		})
		synctest.Wait()
		if rounds.Load() != 1 {
			t.Errorf("%d rounds after two wakes, want 1", rounds.Load())
		}
		l.Wake()
		synctest.Wait()
		l.Close()
		if rounds.Load() != 2 || ended.Load() != 2 {
			t.Errorf("%d rounds, %d goroutines have ended; want 2", rounds.Load(), ended.Load())
		}
	})
	synctest.Test(t, func(t *testing.T) { // the context that it is given ends it, too
		ctx, cancel := context.WithCancel(t.Context())
		l := retry.NewLoop()
		l.Begin(ctx, func() { <-l.Done() })
		cancel()
		synctest.Wait()
		l.Close()
	})
}
