package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"quorumhub/cli/exit"
	"quorumhub/cli/node"
	"quorumhub/configs"
	"quorumhub/raftlog"
	"quorumhub/store"
)

type recoverCmd struct {
	configFlags
	DataDir string   `help:"The node's data_dir. Default: that of the configuration." placeholder:"DIR"`
	Peers   []string `help:"This node as ID=HOST:PORT. Required only if the configuration does not name it." placeholder:"ID=HOST:PORT"`
	Yes     bool     `help:"Perform the recovery. Without this flag nothing is changed."`
}

// Help is shown by --help below the flags.
func (*recoverCmd) Help() string {
	return "Use this if a cluster has permanently lost at least half of its voters. Stop all remaining nodes and run this command without --yes " +
		"on each node that still has its data. The most up-to-date node is the one whose last entry has the highest term and, among equals, the highest index: " +
		"run the command there with --yes, then start that node with serve. This commits every entry in its log, including those that may not have been committed before. " +
		"Messages that only the lost nodes had are lost.\n\n" +
		"The node becomes the only voter of a new cluster with a new ID, which nodes of the old cluster cannot contact. All other nodes, survivors included, " +
		"join it with empty data directories and, if you like, their old configuration: to the new cluster they are new nodes. Recover one node only, because the logs of two survivors may differ in their uncommitted entries."
}

func (c *recoverCmd) Run(ctx context.Context, s Streams) error {
	if c.DataDir != "" {
		c.Set = append(c.Set, "data_dir="+c.DataDir)
	}
	cfg, err := c.load(s.Env)
	if err != nil {
		return err
	}
	self, err := recoveredSelf(cfg, c.Peers)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(cfg.DataDir, node.FSMDir)); err != nil {
		return fmt.Errorf("data_dir %s contains no node: %w", cfg.DataDir, err)
	}
	lock, err := node.LockDataDir(cfg.DataDir)
	if err != nil {
		return err
	}
	defer lock.Close()
	st, err := store.Open(store.Options{Dir: filepath.Join(cfg.DataDir, node.FSMDir)})
	if err != nil {
		return err
	}
	plan, err := raftlog.Recover(raftlog.Options{ID: self.ID, Dir: cfg.DataDir, Address: self.Addr, Store: st}, c.Yes)
	if err = errors.Join(err, st.Close()); err != nil {
		return err
	}
	if err := printPlan(s.Out, cfg, plan); err != nil {
		return err
	}
	if !c.Yes {
		return exit.Usagef("nothing was changed; add --yes to perform the recovery")
	}
	return nil
}

// recoveredSelf returns the node of the data directory, with its address from the configuration or --peers.
func recoveredSelf(cfg *configs.Config, peers []string) (self configs.Peer, err error) {
	known, err := raftlog.ReadIdentity(cfg.DataDir)
	switch {
	case err != nil:
		return self, err
	case known == nil:
		return self, fmt.Errorf("data_dir %s contains no node: node.json is missing", cfg.DataDir)
	case len(peers) > 1:
		return self, exit.Usagef("--peers: got %d nodes, expected one; recover the most up-to-date node and let the others join it with empty data directories", len(peers))
	}
	self = configs.Peer{ID: known.ID, Addr: cfg.Cluster.Addr}
	if p, ok := cfg.Self(); ok && p.ID == known.ID {
		self = p
	}
	if len(peers) == 1 {
		id, addr, ok := strings.Cut(peers[0], "=")
		if !ok || addr == "" || id != known.ID {
			return self, exit.Usagef("--peers: got %q, expected %s=host:port, because this is the data of %s", peers[0], known.ID, known.ID)
		}
		self.Addr = addr
	}
	return self, nil
}

func printPlan(w io.Writer, cfg *configs.Config, p *raftlog.Plan) error {
	var b strings.Builder
	fmt.Fprintf(&b, "node %s at %s, of cluster %s, in %s\n", p.Node, p.Address, p.Cluster, cfg.DataDir)
	fmt.Fprintf(&b, "its log ends with entry %d of term %d\n", p.LastIndex, p.LastTerm)
	if n := p.LastIndex - p.Durable; n > 0 {
		fmt.Fprintf(&b, "its last %d entries, with %d messages, may not have been committed by the old cluster; this commits them\n", n, p.Messages)
	}
	if len(p.LeftOut) > 0 {
		fmt.Fprintf(&b, "left out: %s; neither they nor a cluster they may still form can contact the new cluster\n", strings.Join(p.LeftOut, ", "))
	}
	if p.NewCluster != "" {
		fmt.Fprintf(&b, "%s is now the only voter of cluster %s; start it with quorumhub serve, then start others with empty data directories to join it\n", p.Node, p.NewCluster)
	} else {
		fmt.Fprintf(&b, "if several nodes survive, recover the one with the highest term and, among equals, the highest entry\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
