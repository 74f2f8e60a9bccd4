package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"text/tabwriter"
	"time"

	"quorumhub/cli/client"
	"quorumhub/cli/exit"
	"quorumhub/cli/local"
)

// startLimit is how long a local cluster may take until it serves.
const startLimit = 30 * time.Second

// maxNodes is how many voters are of use: more make every write slower.
const maxNodes = 5

type devCmd struct {
	Nodes   int      `help:"How many nodes to start." default:"1" placeholder:"N"`
	HTTP    string   `name:"http" help:"The first node's HTTP address; the next nodes take the next ports. Port 0 picks free ones." default:"127.0.0.1:8080" placeholder:"HOST:PORT"`
	DataDir string   `help:"Keep everything in this directory. Default: a temporary one that is removed at the end." placeholder:"DIR"`
	Set     []string `sep:"none" help:"Set one configuration key on every node. May be repeated." placeholder:"KEY=VALUE"`
}

// Help is shown by --help below the flags.
func (c *devCmd) Help() string {
	return `Every node is a child process with its own directory DIR/node-1, DIR/node-2 …, which holds config.yaml, quorumhub.pid and
quorumhub.log. Loopback callbacks are allowed, topics come into being when they are used, and no credentials are asked for.
A node that is killed stays down; quorumhub serve --config DIR/node-1/config.yaml brings it back. Ctrl-C stops all.`
}

func (c *devCmd) Run(ctx context.Context, s Streams) (err error) {
	if c.Nodes < 1 {
		return exit.Usagef("--nodes: got %d, expected at least 1", c.Nodes)
	}
	if c.Nodes > maxNodes {
		return exit.Usagef("--nodes: got %d, expected at most %d", c.Nodes, maxNodes)
	}
	cluster, err := local.New(local.Options{Nodes: c.Nodes, HTTP: c.HTTP, Dir: c.DataDir, Set: c.Set, Env: s.Env})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cluster.Close()) }()

	starting, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("%s passed", startLimit))
	defer cancel()
	if err := cluster.Start(starting); err != nil {
		return err
	}
	if err := writeNodes(s.Out, cluster); err != nil {
		return err
	}
	watchNodes(ctx, s.Out, cluster)
	fmt.Fprintln(s.Out, "stopping")
	return nil
}

func writeNodes(w io.Writer, c *local.Cluster) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NODE\tHUB\tRAFT\tPID\tLOG")
	for _, n := range c.Nodes {
		fmt.Fprintf(table, "%s\t%s/hub\t%s\t%d\t%s\n", n.ID, n.URL(), n.ClusterAddr, n.PID(), n.LogFile())
	}
	if err := table.Flush(); err != nil {
		return err
	}
	hub := ""
	if first := c.Nodes[0].URL() + "/hub"; first != client.DefaultURL {
		hub = " --hub " + first
	}
	_, err := fmt.Fprintf(w, "\nready; Ctrl-C stops everything. Try in two other terminals:\n"+
		"  quorumhub listen%s --topic news --secret s3cret\n  quorumhub publish%s news --data hello\n", hub, hub)
	return err
}

// watchNodes tells of every node that ends, until ctx does.
func watchNodes(ctx context.Context, w io.Writer, c *local.Cluster) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, n := range c.Nodes {
		wg.Go(func() {
			select {
			case <-ctx.Done():
			case <-n.Down():
				mu.Lock()
				defer mu.Unlock()
				fmt.Fprintf(w, "%s ended (%s); bring it back with: quorumhub serve --config %s\n", n.ID, n.Why(), n.ConfigFile())
			}
		})
	}
	wg.Wait()
	<-ctx.Done()
}
