//go:build !linux

package bench

import (
	"os"
	"syscall"
)

func childAttributes() *syscall.SysProcAttr { return nil }

func syncData(f *os.File) error { return f.Sync() }

func filesystem(string) string { return "an unknown file system" }
