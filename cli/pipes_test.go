package cli_test

import (
	"bufio"
	"bytes"
	"io"
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
)

// unread returns the writing end of a pipe that nobody reads any more.
func unread(t *testing.T) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	t.Cleanup(func() { w.Close() })
	return w
}

// full returns the writing end of a pipe with a reader that does not read.
func full(t *testing.T) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	if err := w.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = w.Write(make([]byte, 4096))
	}
	return w
}

// start runs this program as a process of its own, which the test stops.
func start(t *testing.T, stdout, stderr *os.File, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

// metric reads one figure of a hub.
func metric(t *testing.T, hub, name string) float64 {
	t.Helper()
	resp, err := http.Get(hub + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	return -1
}

// A hub serves, counts the log lines it could not write, and stops gracefully, whatever became of the reader of its output: gone, or
// there but not reading.
func TestAHubOutlivesTheReaderOfItsLog(t *testing.T) {
	for name, out := range map[string]*os.File{"gone": unread(t), "not reading": full(t)} {
		t.Run(name, func(t *testing.T) {
			addr := freeAddr(t)
			cmd := start(t, out, out, "serve", "--set", "http.addr="+addr, "--set", "data_dir="+t.TempDir(), "--set", "topics.auto_register=true")
			hub := "http://" + addr
			eventually(t, "the hub is ready", func() bool { return isReady(hub) })
			if got := run(t, "", "publish", "news", "--data", "x", "--hub", hub); got.code != 0 {
				t.Errorf("%+v", got)
			}
			if n := metric(t, hub, "quorumhub_log_lines_lost_total"); n < 1 {
				t.Errorf("%v lines counted as lost", n)
			}
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("the hub ended with %v", err)
			}
		})
	}
}

func TestDevOutlivesTheReaderOfItsOutput(t *testing.T) {
	out, addr, dir := unread(t), freeAddr(t), t.TempDir()
	cmd := start(t, out, out, "dev", "--http", addr, "--data-dir", dir)
	eventually(t, "the node is ready", func() bool { return isReady("http://" + addr) })
	if got := run(t, "", "publish", "news", "--data", "x", "--hub", "http://"+addr); got.code != 0 {
		t.Errorf("%+v", got)
	}
	if pid := pidIn(filepath.Join(dir, "node-1")); pid == 0 || !isAlive(pid) {
		t.Errorf("the node is gone, process %d", pid)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("dev ended with %v", err)
	}
}

// A command whose output nobody reads ends quietly and soon, also one that only ever prints in passing; a full disk is an error that is
// told.
func TestACommandEndsWithItsReader(t *testing.T) {
	hub := newScriptedHub(t, answering(200, "", `{"items":[{"name":"news"}],"next":""}`))
	for _, args := range [][]string{{"topics", "--hub", hub.URL}, {"topics", "--json", "--hub", hub.URL}, {"listen"}, {"completion", "bash"}, {"version"}, {"check", "--sample"}} {
		var errs bytes.Buffer
		cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
		cmd.Stdout, cmd.Stderr = unread(t), &errs
		if err := cmd.Run(); cmd.ProcessState.ExitCode() != 141 || errs.Len() > 0 {
			t.Errorf("%v: %v, said %q; want exit code 141 and silence", args, err, errs.String())
		}
	}
	var errs bytes.Buffer
	code := cli.Run(t.Context(), []string{"topics", "--hub", hub.URL}, cli.Streams{Out: fullDisk{}, Err: &errs})
	if code != 1 || !strings.Contains(errs.String(), "write to standard output: no space left on device") {
		t.Errorf("exit code %d, said %q", code, errs.String())
	}
}

type fullDisk struct{ io.Writer }

func (fullDisk) Write([]byte) (int, error) { return 0, syscall.ENOSPC }
