package node

import (
	"errors"
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// memoryShare is how much of the memory that the process may have the Go heap may have. The rest is for what the runtime does not
// count, such as the pages of files that are being written.
const memoryShare = 0.9

// LimitMemory keeps the Go heap below the memory limit of the process's cgroup, so that the collector works harder before the kernel
// ends the process. A GOMEMLIMIT in the environment is left alone. available returns the limit of the cgroup (memlimit.FromCgroup).
func LimitMemory(log *slog.Logger, available func() (uint64, error)) {
	if given := os.Getenv("GOMEMLIMIT"); given != "" {
		log.Info("memory limit of the Go heap, from GOMEMLIMIT", "limit", given)
		return
	}
	n, err := available()
	switch {
	case errors.Is(err, memlimit.ErrNoLimit), errors.Is(err, memlimit.ErrNoCgroup), errors.Is(err, memlimit.ErrCgroupsNotSupported):
		return
	case err != nil:
		log.Warn("cannot read the memory limit of the cgroup; the Go heap has none", "error", err)
		return
	}
	limit := int64(float64(n) * memoryShare)
	debug.SetMemoryLimit(limit)
	log.Info("memory limit of the Go heap, from the cgroup", "limit", limit, "cgroup", n)
}

// CgroupMemory returns the memory limit of this process's cgroup.
func CgroupMemory() (uint64, error) { return memlimit.FromCgroup() }
