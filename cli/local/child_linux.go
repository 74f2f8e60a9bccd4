package local

import "syscall"

// childAttributes put a child into its own process group, so that Ctrl-C reaches it through its parent only, and let it
// die with the parent however that ends. The signal comes when the thread that started the child ends; localNode
// keeps that thread.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
