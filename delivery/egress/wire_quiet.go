//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package egress

import (
	"syscall"
)

// quiet reports whether an idle connection is open with nothing to read. If the server closed it or sent something
// unrequested, it must not get another request.
func (w *wire) quiet() bool {
	c, ok := w.tcp.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	quiet := false
	err = raw.Read(func(fd uintptr) bool {
		var one [1]byte
		_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		quiet = err == syscall.EAGAIN || err == syscall.EWOULDBLOCK
		return true
	})
	return err == nil && quiet
}
