package delivery_test

import (
	"testing"
	"time"

	"quorumhub/delivery"
)

func TestBackoffCeilings(t *testing.T) {
	most := func(n int64) int64 { return n - 1 }
	b := delivery.Backoff{Initial: time.Second, Max: 10 * time.Second, Random: most}
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
	b := delivery.Backoff{Initial: time.Second, Max: time.Minute}
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
	b := delivery.Backoff{Initial: 10 * time.Second, Max: time.Minute, Random: half}
	for header, want := range map[time.Duration]time.Duration{
		0: 5 * time.Second, time.Second: 5 * time.Second, 30 * time.Second: 30 * time.Second,
		30 * time.Minute: 30 * time.Minute, 100 * time.Hour: time.Hour,
	} {
		if got := b.Delay(1, header); got != want {
			t.Errorf("Retry-After %v: %v, want %v", header, got, want)
		}
	}
}
