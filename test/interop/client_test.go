package interop_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"quorumhub/test/hubtest"
)

func TestMain(m *testing.M) { os.Exit(hubtest.Main(m)) }

// missing skips a test because a program is missing, or fails it with CI=true.
func missing(t *testing.T, what, howToGet string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing and CI=true: %s", what, howToGet)
	}
	t.Skipf("%s is missing: %s", what, howToGet)
}

// needsProgram returns the path of a program, or ends the test.
func needsProgram(t *testing.T, name, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		missing(t, name, "apt-get install "+pkg)
	}
	return path
}

// needsNPM asserts that a package of clients/ is installed in the pinned version, and logs what runs.
func needsNPM(t *testing.T, name, version string) (node string) {
	t.Helper()
	node = needsProgram(t, "node", "nodejs npm")
	var manifest struct {
		Version string `json:"version"`
	}
	raw, err := os.ReadFile(filepath.Join("clients", "node_modules", name, "package.json"))
	if err != nil {
		missing(t, "npm "+name, "npm ci in test/interop/clients")
	}
	if err := json.Unmarshal(raw, &manifest); err != nil {
		t.Fatal(err)
	}
	if manifest.Version != version {
		t.Fatalf("npm %s is installed as %s, want %s: run npm ci in test/interop/clients", name, manifest.Version, version)
	}
	ran(t, "npm "+name+" "+version+" on node "+firstLine(t, node, "--version"))
	return node
}

// ran logs which program a test ran; the summary of `make test` repeats these lines.
func ran(t *testing.T, what string) {
	t.Helper()
	t.Logf("ran: %s", what)
}

func firstLine(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		t.Fatalf("%s %v: %v", name, args, err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line)
}

// event is a line that a driver printed.
type event struct {
	Event   string `json:"event"`
	Text    string `json:"text"`
	Topic   string `json:"topic"`
	Hub     string `json:"hub"`
	Type    string `json:"type"`
	Body    []byte `json:"body"`
	Lease   int    `json:"lease"`
	Channel string `json:"channel"`
	Video   string `json:"video"`
	Title   string `json:"title"`
}

// driver is a running program of clients/. It ends when its standard input is closed, at the latest with the
// test.
type driver struct {
	stdin  io.WriteCloser
	lines  chan string
	stderr *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// startDriver runs a program in clients/.
func startDriver(t *testing.T, name string, args ...string) *driver {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = "clients"
	cmd.Env = append(os.Environ(), "NODE_NO_WARNINGS=1", "HTTP_PROXY=", "HTTPS_PROXY=", "http_proxy=", "https_proxy=")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	d := &driver{lines: make(chan string, 1000), stderr: &lockedBuffer{}}
	cmd.Stderr = d.stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	d.stdin = stdin
	started, ended := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread() // the kernel kills the child when the thread that started it ends
		defer runtime.UnlockOSThread()
		defer close(ended)
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		for scanner := bufio.NewScanner(stdout); scanner.Scan(); {
			d.lines <- scanner.Text()
		}
		close(d.lines)
		_ = cmd.Wait() // only its output matters
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
		if t.Failed() {
			t.Logf("%s %v: standard error:\n%s", name, args, d.stderr)
		}
	})
	return d
}

// tell writes a line to the program.
func (d *driver) tell(t *testing.T, line string) {
	t.Helper()
	if _, err := io.WriteString(d.stdin, line+"\n"); err != nil {
		t.Fatalf("%v; standard error: %s", err, d.stderr)
	}
}

// line returns the next line of the program's output.
func (d *driver) line(t *testing.T, what string) string {
	t.Helper()
	timer := time.NewTimer(hubtest.Patience)
	defer timer.Stop()
	select {
	case l, ok := <-d.lines:
		if !ok {
			t.Fatalf("%s: the program ended; standard error: %s", what, d.stderr)
		}
		return l
	case <-timer.C:
		t.Fatalf("%s: no output for %v; standard error: %s", what, hubtest.Patience, d.stderr)
	}
	return ""
}

// wait returns the next event with that name. An unexpected error or denial fails the test.
func (d *driver) wait(t *testing.T, name string) event {
	t.Helper()
	for {
		var e event
		line := d.line(t, name)
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v in %q", err, line)
		}
		switch e.Event {
		case name:
			return e
		case "error", "denied":
			t.Fatalf("waiting for %s the program reported %s", name, line)
		}
	}
}
