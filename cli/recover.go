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
	DataDir string   `help:"The node's data_dir, if not that of the configuration." placeholder:"DIR"`
	Peers   []string `help:"The node that goes on, as id=host:port; needed only when the configuration does not say it." placeholder:"ID=HOST:PORT"`
	Yes     bool     `help:"Do it. Without this flag nothing is changed."`
}

// Help is the longer text of --help.
func (*recoverCmd) Help() string {
	return "For a cluster that cannot come back: more than half of its voters are lost for good. Stop what is left of it, and run this command without --yes " +
		"on each node that still has its data. The one with the highest term of its last entry, among these the one with the highest entry, knows most: " +
		"run it there with --yes, then start that node with serve. What its log holds and nobody knows to be committed is committed by that. " +
		"Messages that only the lost nodes had are lost.\n\n" +
		"The node becomes the only voter of a new cluster with a new id, so that no node of the former one can talk to it. All others, survivors too, " +
		"join it with empty data directories, with the same configuration as before if you like: to the new cluster they are new nodes. One node only, because the logs of two survivors may differ where nothing was committed, and nobody could tell any more."
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
		return fmt.Errorf("data_dir %s holds no node: %w", cfg.DataDir, err)
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
		return exit.Usagef("nothing was changed; add --yes to do it")
	}
	return nil
}

// recoveredSelf is the node that goes on: that of the data directory, at the address the configuration or --peers has.
func recoveredSelf(cfg *configs.Config, peers []string) (self configs.Peer, err error) {
	known, err := raftlog.ReadIdentity(cfg.DataDir)
	switch {
	case err != nil:
		return self, err
	case known == nil:
		return self, fmt.Errorf("data_dir %s holds no node: there is no node.json", cfg.DataDir)
	case len(peers) > 1:
		return self, exit.Usagef("--peers: got %d nodes, expected one; recover the one that knows most, the others join it with empty data directories", len(peers))
	}
	self = configs.Peer{ID: known.ID, Addr: cfg.Cluster.Addr}
	if p, ok := cfg.Self(); ok && p.ID == known.ID {
		self = p
	}
	if len(peers) == 1 {
		id, addr, ok := strings.Cut(peers[0], "=")
		if !ok || addr == "" || id != known.ID {
			return self, exit.Usagef("--peers: got %q, expected %s=host:port, for this is the data of %s", peers[0], known.ID, known.ID)
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
		fmt.Fprintf(&b, "%d entries of it, with %d messages, may not have been committed by the cluster: now they are\n", n, p.Messages)
	}
	if len(p.LeftOut) > 0 {
		fmt.Fprintf(&b, "left out: %s; they, and the clusters they may still form, never meet this one again\n", strings.Join(p.LeftOut, ", "))
	}
	if p.NewCluster != "" {
		fmt.Fprintf(&b, "%s is the only voter of cluster %s now; start it with quorumhub serve, then start others with empty data directories: they join it\n", p.Node, p.NewCluster)
	} else {
		fmt.Fprintf(&b, "of several survivors recover the one with the highest term, among these the one with the highest entry\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
