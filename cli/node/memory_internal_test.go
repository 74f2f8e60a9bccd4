package node

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

func TestMemoryLimitOfTheCgroup(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	for _, c := range []struct {
		name, env string
		available uint64
		err       error
		limit     int64 // 0: as before
		says      string
	}{
		{"a limit", "", 1 << 30, nil, 966367641, "limit=966367641 cgroup=1073741824"},
		{"GOMEMLIMIT", "300MiB", 1 << 30, nil, 0, "limit=300MiB"},
		{"no limit", "", 0, memlimit.ErrNoLimit, 0, ""},
		{"no cgroup", "", 0, fmt.Errorf("wrapped: %w", memlimit.ErrNoCgroup), 0, ""},
		{"unreadable", "", 0, errors.New("permission denied"), 0, "permission denied"},
	} {
		debug.SetMemoryLimit(before)
		t.Setenv("GOMEMLIMIT", c.env)
		log := new(strings.Builder)
		LimitMemory(slog.New(slog.NewTextHandler(log, nil)), func() (uint64, error) { return c.available, c.err })
		want := c.limit
		if want == 0 {
			want = before
		}
		if got := debug.SetMemoryLimit(-1); got != want || !strings.Contains(log.String(), c.says) || (log.Len() > 0) != (c.says != "") {
			t.Errorf("%s: the limit is %d, want %d; it logs %q", c.name, got, want, log)
		}
	}
}
