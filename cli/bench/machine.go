package bench

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Machine describes what the figures depend on.
type Machine struct {
	CPUs       int     `json:"cpus"`
	Model      string  `json:"model,omitempty"`
	MemoryGiB  float64 `json:"memory_gib"`
	Kernel     string  `json:"kernel"`
	Go         string  `json:"go"`
	Filesystem string  `json:"filesystem"` // of the data
	Fdatasync  float64 `json:"fdatasync_p50_ms"`
	Load       float64 `json:"load"` // the one-minute load average before the start
}

// busy is the load per processor above which other programs distort the figures.
const busy = 0.5

func (m Machine) String() string {
	text := fmt.Sprintf("%d CPUs, %.0f GiB, Linux %s, %s; data on %s, fdatasync of 4 KiB %.2f ms",
		m.CPUs, m.MemoryGiB, m.Kernel, m.Go, m.Filesystem, m.Fdatasync)
	if m.Load > busy*float64(m.CPUs) {
		text += fmt.Sprintf("; other programs were running (load %.1f), so the figures may be too low", m.Load)
	}
	return text
}

func thisMachine(dir string) (Machine, error) {
	if dir == "" {
		dir = os.TempDir()
	}
	m := Machine{CPUs: runtime.NumCPU(), Go: runtime.Version(), Filesystem: filesystem(dir)}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(b))
	}
	if b, err := os.ReadFile("/proc/meminfo"); err == nil {
		if total, err := kibibytes(b, "MemTotal:"); err == nil {
			m.MemoryGiB = float64(total) / (1 << 30)
		}
	}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if name, model, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
				m.Model = strings.TrimSpace(model)
				break
			}
		}
	}
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		// An unreadable load counts as none.
		m.Load, _ = strconv.ParseFloat(strings.Fields(string(b) + " 0")[0], 64)
	}
	took, err := fdatasyncTime(dir)
	m.Fdatasync = float64(took.Microseconds()) / 1000
	return m, err
}

// fdatasyncTime returns the median duration of a small durable write.
func fdatasyncTime(dir string) (_ time.Duration, err error) {
	f, err := os.CreateTemp(dir, "quorumhub-bench-*.sync")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	block := make([]byte, 4096)
	var times []time.Duration
	for i := range 32 {
		began := time.Now()
		if _, err := f.WriteAt(block, int64(i%8)*4096); err != nil {
			return 0, err
		}
		if err := syncData(f); err != nil {
			return 0, fmt.Errorf("fdatasync in %s: %w", dir, err)
		}
		times = append(times, time.Since(began))
	}
	slices.Sort(times)
	return times[len(times)/2], nil
}
