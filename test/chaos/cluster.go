package chaos

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"quorumhub/auth/keyring"
	"quorumhub/test/hubtest"
)

// ClusterNode is a node as listed by GET /v1/cluster.
type ClusterNode struct {
	ID            string `json:"id"`
	Role          string `json:"role"`
	AppliedIndex  uint64 `json:"applied_index"`
	StateHash     string `json:"state_hash"`
	Subscriptions int    `json:"subscriptions"`
}

// ClusterView is GET /v1/cluster.
type ClusterView struct {
	Leader string        `json:"leader"`
	Nodes  []ClusterNode `json:"nodes"`
}

// Cluster is a group of nodes that found a cluster together. Only one goroutine may call its methods, unless
// they say otherwise.
type Cluster struct {
	Nodes []*hubtest.Node
	stops []bool // stopped by SIGSTOP
	dir   string
	peers []string
}

// requestTimeout applies to clients and tests, because a node that is stopped or cut off answers nobody.
const requestTimeout = 2 * time.Second

// Site is where a node runs: its addresses and how it is started.
type Site struct {
	HTTP, Cluster string   // host:port, to listen on
	Advertised    string   // the address given to its peers; empty: Cluster
	Through       []string // see hubtest.Options
	Settings      hubtest.Settings
	DataDir       string // empty: next to its configuration
}

// FreeSites returns n sites on loopback.
func FreeSites(n int) ([]Site, error) {
	addrs, err := hubtest.FreeAddrs(2 * n)
	if err != nil {
		return nil, err
	}
	out := make([]Site, n)
	for i := range out {
		out[i] = Site{HTTP: addrs[i], Cluster: addrs[n+i]}
	}
	return out, nil
}

// PrepareCluster prepares the nodes without starting them. Everything ends with the test.
func PrepareCluster(tb testing.TB, sites []Site, settings hubtest.Settings) *Cluster {
	tb.Helper()
	dir := tb.TempDir()
	_, key, err := keyring.GenerateKey()
	if err != nil {
		tb.Fatal(err)
	}
	keyFile := filepath.Join(dir, "secrets.key")
	if err := os.WriteFile(keyFile, []byte(key+"\n"), 0o600); err != nil {
		tb.Fatal(err)
	}
	c := &Cluster{stops: make([]bool, len(sites)), dir: dir}
	var urls []string
	for i, site := range sites {
		id := fmt.Sprintf("node-%d", i+1)
		own := filepath.Join(dir, id)
		if err := os.Mkdir(own, 0o700); err != nil {
			tb.Fatal(err)
		}
		env := []string{"GOMAXPROCS=2"} // several processes share the cores
		if site.DataDir != "" {
			// The signals with which Go preempts goroutines interrupt a sync in a file system in user space,
			// but not one on a disk.
			env = append(env, "GODEBUG=asyncpreemptoff=1")
		}
		n, err := hubtest.PrepareNode(hubtest.Options{Binary: hubtest.Binary(tb), Dir: own, Through: site.Through, Timeout: requestTimeout,
			ReadyIn: 2 * hubtest.Patience,
			Env:     env})
		if err != nil {
			tb.Fatal(err)
		}
		if site.DataDir != "" {
			n.DataDir = site.DataDir
		}
		n.Place(id, site.HTTP, site.Cluster)
		if site.Advertised == "" {
			site.Advertised = site.Cluster
		}
		n.Settings = n.Settings.With(site.Settings)
		c.peers = append(c.peers, id+"="+site.Advertised)
		urls = append(urls, n.URL)
		c.Nodes = append(c.Nodes, n)
	}
	for _, n := range c.Nodes {
		n.Settings = n.Settings.With(hubtest.Settings{
			"http.public_url": urls[0], "http.alias_urls": urls, "cluster.peers": c.peers, "secrets.key_file": keyFile, "delivery.timeout": "10s",
		}).With(settings)
	}
	tb.Cleanup(func() {
		for _, n := range c.Nodes {
			if err := n.Close(); err != nil {
				tb.Error(err)
			}
		}
	})
	for _, n := range c.Nodes {
		n.ShowLogOnFailure(tb)
	}
	return c
}

// Join adds one more node and waits until it is ready. The node does not become part of Nodes.
func (c *Cluster) Join(tb testing.TB) *hubtest.Node {
	tb.Helper()
	sites, err := FreeSites(1)
	if err != nil {
		tb.Fatal(err)
	}
	id := fmt.Sprintf("node-%d", len(c.Nodes)+1)
	n, err := hubtest.PrepareNode(hubtest.Options{Binary: hubtest.Binary(tb), Dir: tb.TempDir(), Timeout: requestTimeout, ReadyIn: 2 * hubtest.Patience})
	if err != nil {
		tb.Fatal(err)
	}
	of := c.Nodes[0].Settings
	n.Settings = of
	n.Place(id, sites[0].HTTP, sites[0].Cluster)
	n.Settings = n.Settings.With(hubtest.Settings{"http.public_url": of["http.public_url"],
		"cluster.peers": append(c.peers[:len(c.peers):len(c.peers)], id+"="+sites[0].Cluster)})
	tb.Cleanup(func() {
		if err := n.Close(); err != nil {
			tb.Error(err)
		}
	})
	n.ShowLogOnFailure(tb)
	if err := n.Run(); err != nil {
		tb.Fatal(err)
	}
	return n
}

