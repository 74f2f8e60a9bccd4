package hubtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Options configures a node. The zero value is a node with Defaults in a temporary directory.
type Options struct {
	Settings Settings      // on top of Defaults; a nil value removes a default
	Dir      string        // holds the config file, the data directory and the log; empty: a temporary directory
	Binary   string        // empty: the built one; set by Start
	Env      []string      // additional environment variables, "KEY=value"
	ReadyIn  time.Duration // how long the node may take to become ready; 0: Patience
	Timeout  time.Duration // of the requests that the test sends; 0: Patience
	Through  []string      // a command prefix such as "ip netns exec NAME"
	Host     string        // the IP address on which the node listens; empty: as FreeAddrs
}

// Node is one quorumhub process and its files. Its methods are safe for concurrent use, except those that
// start or end the process.
type Node struct {
	Dir        string // everything of this node
	ConfigPath string
	DataDir    string
	LogPath    string // output of all runs, one after another
	Addr       string // http.addr
	URL        string // http.public_url, without a trailing slash
	Settings   Settings
	Key        string // API key of requests that have none of their own; empty: none

	binary  string
	env     []string
	readyIn time.Duration
	through []string
	host    string
	ownDir  bool
	client  *http.Client

	mu   sync.Mutex
	proc *process
}

// StartError reports that the process ended before it was ready, or never became ready.
type StartError struct {
	Code   int    // exit code; -1 when it was still running or ended by a signal
	Output string // what it printed in this run
	Reason string
}

func (e *StartError) Error() string {
	return fmt.Sprintf("quorumhub serve %s (exit code %d); it printed:\n%s", e.Reason, e.Code, tail(e.Output, 60))
}

// Start starts a node that ends with the test. If the test fails, the end of the node's log is shown.
func Start(tb testing.TB, opts Options) *Node {
	tb.Helper()
	opts.Binary = Binary(tb)
	if opts.Dir == "" {
		opts.Dir = tb.TempDir()
	}
	n, err := StartNode(opts)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := n.Close(); err != nil {
			tb.Errorf("closing the node: %v", err)
		}
	})
	n.showLog(tb, 0)
	return n
}

// StartNode starts a node that is not bound to one test; Close ends it.
func StartNode(opts Options) (*Node, error) {
	n, err := PrepareNode(opts)
	if err != nil {
		return nil, err
	}
	var started *StartError
	for range 5 { // another process may have taken a port since it was found free
		if err = n.Run(); err == nil {
			return n, nil
		}
		if !errors.As(err, &started) || !strings.Contains(started.Output, "address already in use") {
			break
		}
		if err := n.setAddresses(); err != nil {
			return nil, err
		}
	}
	return nil, errors.Join(err, n.Close())
}

// PrepareNode creates the directory and the configuration of a node without starting it.
func PrepareNode(opts Options) (*Node, error) {
	n := &Node{
		Dir: opts.Dir, binary: opts.Binary, env: opts.Env, readyIn: opts.ReadyIn, through: opts.Through, host: opts.Host,
		Settings: Defaults().With(opts.Settings),
		client: &http.Client{
			Timeout:       cmp.Or(opts.Timeout, Patience),
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			// Idle connections are dropped well before the hub does so: a POST on a connection that the hub
			// is closing fails.
			Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64, IdleConnTimeout: 15 * time.Second},
		},
	}
	if n.readyIn == 0 {
		n.readyIn = Patience
	}
	if n.binary == "" {
		path, err := builtBinary()
		if err != nil {
			return nil, err
		}
		n.binary = path
	}
	if n.Dir == "" {
		dir, err := os.MkdirTemp("", "quorumhub-node-")
		if err != nil {
			return nil, err
		}
		n.Dir, n.ownDir = dir, true
	}
	n.ConfigPath = filepath.Join(n.Dir, "config.yaml")
	n.DataDir = filepath.Join(n.Dir, "data")
	n.LogPath = filepath.Join(n.Dir, "quorumhub.log")
	return n, n.setAddresses()
}

// setAddresses assigns an ID and free addresses.
func (n *Node) setAddresses() error {
	addrs, err := freeAddrs(cmp.Or(n.host, processHost()), 2)
	if err != nil {
		return err
	}
	n.Place("node-1", addrs[0], addrs[1])
	return nil
}

// Place gives a prepared node its name and addresses, as host:port.
func (n *Node) Place(id, httpAddr, clusterAddr string) {
	n.Addr = httpAddr
	n.URL = "http://" + n.Addr
	n.Settings = n.Settings.With(Settings{
		"http.addr": n.Addr, "http.public_url": n.URL, "cluster.addr": clusterAddr,
		"cluster.node_id": id, "data_dir": n.DataDir,
	})
}

