package retry_test

import (
	"fmt"
	"time"

	"quorumhub/delivery/retry"
)

// Without a schedule, the ceiling of the waits doubles up to Max. Random picks the longest waits here; by default they
// are uniformly random below the ceiling.
func ExampleBackoff_Delay() {
	longest := func(n int64) int64 { return n - 1 }
	b := retry.Backoff{Initial: time.Second, Max: 10 * time.Second, Random: longest}
	for n := 1; n <= 5; n++ {
		fmt.Println(b.Delay(n, 0))
	}
	fmt.Println("Retry-After:", b.Delay(1, time.Minute))
	// Output:
	// 1s
	// 2s
	// 4s
	// 8s
	// 10s
	// Retry-After: 1m0s
}

// A schedule lists the waits; the last one repeats. Random picks the middle here; by default each wait is varied by up
// to a fifth either way.
func ExampleBackoff_Delay_schedule() {
	middle := func(n int64) int64 { return n / 2 }
	b := retry.Backoff{Schedule: []time.Duration{5 * time.Second, time.Minute, time.Hour}, Random: middle}
	for n := 1; n <= 4; n++ {
		fmt.Println(b.Delay(n, 0))
	}
	// Output:
	// 5s
	// 1m0s
	// 1h0m0s
	// 1h0m0s
}
