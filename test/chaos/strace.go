package chaos

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"quorumhub/test/hubtest"
)

// Injection makes system calls of a running process fail or wait, using strace.
type Injection struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
	done   chan error
	trace  string
}

// ErrNoStrace reports that strace is missing or may not attach to processes here.
var ErrNoStrace = errors.New("strace cannot attach to a process here")

// Inject attaches to the process; what has the form of strace's -e inject=. It returns once strace follows
// all threads. The injection ends with Detach, with the process, or with the test.
func Inject(tb testing.TB, pid int, what string) (*Injection, error) {
	tb.Helper()
	path, err := exec.LookPath("strace")
	if err != nil {
		return nil, errors.Join(ErrNoStrace, err)
	}
	calls, _, _ := strings.Cut(what, ":")
	i := &Injection{done: make(chan error, 1), trace: filepath.Join(tb.TempDir(), "strace")}
	i.cmd = exec.Command(path, "-f", "-p", strconv.Itoa(pid), "-o", i.trace, "-e", "trace="+calls, "-e", "inject="+what)
	attached := &watcher{seen: make(chan struct{}), buffer: &i.stderr}
	i.cmd.Stderr = attached
	if err := i.cmd.Start(); err != nil {
		return nil, errors.Join(ErrNoStrace, err)
	}
	go func() { i.done <- i.cmd.Wait() }()
	tb.Cleanup(i.Detach)
	select {
	case <-attached.seen:
		return i, nil
	case err := <-i.done:
		i.done <- err
		return nil, errors.Join(ErrNoStrace, err, errors.New(i.stderr.String()))
	case <-time.After(hubtest.Patience):
		return nil, errors.Join(ErrNoStrace, errors.New("not attached in time"))
	}
}

// Detach ends the injection; the process continues. It may be called more than once.
func (i *Injection) Detach() {
	select {
	case err := <-i.done:
		i.done <- err
		return
	default:
	}
	// An error means that strace has ended since the check above.
	_ = i.cmd.Process.Signal(syscall.SIGTERM)
	i.done <- <-i.done
}

// Injected returns how many calls have failed or been delayed so far.
func (i *Injection) Injected() int {
	b, err := os.ReadFile(i.trace)
	if err != nil {
		return 0
	}
	return strings.Count(string(b), "INJECTED") + strings.Count(string(b), "DELAYED")
}

// watcher closes seen when strace reports that it has attached.
type watcher struct {
	seen   chan struct{}
	told   bool
	buffer *bytes.Buffer
}

func (w *watcher) Write(p []byte) (int, error) {
	w.buffer.Write(p)
	if !w.told && strings.Contains(w.buffer.String(), "attached") {
		w.told = true
		close(w.seen)
	}
	return len(p), nil
}
