//go:build linux || darwin || freebsd

package raftlog

import "syscall"

// freeBytes returns the space on dir's file system that this process may use.
func freeBytes(dir string) (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * int64(st.Bsize), nil //nolint:unconvert // Bsize is an int64 on Linux only
}
