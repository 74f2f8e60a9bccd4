package raftlog

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
)

const (
	identityFile   = "node.json"
	identityFormat = 1
)

// Identity is what node.json holds. A node without a cluster id has not finished its first start, and
// has acknowledged nothing.
type Identity struct {
	Format    int       `json:"format"`
	ID        string    `json:"id"`
	ClusterID string    `json:"cluster_id"`
	CreatedAt time.Time `json:"created_at"`
	// Instance changes when the node's data are lost: it tells a node from a new one under an old id.
	Instance string `json:"instance,omitempty"`
	// Members are the instances of the nodes that founded the cluster, by id; empty for a cluster of one node.
	Members map[string]string `json:"members,omitempty"`
	// RemovedAt is when the node learnt that it is not part of the cluster any more. It never is again.
	RemovedAt *time.Time `json:"removed_at,omitempty"`
	// Former are the ids of the clusters that this one goes on from: restored from a backup, or recovered. Oldest first.
	Former []string `json:"former_cluster_ids,omitempty"`
}

// ReadIdentity reads node.json in dir. It returns nil without an error when there is none.
func ReadIdentity(dir string) (*Identity, error) {
	path := filepath.Join(dir, identityFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, &FileError{File: path, Problem: "cannot be read", Hint: "check the permissions of the data directory", Err: err}
	}
	id := new(Identity)
	if err := json.Unmarshal(data, id); err != nil {
		return nil, &FileError{File: path, Problem: "is damaged", Hint: hintRestore, Err: err}
	}
	if id.Format != identityFormat {
		return nil, &FileError{File: path, Problem: fmt.Sprintf("has format %d, this program knows format %d", id.Format, identityFormat),
			Hint: "start the version of quorumhub that wrote it"}
	}
	if id.ID == "" {
		return nil, &FileError{File: path, Problem: `"id" is empty`, Hint: hintRestore}
	}
	return id, nil
}

// write replaces node.json in dir; it is durable when write returns.
func (id *Identity) write(dir string) error {
	path := filepath.Join(dir, identityFile)
	data, err := json.MarshalIndent(id, "", "  ")
	if err == nil {
		err = renameio.WriteFile(path, append(data, '\n'), 0o600)
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return &FileError{File: path, Problem: "cannot be written", Hint: "check the permissions and the free space of the data directory", Err: err}
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
