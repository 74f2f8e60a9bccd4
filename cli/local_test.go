package cli_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"quorumhub/cli"
	"quorumhub/configs"
)

// TestMain makes the test binary behave like the program, because dev and demo run their own executable with serve.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-") { // go test passes only flags
		os.Exit(cli.Main(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(15 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("timed out after 15 s waiting until: %s", what)
		}
	}
}

func isReady(hub string) bool {
	resp, err := http.Get(hub + "/health/ready")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// firstOutgoingPort returns the first port that this system gives to outgoing connections.
func firstOutgoingPort(t *testing.T) (port int) {
	t.Helper()
	data, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(string(data), &port); err != nil {
		t.Fatal(err)
	}
	return port
}

func pidIn(dir string) int {
	data, err := os.ReadFile(filepath.Join(dir, "quorumhub.pid"))
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(data)))
	return pid
}

// suspend stops a process and returns when none of its threads runs any more: on a busy machine a signal takes its time.
func suspend(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	eventually(t, "the process is stopped", func() bool {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if err != nil || len(threads) == 0 {
			return false
		}
		for _, thread := range threads {
			stat, err := os.ReadFile(thread)
			if _, rest, _ := strings.Cut(string(stat), ") "); err != nil || !strings.HasPrefix(rest, "T") {
				return false
			}
		}
		return true
	})
}

func isAlive(pid int) bool { return syscall.Kill(pid, 0) == nil }

func TestDevRunsANodeThatCanBeKilledAndBroughtBack(t *testing.T) {
	dir := t.TempDir()
	node := filepath.Join(dir, "node-1")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, errs, done := new(syncBuffer), new(syncBuffer), make(chan int, 1)
	go func() {
		done <- cli.Run(ctx, []string{"dev", "--http", "127.0.0.1:0", "--data-dir", dir, "--set", "delivery.timeout=3s"},
			cli.Streams{In: strings.NewReader(""), Out: out, Err: errs, Env: append(os.Environ(), "QUORUMHUB_HTTP_ADDR=127.0.0.1:1")})
	}()
	eventually(t, "dev is ready", func() bool { return strings.Contains(out.String(), "ready") })

	cfg, err := configs.Load(configs.Source{File: filepath.Join(node, "config.yaml")})
	if err != nil {
		t.Fatal(err)
	}
	hub := "http://" + cfg.HTTP.Addr
	if cfg.HTTP.PublicURL != hub || len(cfg.HTTP.AliasURLs) != 1 || cfg.HTTP.AliasURLs[0] != hub || !cfg.Topics.AutoRegister ||
		cfg.Delivery.Egress.Mode != "dev-loopback" || cfg.Fetch.Egress.Mode != "dev-loopback" || cfg.Delivery.Timeout != 3*time.Second {
		t.Errorf("the node got %+v", cfg)
	}
	if httpPort, raftPort := portOf(t, cfg.HTTP.Addr), portOf(t, cfg.Cluster.Addr); raftPort != httpPort+100 {
		t.Errorf("HTTP is on port %d, raft on %d", httpPort, raftPort)
	} else if first := firstOutgoingPort(t); raftPort >= first {
		t.Errorf("raft is on port %d, which an outgoing connection may take while the node is down: they begin at %d", raftPort, first)
	}
	if !strings.HasPrefix(cfg.DataDir, node) || !strings.Contains(out.String(), hub+"/hub") {
		t.Errorf("data in %s; output\n%s", cfg.DataDir, out)
	}
	if !isReady(hub) {
		t.Error("dev is ready, but the node is not")
	}
	if got := run(t, "", "publish", "news", "--data", "x", "--hub", hub); got.code != 0 {
		t.Fatalf("got %+v", got)
	}

	pid := pidIn(node)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "dev reports the killed node", func() bool { return strings.Contains(out.String(), "node-1 exited (signal: killed)") })
	eventually(t, "the pid file is gone", func() bool { return pidIn(node) == 0 })
	if isReady(hub) {
		t.Error("the killed node was restarted")
	}

	again := exec.CommandContext(t.Context(), os.Args[0], "serve", "--config", filepath.Join(node, "config.yaml"))
	var log bytes.Buffer
	again.Stdout, again.Stderr = &log, &log
	if err := again.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "serve restarts the node", func() bool { return isReady(hub) })
	if got := run(t, "", "topics", "--hub", hub); !strings.Contains(got.out, "news") {
		t.Errorf("the topic is gone: %+v", got)
	}
	if err := again.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := again.Wait(); err != nil {
		t.Errorf("serve exited with %v:\n%s", err, &log)
	}

	cancel()
	select {
	case code := <-done:
		if code != 0 {
			t.Errorf("dev exited with %d: %s", code, errs)
		}
	case <-time.After(15 * time.Second):
		t.Fatal("dev does not exit")
	}
}

