//go:build !linux && !windows

package local

import "syscall"

// childAttributes puts a child into its own process group, so that Ctrl-C reaches it only through its parent.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
