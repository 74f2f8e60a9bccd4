package hubtest

import (
	"fmt"
	"testing"
	"time"
)

// Patience is how long a condition may take before a test gives up. It is generous because the machine may be
// busy; a condition that becomes true is noticed at once.
const Patience = 20 * time.Second

const pollEvery = 10 * time.Millisecond

// Eventually calls check until it returns nil, and fails the test with check's last error after Patience.
func Eventually(tb testing.TB, what string, check func() error) {
	tb.Helper()
	EventuallyWithin(tb, Patience, what, check)
}

// EventuallyWithin is Eventually with its own deadline.
func EventuallyWithin(tb testing.TB, within time.Duration, what string, check func() error) {
	tb.Helper()
	if err := poll(within, check); err != nil {
		tb.Fatalf("%s: did not happen within %v: %v", what, within, err)
	}
}

func poll(within time.Duration, check func() error) error {
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			return err
		}
	}
}

// Quiet fails the test when count changes during window. It is the last resort: use it only once something
// requested later has been seen to happen.
func Quiet(tb testing.TB, window time.Duration, what string, count func() int) {
	tb.Helper()
	before := count()
	err := poll(window, func() error {
		if now := count(); now != before {
			return nil
		}
		return fmt.Errorf("still %d", before)
	})
	if err == nil {
		tb.Fatalf("%s: %d before, %d within %v", what, before, count(), window)
	}
}

// Pause lets time pass in a client or server that is slow on purpose. To wait for something, use Eventually; to show
// that nothing happens, use Quiet.
func Pause(d time.Duration) { time.Sleep(d) }

// Until waits for a moment that the test knows from the hub, such as the end of a lease.
func Until(tb testing.TB, moment time.Time) {
	tb.Helper()
	timer := time.NewTimer(time.Until(moment))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-tb.Context().Done():
	}
}

// FreeAddrs returns n loopback addresses whose ports are free, each of which it returns only once. Where the machine has more
// loopback addresses than one, nothing but this process and what it starts uses theirs: an outgoing connection of somebody else
// would take such a port at 127.0.0.1 before a node listens there, or while it restarts.
func FreeAddrs(n int) ([]string, error) { return freeAddrs(processHost(), n) }

func freeAddrs(host string, n int) ([]string, error) {
	addrs := make([]string, n)
	for i := range addrs {
		l, err := listenOnce(host)
		if err != nil {
			return nil, err
		}
		defer l.Close()
		addrs[i] = l.Addr().String()
	}
	return addrs, nil
}

// ClosedAddr returns a loopback address that nobody listens on.
func ClosedAddr(tb testing.TB) string {
	tb.Helper()
	addrs, err := FreeAddrs(1)
	if err != nil {
		tb.Fatal(err)
	}
	return addrs[0]
}
