package hub_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"quorumhub/hub"
)

func TestThrottleSpendsAndRefills(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	th := hub.NewThrottle[string](10, now)
	rate := hub.Rate{Requests: 4, Per: time.Minute}
	for left := 3; left >= 0; left-- {
		if a := th.Spend("a", rate, now); !a.OK || a.Left != left || a.Wait != 0 {
			t.Fatalf("got %+v, want %d left", a, left)
		}
	}
	if a := th.Spend("a", rate, now); a.OK || a.Left != 0 || a.Wait != 15*time.Second || a.Full != time.Minute {
		t.Fatalf("got %+v, want a refusal for 15 s", a)
	}
	if a := th.Spend("b", rate, now); !a.OK {
		t.Error("another key was refused as well")
	}
	now = now.Add(15*time.Second - 1)
	if a := th.Spend("a", rate, now); a.OK || a.Wait != 1 {
		t.Errorf("a moment too early: got %+v", a)
	}
	now = now.Add(1)
	if a := th.Spend("a", rate, now); !a.OK || a.Left != 0 {
		t.Errorf("after a quarter of the time: got %+v, want one more request", a)
	}
	now = now.Add(time.Hour)
	if a := th.Spend("a", rate, now); !a.OK || a.Left != 3 || a.Full != 15*time.Second {
		t.Errorf("after an hour: got %+v, want a full bucket and no more", a)
	}
}

func TestThrottleWithoutLimitKeepsNoKeys(t *testing.T) {
	now := time.Now()
	th := hub.NewThrottle[int](10, now)
	for i := range 100 {
		if a := th.Spend(i, hub.Rate{}, now); !a.OK {
			t.Fatalf("refused: %+v", a)
		}
	}
	if th.Keys() != 0 {
		t.Errorf("%d keys are remembered", th.Keys())
	}
}

func TestThrottleBoundsItsKeys(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	th := hub.NewThrottle[int](100, now)
	rate := hub.Rate{Requests: 1, Per: time.Hour}
	th.Spend(-1, rate, now)
	for i := range 10_000 {
		th.Spend(i, rate, now)
		if a := th.Spend(-1, rate, now); a.OK {
			t.Fatalf("a key in constant use was evicted after %d others", i)
		}
	}
	if th.Keys() != 100 {
		t.Errorf("%d keys are remembered, want 100", th.Keys())
	}
	if a := th.Spend(0, rate, now); !a.OK {
		t.Error("the least recently used key is still remembered")
	}
}

func TestThrottleUnderConcurrency(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	th := hub.NewThrottle[int](4, now)
	var taken atomic.Int64
	var work sync.WaitGroup
	for range 8 {
		work.Go(func() {
			for range 1000 {
				if th.Spend(1, hub.Rate{Requests: 500, Per: time.Hour}, now).OK {
					taken.Add(1)
				}
			}
		})
	}
	work.Wait()
	if taken.Load() != 500 {
		t.Errorf("%d requests were accepted, want 500", taken.Load())
	}
}

// What is returned can be spent again, and nobody has more than a full bucket.
func TestThrottleReturns(t *testing.T) {
	begin := time.Unix(1000, 0)
	rate := hub.Rate{Requests: 2, Per: time.Hour}
	th := hub.NewThrottle[string](10, begin)
	th.Return("nobody", rate, begin)
	for range 5 {
		if !th.Spend("a", rate, begin).OK {
			t.Fatal("what was returned is not there")
		}
		th.Return("a", rate, begin)
	}
	th.Return("a", rate, begin)
	for i, want := range []bool{true, true, false} {
		if got := th.Spend("a", rate, begin).OK; got != want {
			t.Errorf("request %d: %v, want %v", i+1, got, want)
		}
	}
}
