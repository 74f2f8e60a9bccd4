package node

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// The watchdog hears only of a node that is alive: one that is not, or does not say so in time, will be restarted.
func TestWatchdogHearsOnlyOfTheLiving(t *testing.T) {
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", conn.LocalAddr().String())
	t.Setenv("WATCHDOG_USEC", "30000")
	heard := func() bool {
		_ = conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		buf := make([]byte, 100)
		n, err := conn.Read(buf)
		return err == nil && string(buf[:n]) == "WATCHDOG=1"
	}
	var state atomic.Int32 // 0: alive, 1: an error, 2: no answer
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	log := new(strings.Builder)
	s := &supervisor{log: slog.New(slog.NewTextHandler(log, nil))}
	go func() {
		defer close(done)
		s.watch(ctx, func(ctx context.Context) error {
			switch state.Load() {
			case 1:
				return errors.New("the store is stuck")
			case 2:
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		})
	}()
	for n := range int32(3) {
		state.Store(n)
		for heard() && n > 0 { //nolint:revive // what was sent before
		}
		if got := heard(); got != (n == 0) {
			t.Errorf("in state %d it hears %t", n, got)
		}
	}
	cancel()
	<-done
	if !strings.Contains(log.String(), "the store is stuck") {
		t.Errorf("it logs %s", log)
	}
}

// Without systemd nothing is said, and nothing is asked.
func TestWithoutASupervisor(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "")
	s := &supervisor{log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	s.ready("serving")
	s.watch(t.Context(), func(context.Context) error { t.Error("asked"); return nil })
}
