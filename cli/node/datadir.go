package node

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"quorumhub/auth/keyring"
	"quorumhub/configs"
	"quorumhub/durable"
	"quorumhub/raftlog"
)

// LockFile is the name of a file in every data directory that was ever used.
const LockFile = "lock"

// FSMDir is the directory of the store in the data directory.
const FSMDir = "fsm"

// lockPatience is how long to wait for a process that was killed to release its files.
const lockPatience = time.Second

// LockDataDir creates the data directory if necessary and locks it for this process until the returned file is closed.
func LockDataDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data_dir: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, LockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data_dir: %w", err)
	}
	for end := time.Now().Add(lockPatience); ; time.Sleep(lockPatience / 50) {
		if err = durable.TryLock(lock); err == nil {
			break
		}
		if time.Now().After(end) {
			return nil, errors.Join(fmt.Errorf("data_dir %s is in use by another quorumhub; stop it, or choose another data_dir", dir), lock.Close())
		}
	}
	return lock, nil
}

// firstKeys opens the sealing keys. It creates a key only on the first start: a new key in place of a lost one could not open the
// secret of any subscription. Nodes of a cluster share a key, so none of them creates it.
func (n *Node) firstKeys() (*keyring.Store, error) {
	shared := len(n.cfg.Cluster.Peers) > 1
	keys, err := OpenKeys(n.cfg, n.store.Applied().Index == 0 && !shared)
	switch {
	case errors.Is(err, os.ErrNotExist) && shared:
		return nil, fmt.Errorf("%w; all nodes of a cluster share one key: create it once (quorumhub keys new > secrets.key; chmod 600 secrets.key) "+
			"and copy the file to every node", err)
	case errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("%w; it seals the secrets of this node's subscriptions, so restore the file from a copy", err)
	}
	return keys, err
}

// OpenKeys opens the configured sealing keys. With create, it creates a missing key file.
func OpenKeys(cfg *configs.Config, create bool) (*keyring.Store, error) {
	if cfg.Secrets.Key != "" {
		return keyring.Fixed(cfg.Secrets.Key)
	}
	return keyring.Open(cfg.KeyFile(), create)
}

// ID returns the configured node ID, else that of the data directory, else a new one.
func ID(cfg *configs.Config) (string, error) {
	if cfg.Cluster.NodeID != "" {
		return cfg.Cluster.NodeID, nil
	}
	if self, ok := cfg.Self(); ok {
		return self.ID, nil
	}
	known, err := raftlog.ReadIdentity(cfg.DataDir)
	if err != nil {
		return "", err
	}
	if known != nil {
		return known.ID, nil
	}
	b := make([]byte, 4)
	if _, err := rand.Read(b); err != nil {
		return "", fmt.Errorf("generate a node ID: %w", err)
	}
	return "node-" + hex.EncodeToString(b), nil
}
