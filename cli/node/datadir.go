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
			return nil, errors.Join(inUseError(dir), lock.Close())
		}
	}
	return lock, nil
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
