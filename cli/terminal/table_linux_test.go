package terminal_test

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
	"testing"
	"unsafe"

	"quorumhub/cli/terminal"
)

// newTerminal returns a pseudo-terminal.
func newTerminal(t *testing.T) *os.File {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no pseudo-terminals: ", err)
	}
	t.Cleanup(func() { master.Close() })
	var unlock, number int32
	for request, arg := range map[uintptr]*int32{syscall.TIOCSPTLCK: &unlock, syscall.TIOCGPTN: &number} {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, master.Fd(), request, uintptr(unsafe.Pointer(arg))); errno != 0 {
			t.Fatal(errno)
		}
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	return slave
}

func TestColoursOnATerminalOnly(t *testing.T) {
	tty := newTerminal(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for name, got := range map[string]bool{
		"a terminal":             !terminal.Colours(tty, []string{"TERM=xterm", "NO_COLOR="}),
		"NO_COLOR":               terminal.Colours(tty, []string{"TERM=xterm", "NO_COLOR=1"}),
		"a terminal without any": terminal.Colours(tty, []string{"TERM=dumb"}),
		"a pipe":                 terminal.Colours(w, []string{"TERM=xterm"}),
		"a device":               terminal.Colours(null, []string{"TERM=xterm"}),
		"memory":                 terminal.Colours(new(bytes.Buffer), []string{"TERM=xterm"}),
	} {
		if got {
			t.Errorf("%s: wrong", name)
		}
	}
}
