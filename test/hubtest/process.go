package hubtest

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// process is one child process. It dies with the test process; only its own end method ever signals it.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // valid after done
}

// spawn starts a child with its output in out. The thread that starts it lives as long as the child, because
// the kernel sends the parent-death signal when that thread ends.
func spawn(binary string, args, env []string, out *os.File) (*process, error) {
	p := &process{cmd: exec.Command(binary, args...), done: make(chan struct{})}
	p.cmd.Env = append(cleanEnv(), env...)
	p.cmd.Stdout = out
	p.cmd.Stderr = out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := p.cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// cleanEnv returns the environment without the variables that configure a hub.
func cleanEnv() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "QUORUMHUB_") {
			env = append(env, kv)
		}
	}
	return env
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// end sends the signal and waits; a child still running after within is killed.
func (p *process) end(sig syscall.Signal, within time.Duration) error {
	if p.ended() {
		return nil
	}
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
		killed := p.cmd.Process.Kill()
		<-p.done
		return errors.Join(errors.New("still running "+within.String()+" after "+sig.String()), killed)
	}
}

// code returns the exit code of an ended child, or -1 when a signal ended it.
func (p *process) code() int { return p.cmd.ProcessState.ExitCode() }
