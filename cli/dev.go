package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"text/tabwriter"
	"time"

	"quorumhub/cli/client"
	"quorumhub/cli/exit"
	"quorumhub/cli/local"
)

// startLimit is how long a local cluster may take to become ready.
const startLimit = 30 * time.Second

// maxNodes is the largest useful cluster: more voters slow every write down.
const maxNodes = 5

type devCmd struct {
	Nodes   int      `help:"The number of nodes." default:"1" placeholder:"N"`
	HTTP    string   `name:"http" help:"The first node's HTTP address. Further nodes use the following ports. Port 0 picks free ports." default:"127.0.0.1:8080" placeholder:"HOST:PORT"`
	DataDir string   `help:"Keep configuration, data and logs here. Default: a temporary directory, removed on exit." placeholder:"DIR"`
	Set     []string `sep:"none" help:"Set one configuration key on every node. Repeatable." placeholder:"KEY=VALUE"`
}

// Help is shown by --help below the flags.
func (c *devCmd) Help() string {
	return `Every node is a child process with its own directory (DIR/node-1, DIR/node-2, …) for config.yaml, quorumhub.pid and
quorumhub.log. Loopback callbacks are allowed, topics are created on first use, and no credentials are needed.
A node that is killed stays down; restart it with quorumhub serve --config DIR/node-1/config.yaml. Ctrl-C stops all nodes. SIGHUP, which
is also what a terminal sends that is closed, makes them read their configurations again, as with quorumhub serve.`
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

	starting, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("no success within %s", startLimit))
	defer cancel()
	if err := cluster.Start(starting); err != nil {
		return err
	}
	writeNodes(s.Out, cluster)
	watchNodes(ctx, s.Out, cluster, s.Hangups)
	fmt.Fprintln(s.Out, "stopping")
	return nil
}

// writeNodes prints the nodes. If nobody can read that, they serve all the same.
func writeNodes(w io.Writer, c *local.Cluster) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NODE\tHUB\tCLUSTER ADDRESS\tPID\tLOG")
	for _, n := range c.Nodes {
		fmt.Fprintf(table, "%s\t%s/hub\t%s\t%d\t%s\n", n.ID, n.URL(), n.ClusterAddr, n.PID(), n.LogFile())
	}
	_ = table.Flush() // see above
	hub := ""
	if first := c.Nodes[0].URL() + "/hub"; first != client.DefaultURL {
		hub = " --hub " + first
	}
	fmt.Fprintf(w, "\nready; press Ctrl-C to stop. Try in two other terminals:\n"+
		"  quorumhub listen%s --topic news --secret s3cret\n  quorumhub publish%s news --data hello\n", hub, hub)
}

// watchNodes reports every node that exits, and passes hangups on to the nodes, until ctx ends.
func watchNodes(ctx context.Context, w io.Writer, c *local.Cluster, hangups <-chan os.Signal) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	for _, n := range c.Nodes {
		wg.Go(func() {
			select {
			case <-ctx.Done():
			case <-n.Down():
				mu.Lock()
				defer mu.Unlock()
				fmt.Fprintf(w, "%s exited (%s); restart it with: quorumhub serve --config %s\n", n.ID, n.Why(), n.ConfigFile())
			}
		})
	}
	for ctx.Err() == nil {
		select {
		case <-hangups:
			for _, n := range c.Nodes {
				n.Reload()
			}
		case <-ctx.Done():
		}
	}
	wg.Wait()
}
