// Package local runs a cluster of quorumhub processes on this machine, for development and demonstrations. It may import configs,
// auth/keyring and exit.
package local

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"quorumhub/auth/keyring"
	"quorumhub/cli/exit"
	"quorumhub/configs"
)

// raftPortDistance is the distance from a node's HTTP port to its cluster port.
const raftPortDistance = 100

// Options configures a local cluster.
type Options struct {
	Nodes int
	// HTTP is the first node's address. Port 0 picks free ports.
	HTTP string
	// Dir holds everything and is kept. Empty means a temporary directory, which Close removes.
	Dir string
	// Set holds KEY=VALUE settings for every node.
	Set []string
	Env []string
}

// Cluster is a cluster of child processes on this machine.
type Cluster struct {
	Dir       string
	temporary bool
	Nodes     []*Node
}

// New chooses ports and writes each node's configuration; nothing runs yet. The caller must close the cluster.
func New(o Options) (c *Cluster, err error) {
	host, port, err := loopbackAddr(o.HTTP)
	if err != nil {
		return nil, err
	}
	if err := checkSet(o.Set); err != nil {
		return nil, err
	}
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the running program: %w", err)
	}
	if port, err = choosePorts(host, port, o.Nodes); err != nil {
		return nil, err
	}

	c = &Cluster{Dir: o.Dir}
	if c.Dir == "" {
		c.temporary = true
		if c.Dir, err = os.MkdirTemp("", "quorumhub-"); err != nil {
			return nil, fmt.Errorf("create a temporary directory: %w", err)
		}
	} else if c.Dir, err = filepath.Abs(c.Dir); err != nil {
		return nil, fmt.Errorf("--data-dir: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	var urls, peers []string
	for i := range o.Nodes {
		n := &Node{
			ID:          "node-" + strconv.Itoa(i+1),
			httpAddr:    net.JoinHostPort(host, strconv.Itoa(port+i)),
			ClusterAddr: net.JoinHostPort(host, strconv.Itoa(port+raftPortDistance+i)),
			program:     program,
			env:         childEnv(o.Env),
		}
		n.dir = filepath.Join(c.Dir, n.ID)
		urls = append(urls, n.URL())
		peers = append(peers, n.ID+"="+n.ClusterAddr)
		c.Nodes = append(c.Nodes, n)
	}
	if o.Nodes == 1 {
		peers = nil // a single node needs no cluster port
	}
	for _, n := range c.Nodes {
		if err := n.writeConfig(urls, peers, o.Set); err != nil {
			return c, err
		}
	}
	return c, c.shareKey()
}

// shareKey gives every node the same sealing key: that of the first node that has one, else a new one.
func (c *Cluster) shareKey() error {
	if len(c.Nodes) == 1 {
		return nil
	}
	var key []byte
	for _, n := range c.Nodes {
		data, err := os.ReadFile(n.keyFile())
		if err == nil {
			key = data
			break
		}
		if !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("share the sealing key: %w", err)
		}
	}
	if key == nil {
		_, text, err := keyring.GenerateKey()
		if err != nil {
			return err
		}
		key = []byte("# Sealing key for subscribers' secrets, the same on every node. Keep a copy: without it, deliveries cannot be signed.\n" + text + "\n")
	}
	for _, n := range c.Nodes {
		if _, err := os.Stat(n.keyFile()); err == nil {
			continue
		}
		if err := os.MkdirAll(n.dataDir(), 0o700); err != nil {
			return fmt.Errorf("share the sealing key: %w", err)
		}
		//nolint:gosec // the path is below the directory that the user of dev chose
		if err := os.WriteFile(n.keyFile(), key, 0o600); err != nil {
			return fmt.Errorf("share the sealing key: %w", err)
		}
	}
	return nil
}

// ownedKeys returns the settings that differ between nodes, which the user cannot set.
func ownedKeys() []string {
	return []string{"http.addr", "cluster.addr", "cluster.node_id", "cluster.peers", "data_dir", "pid_file"}
}

func checkSet(set []string) error {
	for _, text := range set {
		key, _, _ := strings.Cut(text, "=")
		if slices.Contains(ownedKeys(), strings.TrimSpace(key)) {
			return exit.Usagef("--set: %s is set for each node; use --http and --data-dir instead", key)
		}
	}
	return nil
}

