package cli_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// notifySocket is systemd's end of sd_notify(3).
type notifySocket struct {
	path string
	mu   sync.Mutex
	got  []string // datagrams
}

func newNotifySocket(t *testing.T) *notifySocket {
	t.Helper()
	dir, err := os.MkdirTemp("", "qh-notify-") // a short path that everybody may enter
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s := &notifySocket{path: filepath.Join(dir, "notify")}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: s.path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(s.path, 0o777); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buf := make([]byte, 4096)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			s.mu.Lock()
			s.got = append(s.got, string(buf[:n]))
			s.mu.Unlock()
		}
	}()
	t.Cleanup(func() { conn.Close(); <-ended; _ = os.RemoveAll(dir) })
	return s
}

func (s *notifySocket) env() string { return "NOTIFY_SOCKET=" + s.path }

// heard returns the datagrams so far, without those of the watchdog, and the number of those.
func (s *notifySocket) heard() (states []string, watchdog int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.got {
		if d == "WATCHDOG=1" {
			watchdog++
			continue
		}
		states = append(states, d)
	}
	return states, watchdog
}

func (s *notifySocket) says(i int, prefix string) func() bool {
	return func() bool {
		states, _ := s.heard()
		return len(states) > i && strings.HasPrefix(states[i], prefix)
	}
}

func TestSystemdHearsHowTheHubIs(t *testing.T) {
	dir, socket := t.TempDir(), newNotifySocket(t)
	hub := serving(t, writeText(t, filepath.Join(dir, "hub.yaml"), fmt.Sprintf("http.addr: 127.0.0.1:0\ndata_dir: %q\n", filepath.Join(dir, "data"))), nil,
		[]string{socket.env(), "WATCHDOG_USEC=300000"})
	eventually(t, "it is ready", socket.says(0, "READY=1\nSTATUS=serving http://127.0.0.1:"))
	eventually(t, "the watchdog hears of it", func() bool { _, n := socket.heard(); return n >= 5 })
	hub.hangup()
	eventually(t, "it reloads", socket.says(1, "RELOADING=1\nMONOTONIC_USEC="))
	eventually(t, "it has reloaded", socket.says(2, "READY=1\n"))
	hub.stop()
	eventually(t, "it stops", socket.says(3, "STOPPING=1\n"))
	if states, _ := socket.heard(); len(states) != 4 {
		t.Errorf("it said %q", states)
	}
}

// Nodes that are started one after another must not wait for the first to serve.
func TestSystemdHearsOfANodeThatWaitsForOthers(t *testing.T) {
	s, socket := newCheckSite(t), newNotifySocket(t)
	args := []string{"serve"}
	for _, v := range s.set {
		args = append(args, "--set", v)
	}
	hub := exec.Command(os.Args[0], args...)
	hub.Env = append(os.Environ(), socket.env(), "WATCHDOG_USEC=300000")
	if err := hub.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is ready", socket.says(0, "READY=1\nSTATUS=waiting for the other nodes"))
	// Once a process is ready, the watchdog counts.
	eventually(t, "the watchdog hears of it", func() bool { _, n := socket.heard(); return n >= 5 })
	if err := hub.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = hub.Wait() // it has not started yet, so this is an error
}

// unit is the sample unit.
type unit struct {
	t       *testing.T
	install []string // the commands in its head
	lines   map[string][]string
}

func readUnit(t *testing.T) *unit {
	t.Helper()
	text, err := os.ReadFile("../configs/quorumhub.service")
	if err != nil {
		t.Fatal(err)
	}
	u := &unit{t: t, lines: map[string][]string{}}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if command, ok := strings.CutPrefix(line, "#   "); ok && !strings.HasPrefix(command, "systemctl") {
			u.install = append(u.install, command)
		}
		if key, value, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			u.lines[key] = append(u.lines[key], strings.ReplaceAll(value, "%S", "/var/lib"))
		}
	}
	return u
}

func (u *unit) only(key string) string {
	u.t.Helper()
	if len(u.lines[key]) != 1 {
		u.t.Fatalf("the unit has %s %v, want one", key, u.lines[key])
	}
	return u.lines[key][0]
}

// start installs the unit's files as its head says, in name spaces of their own, and runs its commands as its user, with the file systems
// as systemd makes them. more are commands of the operator before the start.
func (u *unit) start(socket *notifySocket, more string) *exec.Cmd {
	t := u.t
	t.Helper()
	source := t.TempDir()
	root, err := filepath.Abs("..")
	if err == nil {
		err = os.Symlink(filepath.Join(root, "configs"), filepath.Join(source, "configs"))
	}
	if err == nil {
		var self []byte
		if self, err = os.ReadFile(os.Args[0]); err == nil {
			err = os.WriteFile(filepath.Join(source, "quorumhub"), self, 0o755)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	seconds, err := strconv.Atoi(u.only("WatchdogSec"))
	if err != nil {
		t.Fatal(err)
	}
	script := `set -eu
ip link set lo up
mount --make-rprivate /
cp -a /etc etc; mount --bind etc /etc
mkdir lib bin sys; mount --bind lib /var/lib; mount --bind bin /usr/local/bin; mkdir -p /etc/systemd/system
` + strings.Join(u.install, "\n") + "\n" + more + `
for dir in ` + u.only("StateDirectory") + `; do
  install -d -o "$USER_OF_UNIT" -g "$USER_OF_UNIT" -m ` + u.only("StateDirectoryMode") + ` /var/lib/$dir
  mount --bind /var/lib/$dir /var/lib/$dir
done
mount -o remount,bind,ro /
mount -o remount,bind,ro /etc
mount -o remount,bind,ro /var/lib
umask ` + u.only("UMask") + `
cd /
as="setpriv --reuid $USER_OF_UNIT --regid $USER_OF_UNIT --init-groups --no-new-privs --bounding-set=-all --inh-caps=-all"
$as ` + u.only("ExecStartPre") + `
exec $as ` + u.only("ExecStart")
	cmd := exec.Command("unshare", "-m", "-n", "sh", "-c", script)
	out := new(syncBuffer)
	cmd.Dir, cmd.Stdout, cmd.Stderr = source, out, out
	cmd.Env = append(os.Environ(), socket.env(), "WATCHDOG_USEC="+strconv.Itoa(seconds*1_000_000), "USER_OF_UNIT="+u.only("User"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("it ended with %v", err)
			}
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
			t.Error("it did not end")
		}
		if t.Failed() {
			t.Logf("it printed:\n%s", out)
		}
	})
	eventually(t, "it is ready", socket.says(0, "READY=1\nSTATUS=serving"))
	return cmd
}

