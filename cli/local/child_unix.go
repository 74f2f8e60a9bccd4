//go:build !linux

package local

import "syscall"

// childAttributes put a child into its own process group, so that Ctrl-C reaches it through its parent only.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
