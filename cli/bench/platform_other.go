//go:build !linux

package bench

import (
	"os"
	"syscall"
)

func childAttributes() *syscall.SysProcAttr { return nil }

func syncData(f *os.File) error { return f.Sync() }

func filesystem(string) string { return "an unknown file system" }

func diskUsage(path string) (int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