// Start starts the given nodes at the same time, or all nodes if none are given, and waits until each is
// ready.
func (c *Cluster) Start(tb testing.TB, which ...int) {
	tb.Helper()
	if err := c.TryStart(which...); err != nil {
		tb.Fatal(err)
	}
}

// TryStart is Start for nodes that may refuse to start.
func (c *Cluster) TryStart(which ...int) error {
	if len(which) == 0 {
		for i := range c.Nodes {
			which = append(which, i)
		}
	}
	errs := make([]error, len(which))
	var wg sync.WaitGroup
	for k, i := range which {
		wg.Go(func() { errs[k] = c.Nodes[i].TryRestart() })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Kill ends nodes with SIGKILL, signalling all of them before it waits for any.
func (c *Cluster) Kill(tb testing.TB, which ...int) {
	tb.Helper()
	for _, i := range which {
		// A node that has already exited needs no signal.
		_ = syscall.Kill(c.Nodes[i].PID(), syscall.SIGKILL)
		c.stops[i] = false
	}
	for _, i := range which {
		c.Nodes[i].Kill(tb)
	}
}

// Pause stops a node with SIGSTOP.
func (c *Cluster) Pause(tb testing.TB, i int) {
	tb.Helper()
	if err := syscall.Kill(c.Nodes[i].PID(), syscall.SIGSTOP); err != nil {
		tb.Fatal(err)
	}
	c.stops[i] = true
}

// Resume continues a paused node.
func (c *Cluster) Resume(tb testing.TB, i int) {
	tb.Helper()
	if err := syscall.Kill(c.Nodes[i].PID(), syscall.SIGCONT); err != nil {
		tb.Fatal(err)
	}
	c.stops[i] = false
}

// View returns the cluster as node i sees it. Safe for concurrent use.
func (c *Cluster) View(i int) (v ClusterView, err error) {
	reply, err := c.Nodes[i].Send(http.MethodGet, "/v1/cluster", nil, nil)
	if err != nil {
		return v, err
	}
	if reply.Status != http.StatusOK {
		return v, fmt.Errorf("GET /v1/cluster: got %v", reply)
	}
	return v, json.Unmarshal(reply.Body, &v)
}

// index returns the index of the node with this ID, or -1.
func (c *Cluster) index(id string) int {
	for i, n := range c.Nodes {
		if n.Settings["cluster.node_id"] == id {
			return i
		}
	}
	return -1
}

// Leader waits until a running node reports itself as the leader, and returns its index.
func (c *Cluster) Leader(tb testing.TB) int {
	tb.Helper()
	leader := -1
	hubtest.EventuallyWithin(tb, 2*hubtest.Patience, "a leader", func() error {
		var errs []error
		for i := range c.Nodes {
			if !c.Nodes[i].Running() || c.stops[i] {
				continue
			}
			v, err := c.View(i)
			if err == nil && v.Leader != "" && c.index(v.Leader) == i {
				leader = i
				return nil
			}
			errs = append(errs, fmt.Errorf("node-%d: %w, leader %q", i+1, errors.Join(err, nil), v.Leader))
		}
		return errors.Join(errs...)
	})
	return leader
}

// Even waits until all nodes are up and the subscriptions are shared evenly, to within one, and returns the
// shares.
func (c *Cluster) Even(tb testing.TB, subscriptions int) []int {
	tb.Helper()
	var shares []int
	hubtest.EventuallyWithin(tb, 3*hubtest.Patience, "even shares", func() error {
		v, err := c.View(0)
		if err != nil {
			return err
		}
		shares = nil
		least, most, sum := subscriptions, 0, 0
		for _, n := range v.Nodes {
			if n.Role == "down" {
				return fmt.Errorf("%s is down", n.ID)
			}
			if n.Role == "nonvoter" && n.Subscriptions == 0 {
				continue
			}
			shares = append(shares, n.Subscriptions)
			least, most, sum = min(least, n.Subscriptions), max(most, n.Subscriptions), sum+n.Subscriptions
		}
		if most-least > 1 || sum < subscriptions {
			return fmt.Errorf("shares %v of %d subscriptions", shares, subscriptions)
		}
		return nil
	})
	return shares
}

// SameState waits until all nodes have applied the same index, and compares their state hashes (I6).
func (c *Cluster) SameState(tb testing.TB) {
	tb.Helper()
	hubtest.EventuallyWithin(tb, 3*hubtest.Patience, "the same index on all nodes", func() error {
		var said []string
		hashes, indexes := map[string]bool{}, map[uint64]bool{}
		for i := range c.Nodes {
			v, err := c.View(i)
			if err != nil {
				return err
			}
			for _, n := range v.Nodes {
				if c.index(n.ID) == i { // what a node reports about itself
					hashes[n.StateHash], indexes[n.AppliedIndex] = true, true
					said = append(said, fmt.Sprintf("%s %d %s", n.ID, n.AppliedIndex, n.StateHash))
				}
			}
		}
		if len(indexes) != 1 || len(said) != len(c.Nodes) {
			return fmt.Errorf("indexes differ: %s", strings.Join(said, ", "))
		}
		if len(hashes) != 1 {
			tb.Errorf("the same index, but different states: %s", strings.Join(said, ", "))
		}
		return nil
	})
}
