package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"quorumhub/cli/node"
	"quorumhub/cli/terminal"
	"quorumhub/configs"
	"quorumhub/raftlog"
	"quorumhub/store"
)

type restoreCmd struct {
	File string `arg:"" placeholder:"FILE" help:"The backup file."`
	configFlags
	decryptFlags
	DataDir string `help:"The data_dir to create. Default: that of the configuration." placeholder:"DIR"`
}

// Help is shown by --help below the flags.
func (*restoreCmd) Help() string {
	return "The whole backup is verified before anything is written. Then data_dir, which must be empty except for the key file and the configuration, becomes that of a single node, " +
		"the only voter of a new cluster with the state of the backup: topics, messages, subscriptions, cursors and pending requests. Start it with serve, then let other nodes " +
		"join it with empty data directories. Nodes of the old cluster cannot contact it; stop them, or subscribers receive deliveries from both.\n\n" +
		"Restoring needs the key file of the old nodes (secrets.key_file, by default secrets.key in data_dir): the backup contains the sealed secrets, but not the sealing key.\n\n" +
		"Leases have kept running since the backup was taken. Messages published after it are lost, and new messages reuse their IDs."
}

func (c *restoreCmd) Run(_ context.Context, s Streams) error {
	if c.DataDir != "" {
		c.Set = append(c.Set, "data_dir="+c.DataDir)
	}
	cfg, err := c.load(s.Env)
	if err != nil {
		return err
	}
	file, err := os.Open(c.File)
	if err != nil {
		return err
	}
	defer file.Close()
	meta, err := c.verify(file)
	if err != nil {
		return err
	}
	if err := checkRestoreDir(cfg, c.Config); err != nil {
		return err
	}
	if err := checkRestoreKey(cfg, meta); err != nil {
		return err
	}
	lock, err := node.LockDataDir(cfg.DataDir)
	if err != nil {
		return err
	}
	defer lock.Close()
	id, err := node.ID(cfg)
	if err != nil {
		return err
	}
	cluster, err := c.restore(file, cfg, id)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.Out, "%s now contains node %s of cluster %s, with the state of cluster %s as of entry %d, %s; start it with quorumhub serve\n",
		cfg.DataDir, id, cluster, meta.ClusterID, meta.Index, moment(meta.LogTime))
	return err
}

func (c *restoreCmd) verify(file *os.File) (*store.BackupMeta, error) {
	in, err := c.open(file)
	if err != nil {
		return nil, err
	}
	return store.VerifyBackup(c.File, in)
}

// restore fills the data directory, and empties it again if that fails.
func (c *restoreCmd) restore(file *os.File, cfg *configs.Config, id string) (cluster string, err error) {
	dir := filepath.Join(cfg.DataDir, node.FSMDir)
	addr := cfg.Cluster.Addr
	if self, ok := cfg.Self(); ok {
		addr = self.Addr
	}
	var st *store.Store
	cluster, err = raftlog.ForceNewCluster(raftlog.Options{ID: id, Dir: cfg.DataDir, Address: addr}, func() (*store.Store, error) {
		in, err := c.open(file)
		if err != nil {
			return nil, err
		}
		if _, err := store.Extract(c.File, in, dir); err != nil {
			return nil, err
		}
		st, err = store.Open(store.Options{Dir: dir})
		return st, err
	})
	if st != nil {
		err = errors.Join(err, st.Close())
	}
	if err != nil {
		for _, name := range []string{node.FSMDir, "raft.db", "node.json"} { // node.json last: a node could start from the rest without it
			err = errors.Join(err, os.RemoveAll(filepath.Join(cfg.DataDir, name)))
		}
	}
	return cluster, err
}

// checkRestoreDir refuses a directory that contains anything but files that are put there for a node.
func checkRestoreDir(cfg *configs.Config, config string) error {
	entries, err := os.ReadDir(cfg.DataDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("data_dir: %w", err)
	}
	given := []string{node.LockFile, "lost+found", "config.yaml", "quorumhub.log", "quorumhub.pid"}
	for _, f := range []string{cfg.KeyFile(), config, cfg.Cluster.TLS.CA, cfg.Cluster.TLS.Cert, cfg.Cluster.TLS.Key} {
		given = append(given, filepath.Base(f))
	}
	var found []string
	for _, e := range entries {
		if !slices.Contains(given, e.Name()) {
			found = append(found, e.Name())
		}
	}
	if len(found) > 0 {
		return fmt.Errorf("data_dir %s is not empty: it contains %s; empty it or choose another one", cfg.DataDir, terminal.OneLine(strings.Join(found[:min(len(found), 5)], ", ")))
	}
	return nil
}

// checkRestoreKey refuses a restore if the secrets in the backup could not be opened afterwards.
func checkRestoreKey(cfg *configs.Config, meta *store.BackupMeta) error {
	if meta.SecretsKey == "" {
		return nil
	}
	needed := meta.SecretsKeys
	if len(needed) == 0 {
		needed = []string{meta.SecretsKey}
	}
	words := strings.Join(needed, " and ")
	keys, err := node.OpenKeys(cfg, false)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("%w; the secrets in the backup are sealed with key %s, which is not in the backup: copy the old nodes' key file there", err, words)
	case err != nil:
		return err
	}
	for _, id := range needed {
		if ring := keys.Ring(); !ring.Opens(id) {
			return fmt.Errorf("%s contains key %s, but the secrets in the backup are sealed with key %s; copy the old nodes' key file there, as it was when the backup was taken",
				keys.Where(), strings.Join(ring.IDs(), " and "), words)
		}
	}
	return nil
}
