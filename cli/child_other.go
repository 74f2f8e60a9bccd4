//go:build !unix

package cli

import "syscall"

func childAttributes() *syscall.SysProcAttr { return nil }
