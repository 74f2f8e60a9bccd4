package node

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// supervisor tells systemd how this process is doing (sd_notify(3)), if systemd has asked for it (Type=notify). Safe for concurrent
// use.
type supervisor struct {
	log  *slog.Logger
	mu   sync.Mutex
	once sync.Once // a broken socket is reported once
}

func (s *supervisor) say(state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := daemon.SdNotify(false, state); err != nil {
		s.once.Do(func() { s.log.Warn("cannot notify systemd", "error", err) })
	}
}

// ready says that the process answers its callers.
func (s *supervisor) ready(status string) { s.say(daemon.SdNotifyReady + "\nSTATUS=" + status) }

func (s *supervisor) reloading() {
	s.say(daemon.SdNotifyReloading + "\n" + daemon.SdNotifyMonotonicUsec() + "STATUS=reading configuration and files again")
}

func (s *supervisor) stopping(why string) { s.say(daemon.SdNotifyStopping + "\nSTATUS=" + why) }

// watch keeps systemd's watchdog (WatchdogSec=) quiet until ctx ends, as long as alive returns nil in time.
func (s *supervisor) watch(ctx context.Context, alive func(context.Context) error) {
	every, err := daemon.SdWatchdogEnabled(false)
	switch {
	case err != nil:
		s.log.Warn("cannot serve systemd's watchdog", "error", err)
		return
	case every == 0:
		return
	}
	tick := time.NewTicker(every / 3)
	defer tick.Stop()
	for {
		if err := patiently(ctx, every/3, alive); err == nil {
			s.say(daemon.SdNotifyWatchdog)
		} else if ctx.Err() == nil {
			s.log.Error("not alive; systemd's watchdog will restart this node unless that changes", "error", err, "watchdog", every)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func patiently(ctx context.Context, d time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return f(ctx)
}
