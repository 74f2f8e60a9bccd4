package local

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

// stopGrace is how long a node may take to stop gracefully before it is killed.
const stopGrace = 10 * time.Second

// Node is one node of a local cluster: a child process that runs quorumhub serve. Start and Kill must not be called concurrently.
type Node struct {
	ID          string
	dir         string
	httpAddr    string
	ClusterAddr string
	program     string
	env         []string

	mu      sync.Mutex
	process *os.Process
	ended   chan struct{} // closed when the process has exited; nil before the first start
	result  error         // of the process
}

// ConfigFile returns the path of config.yaml.
func (n *Node) ConfigFile() string { return filepath.Join(n.dir, "config.yaml") }
func (n *Node) pidFile() string    { return filepath.Join(n.dir, "quorumhub.pid") }

// LogFile returns the path of the log.
func (n *Node) LogFile() string { return filepath.Join(n.dir, "quorumhub.log") }
func (n *Node) dataDir() string { return filepath.Join(n.dir, "data") }
func (n *Node) keyFile() string { return filepath.Join(n.dataDir(), "secrets.key") }

// URL returns the base URL.
func (n *Node) URL() string { return "http://" + n.httpAddr }

// PID returns the process ID, or 0 while the node is down.
func (n *Node) PID() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.process == nil {
		return 0
	}
	return n.process.Pid
}

// Start starts the process. It does not wait until the node is ready (see Ready).
func (n *Node) Start() error {
	log, err := os.OpenFile(n.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start %s: %w", n.ID, err)
	}
	cmd := exec.Command(n.program, "serve", "--config", n.ConfigFile())
	cmd.Env, cmd.Stdout, cmd.Stderr = n.env, log, log
	cmd.SysProcAttr = childAttributes()

	started := make(chan error, 1)
	ended := make(chan struct{})
	go func() {
		// The kernel kills the child when the thread that started it ends (see childAttributes), so this goroutine keeps its thread
		// as long as the child runs.
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
		return fmt.Errorf("start %s: %w", n.ID, err)
	}
	if err := os.WriteFile(n.pidFile(), []byte(strconv.Itoa(cmd.Process.Pid)+"\n"), 0o600); err != nil {
		n.Kill()
		return fmt.Errorf("start %s: %w", n.ID, err)
	}
	return nil
}

// removePID removes the PID file unless it names another process.
func (n *Node) removePID(pid int) {
	data, err := os.ReadFile(n.pidFile())
	if err == nil && strings.TrimSpace(string(data)) == strconv.Itoa(pid) {
		os.Remove(n.pidFile())
	}
}

// Ready waits until the node reports that it is ready. If the process exits instead, the error contains the end of its log.
func (n *Node) Ready(ctx context.Context) error {
	client := &http.Client{Timeout: time.Second}
	defer client.CloseIdleConnections()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w (see %s)", n.ID, context.Cause(ctx), n.LogFile())
		case <-n.Down():
			return fmt.Errorf("%s exited while starting (%s):\n%s", n.ID, n.Why(), n.logTail())
		case <-tick.C:
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.URL()+"/health/ready", nil)
			if err != nil {
				return fmt.Errorf("check whether %s is ready: %w", n.ID, err)
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

// Down returns a channel that is closed when the process has exited.
func (n *Node) Down() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ended
}

// Why describes how the process exited.
func (n *Node) Why() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.result == nil {
		return "exit status 0"
	}
	return n.result.Error()
}

func (n *Node) logTail() string {
	data, err := os.ReadFile(n.LogFile())
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-10):], []byte("\n")))
}

// Kill kills the process and waits for its end.
func (n *Node) Kill() {
	n.signal(os.Kill)
	if down := n.Down(); down != nil {
		<-down
	}
}

// Reload makes the process read its configuration and files again, if it runs.
func (n *Node) Reload() { n.signal(syscall.SIGHUP) }

// stop stops the process gracefully, or kills it after stopGrace, and waits for its end.
func (n *Node) stop() {
	down := n.Down()
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
		n.Kill()
	}
}

// signal reports whether the signal was sent or the process had already exited.
func (n *Node) signal(sig os.Signal) bool {
	n.mu.Lock()
	process := n.process
	n.mu.Unlock()
	if process == nil {
		return true
	}
	err := process.Signal(sig)
	return err == nil || errors.Is(err, os.ErrProcessDone)
}