// Use makes the node run another program from its next start on.
func (n *Node) Use(binary string) { n.binary = binary }

// Run writes the configuration, starts the process and waits until it is ready. The error is a *StartError
// when the process refused to start.
func (n *Node) Run() error {
	if err := os.WriteFile(n.ConfigPath, []byte(n.Settings.YAML()), 0o600); err != nil {
		return err
	}
	log, err := os.OpenFile(n.LogPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() // the child has its own descriptor
	from, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	command := slices.Concat(n.through, []string{n.binary, "serve", "--config", n.ConfigPath})
	proc, err := spawn(command[0], command[1:], n.env, log)
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.proc = proc
	n.mu.Unlock()

	notReady := poll(n.readyIn, func() error {
		if proc.ended() {
			return nil
		}
		return n.ready()
	})
	if proc.ended() {
		return &StartError{Code: proc.code(), Output: n.logFrom(from), Reason: "ended before it was ready"}
	}
	if notReady != nil {
		killed := proc.end(syscall.SIGKILL, Patience)
		return errors.Join(&StartError{Code: -1, Output: n.logFrom(from),
			Reason: fmt.Sprintf("not ready after %v (%v)", n.readyIn, notReady)}, killed)
	}
	return nil
}

func (n *Node) ready() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.Addr+"/health/ready", nil)
	if err != nil {
		return err
	}
	resp, err := n.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("/health/ready answered %d", resp.StatusCode)
	}
	return nil
}

// Kill ends the process with SIGKILL and waits until it is gone.
func (n *Node) Kill(tb testing.TB) {
	tb.Helper()
	if err := n.current().end(syscall.SIGKILL, Patience); err != nil {
		tb.Fatal(err)
	}
	n.client.CloseIdleConnections()
}

// Stop ends the process with SIGTERM and returns its exit code.
func (n *Node) Stop(tb testing.TB) int {
	tb.Helper()
	p := n.current()
	if err := p.end(syscall.SIGTERM, Patience); err != nil {
		tb.Fatal(err)
	}
	n.client.CloseIdleConnections()
	return p.code()
}

// Restart starts the process again on the same data, with the same addresses.
func (n *Node) Restart(tb testing.TB) {
	tb.Helper()
	if err := n.TryRestart(); err != nil {
		tb.Fatal(err)
	}
}

// TryRestart is Restart for a start that may be refused.
func (n *Node) TryRestart() error {
	var refused error
	err := poll(Patience, func() error {
		err := n.Run()
		var started *StartError
		if errors.As(err, &started) && strings.Contains(started.Output, "address already in use") {
			return err // a client may hold the port for a moment
		}
		refused = err
		return nil
	})
	return errors.Join(err, refused)
}

// Running reports whether the process is alive.
func (n *Node) Running() bool { return !n.current().ended() }

// PID returns the process id of the current run.
func (n *Node) PID() int { return n.current().cmd.Process.Pid }

// Exited returns a channel that is closed when the current run has ended, and a function that returns its
// exit code.
func (n *Node) Exited() (<-chan struct{}, func() int) {
	p := n.current()
	return p.done, p.code
}

func (n *Node) current() *process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.proc
}

// Close kills the process if it still runs, and removes the directory if the node created it.
func (n *Node) Close() error {
	var errs []error
	if p := n.current(); p != nil {
		errs = append(errs, p.end(syscall.SIGKILL, Patience))
	}
	n.client.CloseIdleConnections()
	if n.ownDir {
		errs = append(errs, os.RemoveAll(n.Dir))
	}
	return errors.Join(errs...)
}

// Log returns everything the node printed, in all runs.
func (n *Node) Log() string { return n.logFrom(0) }

func (n *Node) logFrom(offset int64) string {
	b, err := os.ReadFile(n.LogPath)
	if err != nil {
		return err.Error()
	}
	return string(b[min(int(offset), len(b)):])
}

// ShowLogOnFailure prints the last lines that the node logged during the test if the test fails.
func (n *Node) ShowLogOnFailure(tb testing.TB) {
	var from int64
	if info, err := os.Stat(n.LogPath); err == nil {
		from = info.Size()
	}
	n.showLog(tb, from)
}

func (n *Node) showLog(tb testing.TB, from int64) {
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("end of the node's log (%s):\n%s", n.LogPath, tail(n.logFrom(from), 40))
		}
	})
}

func tail(s string, lines int) string {
	all := strings.Split(strings.TrimRight(s, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