// childEnv returns the environment without ownedKeys.
func childEnv(env []string) []string {
	owned := make(map[string]bool)
	for _, k := range configs.Keys() {
		if slices.Contains(ownedKeys(), k.Name) {
			owned[k.Env] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(env), func(line string) bool {
		name, _, _ := strings.Cut(line, "=")
		return owned[name]
	})
}

// writeConfig writes the node's config.yaml: the settings of a development node, overridden by the user's. The file alone suffices to
// restart the node.
func (n *Node) writeConfig(urls, peers, set []string) error {
	base := []string{
		"http.addr=" + n.httpAddr,
		"http.public_url=" + urls[0],
		"http.alias_urls=" + strings.Join(urls, ","),
		"cluster.addr=" + n.ClusterAddr,
		"cluster.node_id=" + n.ID,
		"cluster.peers=" + strings.Join(peers, ","),
		"data_dir=" + n.dataDir(),
		"pid_file=" + n.pidFile(),
		"topics.auto_register=true",
		"delivery.egress.mode=dev-loopback",
		"fetch.egress.mode=dev-loopback",
	}
	all := append(base, set...)
	cfg, err := configs.Load(configs.Source{Set: all})
	if err != nil {
		return exit.With(exit.Usage, err)
	}
	given := make(map[string]bool)
	for _, text := range all {
		key, _, _ := strings.Cut(text, "=")
		given[strings.TrimSpace(key)] = true
	}
	settings := slices.DeleteFunc(cfg.Settings(), func(s configs.Setting) bool { return !given[s.Key] })
	text, err := configs.YAML(settings)
	if err != nil {
		return fmt.Errorf("write %s: %w", n.ConfigFile(), err)
	}
	if err := os.MkdirAll(n.dir, 0o700); err != nil {
		return fmt.Errorf("create the directory of %s: %w", n.ID, err)
	}
	if err := os.WriteFile(n.ConfigFile(), text, 0o600); err != nil {
		return fmt.Errorf("write the configuration of %s: %w", n.ID, err)
	}
	// The environment overrides the file. Report a conflict here rather than in the node's log.
	if _, err := configs.Load(configs.Source{File: n.ConfigFile(), Env: n.env}); err != nil {
		return exit.With(exit.Usage, err)
	}
	return nil
}

// Start starts all nodes and waits until each is ready.
func (c *Cluster) Start(ctx context.Context) error {
	for _, n := range c.Nodes {
		if err := n.Start(); err != nil {
			return err
		}
	}
	for _, n := range c.Nodes {
		if err := n.Ready(ctx); err != nil {
			return err
		}
	}
	return nil
}

// stop stops all nodes at the same time and waits for them.
func (c *Cluster) stop() {
	var wg sync.WaitGroup
	for _, n := range c.Nodes {
		wg.Go(n.stop)
	}
	wg.Wait()
}

// Keep makes close leave a temporary directory behind.
func (c *Cluster) Keep() { c.temporary = false }

// Close stops all nodes and removes a temporary directory.
func (c *Cluster) Close() error {
	c.stop()
	if !c.temporary {
		return nil
	}
	if err := os.RemoveAll(c.Dir); err != nil {
		return fmt.Errorf("remove the temporary directory: %w", err)
	}
	return nil
}

// loopbackAddr splits the address of a development hub, which must be unreachable from other machines.
func loopbackAddr(addr string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(addr)
	number, portErr := strconv.ParseUint(text, 10, 16)
	if err != nil || portErr != nil {
		return "", 0, exit.Usagef("--http: got %q, expected HOST:PORT such as 127.0.0.1:8080", addr)
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	if ip, err := netip.ParseAddr(host); err != nil || !ip.IsLoopback() {
		return "", 0, exit.Usagef("--http: got %q, expected a loopback address such as 127.0.0.1:8080; "+
			"use quorumhub serve for a hub that other machines can reach", addr)
	}
	return host, int(number), nil
}

// choosePorts returns the first HTTP port, after checking that all ports of the cluster are free.
func choosePorts(host string, port, nodes int) (int, error) {
	if port != 0 {
		if busy, err := probePorts(host, port, nodes); err != nil {
			return 0, exit.Usagef("--http: cannot use port %d (%v); choose another with --http %s",
				busy, errors.Unwrap(err), net.JoinHostPort(host, "PORT"))
		}
		return port, nil
	}
	const tries = 50
	for range tries {
		port, err := freePort(host)
		if err != nil {
			return 0, err
		}
		if _, err := probePorts(host, port, nodes); err == nil {
			return port, nil
		}
	}
	return 0, fmt.Errorf("found no %d free consecutive ports in %d tries", nodes, tries)
}

// freePort proposes a port. It is below those that the system gives to outgoing connections, if that can be known: such a
// connection, of anybody on this machine, may take the port of a node between its choice and its start, or while it is down.
func freePort(host string) (int, error) {
	const lowest, enough = 10_000, 4 * raftPortDistance
	if below := firstOutgoingPort() - 2*raftPortDistance; below >= lowest+enough {
		return lowest + rand.IntN(below-lowest), nil
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// firstOutgoingPort returns the first of the ports that Linux gives to outgoing connections, or 0 if it does not say.
func firstOutgoingPort() int {
	data, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(data)), "\t")
	port, err := strconv.Atoi(first)
	if err != nil {
		return 0
	}
	return port
}

// probePorts checks every port of the cluster and returns the first that cannot be listened on.
func probePorts(host string, port, nodes int) (int, error) {
	for _, first := range []int{port, port + raftPortDistance} {
		for i := range nodes {
			if first+i > 65535 {
				return first + i, &net.OpError{Op: "listen", Err: errors.New("no such port")}
			}
			l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(first+i)))
			if err != nil {
				return first + i, err
			}
			l.Close()
		}
	}
	return 0, nil
}
