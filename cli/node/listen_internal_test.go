package node

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"quorumhub/configs"
)

func TestUnixSockets(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "hub.sock")
	c := &configs.HTTP{Addr: configs.UnixAddr + path, SocketMode: 0o620}
	l, err := listenHTTP(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o620 {
		t.Errorf("the socket is %v (%v)", info.Mode(), err)
	}
	if got := addrOf(l); got != c.Addr {
		t.Errorf("the address is %s", got)
	}
	if _, err := listenHTTP(t.Context(), c); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second listener: %v", err)
	}
	// What a killed process leaves behind is replaced.
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if l, err = listenHTTP(t.Context(), c); err != nil {
		t.Fatalf("after a kill: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is left behind (%v)", err)
	}
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenHTTP(t.Context(), c); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("over a file: %v", err)
	}
}

// A process with a socket passed by systemd accepts connections on it. The test runs itself as that process.
func TestPassedSockets(t *testing.T) {
	if os.Getenv("TEST_PASSED") != "" {
		l, err := listenHTTP(t.Context(), &configs.HTTP{Addr: configs.SystemdAddr})
		if err != nil {
			fmt.Println("refused:", err)
			return
		}
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(c, "hello")
		if err := errors.Join(c.Close(), l.Close()); err != nil {
			t.Fatal(err)
		}
		return
	}
	for name, tc := range map[string]struct {
		env     string
		sockets int
		use     int
		says    string
	}{
		"one":            {"LISTEN_FDS=1 LISTEN_PID=$$", 1, 0, ""},
		"named":          {"LISTEN_FDS=2 LISTEN_PID=$$ LISTEN_FDNAMES=metrics:http", 2, 1, ""},
		"not named":      {"LISTEN_FDS=2 LISTEN_PID=$$ LISTEN_FDNAMES=a:b", 2, -1, "none of them named http"},
		"for another":    {"LISTEN_FDS=1 LISTEN_PID=1", 1, -1, "passed no socket"},
		"without":        {"", 1, -1, "passed no socket"},
		"unix":           {"LISTEN_FDS=1 LISTEN_PID=$$", 1, 0, ""},
		"names too many": {"LISTEN_FDS=1 LISTEN_PID=$$ LISTEN_FDNAMES=a:http", 1, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command("sh", "-c", tc.env+` exec "$0" -test.run '^TestPassedSockets$'`, os.Args[0])
			cmd.Env = append(os.Environ(), "TEST_PASSED=1")
			network, address := "tcp", "127.0.0.1:0"
			if name == "unix" {
				network, address = name, filepath.Join(t.TempDir(), "s")
			}
			var at []string
			for range tc.sockets {
				l, err := net.Listen(network, address)
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				f, err := l.(interface{ File() (*os.File, error) }).File()
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				cmd.ExtraFiles = append(cmd.ExtraFiles, f)
				at = append(at, l.Addr().String())
			}
			var out strings.Builder
			cmd.Stdout, cmd.Stderr = &out, &out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if tc.use >= 0 {
				c, err := net.Dial(network, at[tc.use])
				if err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(c); err != nil || string(got) != "hello" {
					t.Errorf("got %q (%v)", got, err)
				}
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("the process: %v", err)
			}
			if _, err := os.Lstat(address); network == "unix" && err != nil {
				t.Errorf("the socket is gone with the process that it was passed to: %v", err)
			}
			if tc.says != "" && !strings.Contains(out.String(), tc.says) {
				t.Errorf("it says %q, want %q", out.String(), tc.says)
			}
		})
	}
}

func TestPIDFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "quorumhub.pid")
	if err := os.WriteFile(path, []byte("1\n"), 0o600); err != nil { // left by a killed process
		t.Fatal(err)
	}
	remove, err := writePID(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != fmt.Sprintln(os.Getpid()) {
		t.Errorf("the file holds %q (%v)", got, err)
	}
	remove()
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the file is left behind (%v)", err)
	}
	if remove, err = writePID(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("1\n"), 0o600); err != nil { // another process has started
		t.Fatal(err)
	}
	remove()
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the file of another process was removed (%v)", err)
	}
	if remove, err = writePID(""); err != nil {
		t.Errorf("without a path: %v", err)
	}
	remove()
}
