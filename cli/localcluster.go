package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"quorumhub/auth/keyring"
	"quorumhub/configs"
)

// raftPortDistance is how far a node's cluster port lies above its HTTP port.
const raftPortDistance = 100

// clusterOptions describe a local cluster.
type clusterOptions struct {
	nodes int
	// http is the first node's address; port 0 picks free ones.
	http string
	// dir is kept; empty stands for a temporary directory that close removes.
	dir string
	// set holds key=value texts that every node gets.
	set []string
	env []string
}

// localCluster is a cluster of child processes on this machine.
type localCluster struct {
	dir       string
	temporary bool
	nodes     []*localNode
}

// newLocalCluster chooses ports and writes each node's configuration; nothing runs yet. The caller must close it.
func newLocalCluster(o clusterOptions) (c *localCluster, err error) {
	host, port, err := loopbackAddr(o.http)
	if err != nil {
		return nil, err
	}
	if err := checkSet(o.set); err != nil {
		return nil, err
	}
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find the program's own file: %w", err)
	}
	if port, err = choosePorts(host, port, o.nodes); err != nil {
		return nil, err
	}

	c = &localCluster{dir: o.dir}
	if c.dir == "" {
		c.temporary = true
		if c.dir, err = os.MkdirTemp("", "quorumhub-"); err != nil {
			return nil, fmt.Errorf("make a temporary directory: %w", err)
		}
	} else if c.dir, err = filepath.Abs(c.dir); err != nil {
		return nil, fmt.Errorf("--data-dir: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close())
		}
	}()
	var urls, peers []string
	for i := range o.nodes {
		n := &localNode{
			id:          "node-" + strconv.Itoa(i+1),
			httpAddr:    net.JoinHostPort(host, strconv.Itoa(port+i)),
			clusterAddr: net.JoinHostPort(host, strconv.Itoa(port+raftPortDistance+i)),
			program:     program,
			env:         childEnv(o.env),
		}
		n.dir = filepath.Join(c.dir, n.id)
		urls = append(urls, n.url())
		peers = append(peers, n.id+"="+n.clusterAddr)
		c.nodes = append(c.nodes, n)
	}
	if o.nodes == 1 {
		peers = nil // the one node needs no cluster port
	}
	for _, n := range c.nodes {
		if err := n.writeConfig(urls, peers, o.set); err != nil {
			return c, err
		}
	}
	return c, c.shareKey()
}

// shareKey gives every node the same key for secrets at rest: that of the first node that has one, else a new one.
func (c *localCluster) shareKey() error {
	if len(c.nodes) == 1 {
		return nil
	}
	var key []byte
	for _, n := range c.nodes {
		data, err := os.ReadFile(n.keyFile())
		if err == nil {
			key = data
			break
		}
		if !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("share the key for secrets: %w", err)
		}
	}
	if key == nil {
		_, text, err := keyring.GenerateKey()
		if err != nil {
			return err
		}
		key = []byte("# Key that seals subscribers' secrets, the same on every node. Keep it: without it they cannot be signed for.\n" + text + "\n")
	}
	for _, n := range c.nodes {
		if _, err := os.Stat(n.keyFile()); err == nil {
			continue
		}
		if err := os.MkdirAll(n.dataDir(), 0o700); err != nil {
			return fmt.Errorf("share the key for secrets: %w", err)
		}
		//nolint:gosec // the path lies in the directory that the user of dev chose
		if err := os.WriteFile(n.keyFile(), key, 0o600); err != nil {
			return fmt.Errorf("share the key for secrets: %w", err)
		}
	}
	return nil
}

// ownedKeys are set for each node and not for the user to choose.
func ownedKeys() []string {
	return []string{"http.addr", "cluster.addr", "cluster.node_id", "cluster.peers", "data_dir"}
}

func checkSet(set []string) error {
	for _, text := range set {
		key, _, _ := strings.Cut(text, "=")
		if slices.Contains(ownedKeys(), strings.TrimSpace(key)) {
			return usageError(fmt.Sprintf("--set: %s is chosen for each node; use --http and --data-dir instead", key))
		}
	}
	return nil
}

// childEnv is the environment without what would give every node the same place.
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

