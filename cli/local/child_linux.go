package local

import "syscall"

// childAttributes puts a child into its own process group, so that Ctrl-C reaches it only through its parent, and kills it when the
// parent dies. The kernel watches the thread that started the child, which Node keeps alive.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
