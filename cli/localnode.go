package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// stopGrace is how long a node may take to end in good order before it is killed.
const stopGrace = 10 * time.Second

// localNode is one node of a local cluster: a child process that runs quorumhub serve. Start, Kill and Stop must
// not run at the same time.
type localNode struct {
	id          string
	dir         string
	httpAddr    string
	clusterAddr string
	program     string
	env         []string

	mu      sync.Mutex
	process *os.Process
	ended   chan struct{} // closed when the process has ended; nil before the first start
	result  error         // why it ended
}

func (n *localNode) configFile() string { return filepath.Join(n.dir, "config.yaml") }
func (n *localNode) pidFile() string    { return filepath.Join(n.dir, "quorumhub.pid") }
func (n *localNode) logFile() string    { return filepath.Join(n.dir, "quorumhub.log") }
func (n *localNode) dataDir() string    { return filepath.Join(n.dir, "data") }
func (n *localNode) keyFile() string    { return filepath.Join(n.dataDir(), "secrets.key") }
func (n *localNode) url() string        { return "http://" + n.httpAddr }

// pid is the process id, 0 while the node is down.
func (n *localNode) pid() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process == nil {
		return 0
	}
	return n.process.Pid
}

// start runs the process. It does not wait until the node serves (see ready).
func (n *localNode) start() error {
	log, err := os.OpenFile(n.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start %s: %w", n.id, err)
	}
	cmd := exec.Command(n.program, "serve", "--config", n.configFile())
	cmd.Env, cmd.Stdout, cmd.Stderr = n.env, log, log
	cmd.SysProcAttr = childAttributes()

	started := make(chan error, 1)
	ended := make(chan struct{})
	go func() {
		// The child is told that its parent died when the thread that started it ends, so this goroutine holds
		// its thread for the life of the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer log.Close()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		n.mu.Lock()
		n.process, n.ended, n.result = cmd.Process, ended, nil
		n.mu.Unlock()
		started <- nil
		err := cmd.Wait()
		n.removePID(cmd.Process.Pid)
		n.mu.Lock()
		n.process, n.result = nil, err
		n.mu.Unlock()
		close(ended)
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", n.id, err)
	}
	if err := os.WriteFile(n.pidFile(), []byte(strconv.Itoa(cmd.Process.Pid)+"\n"), 0o600); err != nil {
		n.kill()
		return fmt.Errorf("start %s: %w", n.id, err)
	}
	return nil
}

// removePID removes the pid file unless somebody else has put another process there.
func (n *localNode) removePID(pid int) {
	data, err := os.ReadFile(n.pidFile())
	if err == nil && strings.TrimSpace(string(data)) == strconv.Itoa(pid) {
		os.Remove(n.pidFile())
	}
}

// ready waits until the node says that it serves. Its error holds the end of the node's log when the process ended instead.
func (n *localNode) ready(ctx context.Context) error {
	client := &http.Client{Timeout: time.Second}
	defer client.CloseIdleConnections()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w (see %s)", n.id, context.Cause(ctx), n.logFile())
		case <-n.down():
			return fmt.Errorf("%s ended at its start (%s):\n%s", n.id, n.why(), n.logTail())
		case <-tick.C:
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.url()+"/health/ready", nil)
			if err != nil {
				return fmt.Errorf("ask %s whether it is ready: %w", n.id, err)
			}
			resp, err := client.Do(req)
			if err != nil {
				continue
			}
			_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 4<<10))
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
	}
}

// down is closed when the process has ended.
func (n *localNode) down() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ended
}

// why says in words how the process ended.
func (n *localNode) why() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.result == nil {
		return "exit status 0"
	}
	return n.result.Error()
}

func (n *localNode) logTail() string {
	data, err := os.ReadFile(n.logFile())
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-10):], []byte("\n")))
}

// kill ends the process as a power cut would, and waits for that.
func (n *localNode) kill() {
	n.signal(os.Kill)
	if down := n.down(); down != nil {
		<-down
	}
}

// stop ends the process in good order, by force when it takes too long, and waits for that.
func (n *localNode) stop() {
	down := n.down()
	if down == nil {
		return
	}
	if !n.signal(syscall.SIGTERM) {
		n.signal(os.Kill)
	}
	timer := time.NewTimer(stopGrace)
	defer timer.Stop()
	select {
	case <-down:
	case <-timer.C:
		n.kill()
	}
}

// signal reports whether the signal was sent or was not needed any more.
func (n *localNode) signal(sig os.Signal) bool {
	n.mu.Lock()
	process := n.process
	n.mu.Unlock()
	if process == nil {
		return true
	}
	err := process.Signal(sig)
	return err == nil || errors.Is(err, os.ErrProcessDone)
}