// inside runs a command in the name spaces of the unit.
func inside(t *testing.T, unit *exec.Cmd, command ...string) (string, error) {
	t.Helper()
	args := append([]string{"-t", strconv.Itoa(unit.Process.Pid), "-m", "-n"}, command...)
	out, err := exec.CommandContext(t.Context(), "nsenter", args...).CombinedOutput()
	return string(out), err
}

func needUnitTools(t *testing.T) {
	t.Helper()
	missing := slices.DeleteFunc([]string{"unshare", "nsenter", "setpriv", "useradd", "ip"}, func(tool string) bool {
		_, err := exec.LookPath(tool)
		return err == nil
	})
	if os.Getuid() != 0 || runtime.GOOS != "linux" || len(missing) > 0 {
		if os.Getenv("CI") != "" && runtime.GOOS == "linux" {
			t.Fatalf("CI has no root, or lacks %v", missing)
		}
		t.Skipf("needs root on Linux, and %v", missing)
	}
}

// The unit runs with the samples as they are: the user can read what it must and write what it must, and nothing else.
func TestUnitRunsWithTheSamples(t *testing.T) {
	needUnitTools(t)
	for _, tc := range []struct{ name, more, url, key string }{
		{name: "quorumhub.yaml", url: "http://127.0.0.1:8080", key: "/var/lib/quorumhub/secrets.key"},
		{name: "single-node.yaml", url: "https://127.0.0.1:8443", key: "/var/lib/quorumhub-keys/secrets.key", more: `
install -m 640 -g quorumhub configs/single-node.yaml /etc/quorumhub/quorumhub.yaml
./quorumhub cluster init-ca --dir ca >/dev/null
./quorumhub cluster issue-cert --dir ca --node tls --host hub.example.org --host 127.0.0.1 >/dev/null
install -d -m 750 -g quorumhub /etc/quorumhub/tls
install -m 640 -g quorumhub ca/tls.pem /etc/quorumhub/tls/fullchain.pem
install -m 640 -g quorumhub ca/tls.key /etc/quorumhub/tls/privkey.pem
install -m 644 ca/ca.pem /etc/quorumhub/tls/ca.pem
printf '%s' "$AUTH" | install -m 640 -g quorumhub /dev/stdin /etc/quorumhub/auth.yaml
`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			token, line := keyLine(t, "root", "operator")
			t.Setenv("AUTH", "api_keys:\n"+line+"rules: [{name: operate, may: [\"admin.*\"], who: [{role: operator}]}]\n")
			socket := newNotifySocket(t)
			hub := readUnit(t).start(socket, tc.more)
			if out, err := inside(t, hub, "stat", "-c", "%U %a", tc.key); err != nil || out != "quorumhub 600\n" {
				t.Errorf("the sealing key: %s (%v)", out, err)
			}
			if out, err := inside(t, hub, "/usr/local/bin/quorumhub", "healthcheck", "--config", "/etc/quorumhub/quorumhub.yaml"); err != nil {
				t.Errorf("its health: %s (%v)", out, err)
			}
			// Keys are rotated where the file system is otherwise read-only.
			rotate := []string{"env", "QUORUMHUB_TOKEN=" + token, "/usr/local/bin/quorumhub", "keys", "rotate", "--hub", tc.url}
			if tc.more != "" {
				rotate = append(rotate, "--ca", "/etc/quorumhub/tls/ca.pem")
			}
			if out, err := inside(t, hub, rotate...); err != nil {
				t.Errorf("keys rotate: %s (%v)", out, err)
			}
			if out, err := inside(t, hub, "grep", "-c", "^[^#]", tc.key); err != nil || out == "0\n" {
				t.Errorf("the sealing keys: %s (%v)", out, err)
			}
			// ExecReload.
			if err := hub.Process.Signal(syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
			eventually(t, "it has reloaded", socket.says(2, "READY=1\n"))
			if _, n := socket.heard(); n == 0 {
				t.Error("the watchdog hears nothing")
			}
		})
	}
}

func TestUnitsAreUnderstoodBySystemd(t *testing.T) {
	needUnitTools(t)
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("no systemd-analyze on this machine")
	}
	const script = `set -eu
mkdir bin; cp /bin/true bin/quorumhub; mount --bind bin /usr/local/bin
exec systemd-analyze verify --man=no "$1/quorumhub.service" "$1/quorumhub.socket"`
	dir, err := filepath.Abs("../configs")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "unshare", "-m", "sh", "-c", script, "sh", dir)
	cmd.Dir = t.TempDir()
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v:\n%s", err, out)
	}
}
