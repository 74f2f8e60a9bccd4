package raftlog

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"quorumhub/durable"
)

const (
	identityFile   = "node.json"
	identityFormat = 1
)

// Identity is the content of node.json. A node without a cluster ID has not finished its first start and has acknowledged
// nothing.
type Identity struct {
	Format    int       `json:"format"`
	ID        string    `json:"id"`
	ClusterID string    `json:"cluster_id"`
	CreatedAt time.Time `json:"created_at"`
	// Instance is created with the node's data. It distinguishes a node from one with new data under the same ID.
	Instance string `json:"instance,omitempty"`
	// Members holds the instances of the nodes that founded the cluster, by ID. Empty for a cluster of one node.
	Members map[string]string `json:"members,omitempty"`
	// RemovedAt is when the node learned that it was removed from the cluster. Removal is permanent.
	RemovedAt *time.Time `json:"removed_at,omitempty"`
	// Former holds the IDs of the clusters from which this one was restored or recovered, oldest first.
	Former []string `json:"former_cluster_ids,omitempty"`
}

// ReadIdentity reads node.json in dir. It returns nil and no error if there is none.
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
		return nil, &FileError{File: path, Problem: fmt.Sprintf("has format %d, but this program supports format %d", id.Format, identityFormat),
			Hint: "run the version of quorumhub that wrote it"}
	}
	if id.ID == "" {
		return nil, &FileError{File: path, Problem: `"id" is empty`, Hint: hintRestore}
	}
	return id, nil
}

// Check returns an error if these are not the data of the node id, or of one that was removed from its cluster. dir is where they
// are.
func (id *Identity) Check(dir, node string) error {
	path := filepath.Join(dir, identityFile)
	if id.ID != node {
		return &FileError{File: path, Problem: fmt.Sprintf("this is the data of node %q, but cluster.node_id is %q", id.ID, node),
			Hint: "set cluster.node_id to that ID, or choose another data_dir"}
	}
	if id.RemovedAt != nil {
		return &FileError{File: path, Problem: fmt.Sprintf("this node was removed from its cluster (seen on %s)", id.RemovedAt.Format(time.RFC3339)),
			Hint: "to join again, empty data_dir and choose a new cluster.node_id"}
	}
	return nil
}

// write durably replaces node.json in dir.
func (id *Identity) write(dir string) error {
	path := filepath.Join(dir, identityFile)
	data, err := json.MarshalIndent(id, "", "  ")
	if err == nil {
		err = durable.WriteFile(path, append(data, '\n'), 0o600)
	}
	if err == nil {
		err = durable.SyncDir(dir)
	}
	if err != nil {
		return &FileError{File: path, Problem: "cannot be written", Hint: "check the permissions and the free space of the data directory", Err: err}
	}
	return nil
}