// writeConfig writes the node's config.yaml: what makes it a development node, with the user's settings over it. The file
// alone is enough to start the node again.
func (n *localNode) writeConfig(urls, peers, set []string) error {
	base := []string{
		"http.addr=" + n.httpAddr,
		"http.public_url=" + urls[0],
		"http.alias_urls=" + strings.Join(urls, ","),
		"cluster.addr=" + n.clusterAddr,
		"cluster.node_id=" + n.id,
		"cluster.peers=" + strings.Join(peers, ","),
		"data_dir=" + n.dataDir(),
		"topics.auto_register=true",
		"delivery.egress.mode=dev-loopback",
		"fetch.egress.mode=dev-loopback",
	}
	all := append(base, set...)
	cfg, err := configs.Load(configs.Source{Set: all})
	if err != nil {
		return withCode(codeUsage, err)
	}
	given := make(map[string]bool)
	for _, text := range all {
		key, _, _ := strings.Cut(text, "=")
		given[strings.TrimSpace(key)] = true
	}
	settings := slices.DeleteFunc(cfg.Settings(), func(s configs.Setting) bool { return !given[s.Key] })
	text, err := configs.YAML(settings)
	if err != nil {
		return fmt.Errorf("write %s: %w", n.configFile(), err)
	}
	if err := os.MkdirAll(n.dir, 0o700); err != nil {
		return fmt.Errorf("make the directory of %s: %w", n.id, err)
	}
	if err := os.WriteFile(n.configFile(), text, 0o600); err != nil {
		return fmt.Errorf("write the configuration of %s: %w", n.id, err)
	}
	// The environment wins over the file: find out here, not in a log file, when the two do not fit.
	if _, err := configs.Load(configs.Source{File: n.configFile(), Env: n.env}); err != nil {
		return withCode(codeUsage, err)
	}
	return nil
}

// start starts all nodes and waits until each is ready.
func (c *localCluster) start(ctx context.Context) error {
	for _, n := range c.nodes {
		if err := n.start(); err != nil {
			return err
		}
	}
	for _, n := range c.nodes {
		if err := n.ready(ctx); err != nil {
			return err
		}
	}
	return nil
}

// stop stops all nodes at the same time and waits for them.
func (c *localCluster) stop() {
	var wg sync.WaitGroup
	for _, n := range c.nodes {
		wg.Go(n.stop)
	}
	wg.Wait()
}

// close stops all nodes and removes a temporary directory.
func (c *localCluster) close() error {
	c.stop()
	if !c.temporary {
		return nil
	}
	if err := os.RemoveAll(c.dir); err != nil {
		return fmt.Errorf("remove the temporary directory: %w", err)
	}
	return nil
}

// loopbackAddr splits the address of a development hub, which must not be reachable from elsewhere.
func loopbackAddr(addr string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(addr)
	number, portErr := strconv.ParseUint(text, 10, 16)
	if err != nil || portErr != nil {
		return "", 0, usageError(fmt.Sprintf("--http: got %q, expected HOST:PORT such as 127.0.0.1:8080", addr))
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	if ip, err := netip.ParseAddr(host); err != nil || !ip.IsLoopback() {
		return "", 0, usageError(fmt.Sprintf("--http: got %q, expected a loopback address such as 127.0.0.1:8080; "+
			"a hub that others reach is started with quorumhub serve", addr))
	}
	return host, int(number), nil
}

// choosePorts returns the first HTTP port. All ports of the cluster are free at the moment of the answer.
func choosePorts(host string, port, nodes int) (int, error) {
	if port != 0 {
		if busy, err := probePorts(host, port, nodes); err != nil {
			return 0, usageError(fmt.Sprintf("--http: port %d cannot be used (%v); choose another with --http %s",
				busy, errors.Unwrap(err), net.JoinHostPort(host, "PORT")))
		}
		return port, nil
	}
	const tries = 50
	for range tries {
		l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			return 0, fmt.Errorf("find a free port: %w", err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		l.Close()
		if _, err := probePorts(host, port, nodes); err == nil {
			return port, nil
		}
	}
	return 0, fmt.Errorf("no %d free neighbouring ports found in %d tries", nodes, tries)
}

// probePorts returns the first port that cannot be listened on.
func probePorts(host string, port, nodes int) (int, error) {
	for _, first := range []int{port, port + raftPortDistance} {
		for i := range nodes {
			if first+i > 65535 {
				return first + i, &net.OpError{Op: "listen", Err: errors.New("there is no such port")}
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
