package chaos

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"quorumhub/test/hubtest"
)

// ErrNoNetwork reports that no network namespaces can be created here.
var ErrNoNetwork = errors.New("cannot create network namespaces here")

// insideEnv marks a test process that has its own network.
const insideEnv = "QUORUMHUB_CHAOS_INSIDE"

// Inside reports whether this process has its own network and mounts. If not, it runs the test again in a
// process that does, and reports that result; the caller then returns. Nothing has a name that could be left
// behind: the networks end with their processes.
func Inside(tb testing.TB) (bool, error) {
	tb.Helper()
	if os.Getenv(insideEnv) != "" {
		if err := syscall.Mount("", "/", "", syscall.MS_PRIVATE|syscall.MS_REC, ""); err != nil {
			return false, fmt.Errorf("make mounts private: %w", err)
		}
		run(tb, "ip", "link", "set", "lo", "up")
		return true, nil
	}
	if os.Geteuid() != 0 {
		return false, fmt.Errorf("%w: it needs root", ErrNoNetwork)
	}
	for _, tool := range []string{"ip", "nft", "nsenter", "unshare"} {
		if _, err := exec.LookPath(tool); err != nil {
			return false, errors.Join(ErrNoNetwork, err)
		}
	}
	if out, err := exec.Command("unshare", "--net", "ip", "link", "add", "br0", "type", "bridge").CombinedOutput(); err != nil {
		return false, fmt.Errorf("%w: %w: %s", ErrNoNetwork, err, out)
	}
	args := []string{"-test.run", "^" + strings.ReplaceAll(tb.Name(), "/", "$/^") + "$", "-test.v", "-test.timeout", "9m"}
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), insideEnv+"=1", hubtest.BinaryEnv+"="+hubtest.Binary(tb))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // the kernel kills the child when this thread ends
	defer runtime.UnlockOSThread()
	out, err := cmd.CombinedOutput()
	tb.Logf("in its own network:\n%s", out)
	if err != nil {
		tb.Fail()
	}
	return false, nil
}

// Network is a bridge with a network namespace for each node. The test itself is at the bridge.
type Network struct {
	Host  string // the test's address
	Sites []Site
	pids  []int // of the processes that hold the namespaces
	hosts []string
}

const networkPrefix = "10.77.0."

// NewNetwork creates a network of nodes in a process that has its own (see Inside). It ends with the test.
func NewNetwork(tb testing.TB, nodes int) *Network {
	tb.Helper()
	n := &Network{Host: networkPrefix + "1"}
	run(tb, "ip", "link", "add", "br0", "type", "bridge")
	run(tb, "ip", "addr", "add", n.Host+"/24", "dev", "br0")
	run(tb, "ip", "link", "set", "br0", "up")
	ca := newAuthority(tb)
	for i := range nodes {
		pid := holdNamespace(tb)
		host := networkPrefix + strconv.Itoa(11+i)
		outer, inner := fmt.Sprintf("v%d", i), "eth0"
		run(tb, "ip", "link", "add", outer, "type", "veth", "peer", "name", inner, "netns", strconv.Itoa(pid))
		run(tb, "ip", "link", "set", outer, "master", "br0", "up")
		within := enter(pid)
		for _, args := range [][]string{
			{"ip", "link", "set", "lo", "up"},
			{"ip", "addr", "add", host + "/24", "dev", inner},
			{"ip", "link", "set", inner, "up"},
			{"nft", "add", "table", "inet", "chaos"},
			{"nft", "add", "chain", "inet", "chaos", "in", "{ type filter hook input priority 0 ; }"},
		} {
			run(tb, append(within[:len(within):len(within)], args...)...)
		}
		n.pids, n.hosts = append(n.pids, pid), append(n.hosts, host)
		n.Sites = append(n.Sites, Site{HTTP: host + ":8080", Cluster: host + ":8180", Through: within, Settings: ca.issue(tb, fmt.Sprintf("node-%d", i+1), host).With(hubtest.Settings{
			"auth.mode": "open", "delivery.egress.mode": "edge", "fetch.egress.mode": "edge",
			"delivery.egress.allow_cidrs": []string{networkPrefix + "0/24"},
		})})
	}
	return n
}

func enter(pid int) []string { return []string{"nsenter", "--net", "--target", strconv.Itoa(pid)} }

// holdNamespace starts a process that only holds a network namespace.
func holdNamespace(tb testing.TB) (pid int) {
	tb.Helper()
	cmd := exec.Command("sleep", "infinity")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error), make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread() // the kernel kills the child when this thread ends
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // it is always killed
		}
	}()
	if err := <-started; err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	return cmd.Process.Pid
}

func run(tb testing.TB, command ...string) {
	tb.Helper()
	if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
		tb.Fatalf("%s: %v: %s", strings.Join(command, " "), err, out)
	}
}

// Test stands for the test itself, with its publishers and subscribers, as one end of a cut.
const Test = -1

// Cut drops everything that node to receives from node from.
func (n *Network) Cut(tb testing.TB, from, to int) {
	tb.Helper()
	host := n.Host
	if from != Test {
		host = n.hosts[from]
	}
	run(tb, append(enter(n.pids[to]), "nft", "add", "rule", "inet", "chaos", "in", "ip", "saddr", host, "drop")...)
}

// CutBoth separates two nodes.
func (n *Network) CutBoth(tb testing.TB, a, b int) {
	tb.Helper()
	n.Cut(tb, a, b)
	n.Cut(tb, b, a)
}

// Pull separates a node from everybody, including the test.
func (n *Network) Pull(tb testing.TB, i int) {
	tb.Helper()
	run(tb, "ip", "link", "set", fmt.Sprintf("v%d", i), "nomaster")
}

// Heal undoes all cuts.
func (n *Network) Heal(tb testing.TB) {
	tb.Helper()
	for i, pid := range n.pids {
		run(tb, append(enter(pid), "nft", "flush", "chain", "inet", "chaos", "in")...)
		run(tb, "ip", "link", "set", fmt.Sprintf("v%d", i), "master", "br0")
	}
}

// authority issues the nodes' certificates with the hub's own commands.
type authority struct{ binary, dir string }

func newAuthority(tb testing.TB) *authority {
	tb.Helper()
	a := &authority{hubtest.Binary(tb), tb.TempDir()}
	run(tb, a.binary, "cluster", "init-ca", "--dir", a.dir)
	return a
}

// issue creates a certificate for a node and returns the settings that use it.
func (a *authority) issue(tb testing.TB, id, host string) hubtest.Settings {
	tb.Helper()
	run(tb, a.binary, "cluster", "issue-cert", "--dir", a.dir, "--node", id, "--host", host)
	return hubtest.Settings{
		"cluster.tls.ca":   filepath.Join(a.dir, "ca.pem"),
		"cluster.tls.cert": filepath.Join(a.dir, id+".pem"),
		"cluster.tls.key":  filepath.Join(a.dir, id+".key"),
	}
}
