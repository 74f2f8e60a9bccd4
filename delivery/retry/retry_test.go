package retry_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"quorumhub/delivery/retry"
	"quorumhub/hub"
)

func TestBackoffCeilings(t *testing.T) {
	most := func(n int64) int64 { return n - 1 }
	b := retry.Backoff{Initial: time.Second, Max: 10 * time.Second, Random: most}
	for n, want := range map[int]time.Duration{
		0: time.Second, 1: time.Second, 2: 2 * time.Second, 3: 4 * time.Second, 4: 8 * time.Second,
		5: 10 * time.Second, 1000: 10 * time.Second,
	} {
		if got := b.Delay(n, 0); got != want {
			t.Errorf("ceiling %d = %v, want %v", n, got, want)
		}
	}
}

func TestBackoffFullJitter(t *testing.T) {
	b := retry.Backoff{Initial: time.Second, Max: time.Minute}
	var low, high int
	for range 2000 {
		d := b.Delay(4, 0)
		if d < 0 || d > 8*time.Second {
			t.Fatalf("delay %v outside 0..8s", d)
		}
		if d < 2*time.Second {
			low++
		}
		if d > 6*time.Second {
			high++
		}
	}
	if low < 300 || high < 300 { // 500 expected of each
		t.Errorf("not spread evenly: %d of 2000 in the lowest quarter, %d in the highest", low, high)
	}
}

func TestBackoffRetryAfterIsMaxOfScheduleAndHeader(t *testing.T) {
	half := func(n int64) int64 { return n / 2 }
	b := retry.Backoff{Initial: 10 * time.Second, Max: time.Minute, Random: half}
	for header, want := range map[time.Duration]time.Duration{
		0: 5 * time.Second, time.Second: 5 * time.Second, 30 * time.Second: 30 * time.Second,
		30 * time.Minute: 30 * time.Minute, 100 * time.Hour: time.Hour,
	} {
		if got := b.Delay(1, header); got != want {
			t.Errorf("Retry-After %v: %v, want %v", header, got, want)
		}
	}
}

// TestPolicyDelayBounds tries many schedules, exponential and explicit, with everything that may be added to them.
func TestPolicyDelayBounds(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	some := func(most time.Duration) time.Duration { return 1 + time.Duration(random.Int64N(int64(most))) }
	for range 20_000 {
		p := retry.Policy{Backoff: retry.Backoff{Initial: some(time.Hour), Random: random.Int64N}}
		p.Backoff.Max = p.Backoff.Initial + some(24*time.Hour)
		if random.IntN(2) == 0 {
			p.Backoff.Max = 0
			for range 1 + random.IntN(16) {
				p.Backoff.Schedule = append(p.Backoff.Schedule, some(30*24*time.Hour))
			}
		}
		var o *hub.Options
		switch random.IntN(3) {
		case 1:
			o = &hub.Options{MaxInterval: time.Duration(1+random.IntN(86_400)) * time.Second}
		case 2:
			o = &hub.Options{Schedule: fmt.Sprint(1+random.IntN(86_400), ",", 1+random.IntN(86_400))}
			o.Schedule = string(slices.DeleteFunc([]byte(o.Schedule), func(c byte) bool { return c == ' ' }))
		}
		if random.IntN(4) > 0 {
			p.OverloadWait = some(2 * time.Hour)
		}
		var f retry.Failure
		if random.IntN(3) == 0 {
			f.RetryAfter = some(2 * retry.MaxAfter)
		}
		n, overloads := 1+random.IntN(100), uint8(random.IntN(4))
		f.InARow, f.Overloads = uint64(n), overloads

		// The bounds follow from the settings alone.
		var low, high, longest time.Duration
		steps := p.Backoff.Schedule
		if o != nil && o.Schedule != "" {
			steps = o.Waits()
		}
		if len(steps) > 0 {
			step := steps[min(n, len(steps))-1]
			low, high, longest = step*8/10, step*12/10+1, slices.Max(steps)
			if o != nil && o.MaxInterval > 0 {
				low, high, longest = min(low, o.MaxInterval), min(high, o.MaxInterval), min(longest, o.MaxInterval)
			}
		} else {
			longest = p.Backoff.Max
			if longest == 0 {
				longest = time.Hour
			}
			if o != nil && o.MaxInterval > 0 {
				longest = o.MaxInterval
			}
			high = longest
		}
		asked := min(f.RetryAfter, retry.MaxAfter)
		low, high = max(low, asked), max(high, asked)
		if overloads >= 2 && f.RetryAfter == 0 {
			least := min(p.OverloadWait, longest)
			low, high = max(low, least), max(high, min(least+least/5, longest))
		}
		if d := p.With(o).Delay(f); d < low || d > high {
			t.Fatalf("%+v, %+v: wait %d, with %d overloads and Retry-After %v, is %v, want %v to %v", p, o, n, overloads, f.RetryAfter, d, low, high)
		}
	}
}