func portOf(t *testing.T, addr string) int {
	t.Helper()
	port, err := strconv.Atoi(addr[strings.LastIndexByte(addr, ':')+1:])
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// startDev runs dev in its own process and waits until its node is ready.
func startDev(t *testing.T, dir string) (*exec.Cmd, *syncBuffer) {
	t.Helper()
	out := new(syncBuffer)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "dev", "--http", "127.0.0.1:0", "--data-dir", dir)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "dev is ready", func() bool { return strings.Contains(out.String(), "ready") })
	return cmd, out
}

func TestDevTakesItsNodesWithItWhenItIsKilled(t *testing.T) {
	dir := t.TempDir()
	cmd, _ := startDev(t, dir)
	pid := pidIn(filepath.Join(dir, "node-1"))
	if pid == 0 || !isAlive(pid) {
		t.Fatalf("no node runs (pid %d)", pid)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	// A node without its parent may remain as a zombie if nobody reaps it, so check its state as well.
	eventually(t, "the node dies too", func() bool { return !isAlive(pid) || isZombie(pid) })
}

func isZombie(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	return strings.HasPrefix(rest, "Z")
}

func TestDevStopsItsNodesOnTerminationAndKeepsTheirFiles(t *testing.T) {
	dir := t.TempDir()
	cmd, out := startDev(t, dir)
	pid := pidIn(filepath.Join(dir, "node-1"))
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("dev exited with %v:\n%s", err, out)
	}
	if isAlive(pid) {
		t.Error("the node outlives dev")
	}
	log, err := os.ReadFile(filepath.Join(dir, "node-1", "quorumhub.log"))
	if err != nil || len(log) == 0 {
		t.Errorf("the node's log is gone: %v", err)
	}
}

func TestDevNamesABusyPort(t *testing.T) {
	hub := newScriptedHub(t, accepted)
	got := run(t, "", "dev", "--http", strings.TrimPrefix(hub.URL, "http://"))
	if got.code != 2 || !strings.Contains(got.err, "address already in use") || !strings.Contains(got.err, "--http") {
		t.Errorf("got %+v", got)
	}
}

func TestDevRemovesItsTemporaryDirectory(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, done := new(syncBuffer), make(chan int, 1)
	go func() {
		done <- cli.Run(ctx, []string{"dev", "--http", "127.0.0.1:0"}, cli.Streams{Out: out, Err: out, Env: os.Environ()})
	}()
	eventually(t, "dev is ready", func() bool { return strings.Contains(out.String(), "ready") })
	cancel()
	if code := <-done; code != 0 {
		t.Errorf("dev exited with %d: %s", code, out)
	}
	left, err := os.ReadDir(os.Getenv("TMPDIR"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestDemoLosesNothingAndLeavesNothing(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	begin := time.Now()
	got := run(t, "", "demo")
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("the demo took %s", took)
	}
	for _, want := range []string{"Nothing was lost", "SIGKILL", "signature ok (sha256)", "Try next"} {
		if !strings.Contains(got.out, want) {
			t.Errorf("the demo does not print %q", want)
		}
	}
	if got.code != 0 {
		t.Errorf("exit code %d", got.code)
	}
	if t.Failed() {
		t.Logf("%s\n%s", got.out, got.err)
	}
	left, err := os.ReadDir(os.Getenv("TMPDIR"))
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
