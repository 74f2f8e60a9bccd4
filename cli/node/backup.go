package node

import (
	"context"
	"fmt"
	"time"

	"quorumhub/auth/keyring"
	"quorumhub/hub"
	"quorumhub/raftlog"
	"quorumhub/store"
	"quorumhub/web/view"
)

// backupCatchUp limits how long a backup waits for this node to catch up with what the cluster has acknowledged.
const backupCatchUp = 5 * time.Second

// nodeBackups implements view.Backups.
type nodeBackups struct {
	node    *raftlog.Node
	store   *store.Store
	secrets *keyring.Ring
}

// Begin implements view.Backups. If there is a leader, the backup holds everything that any node acknowledged before the call.
func (b *nodeBackups) Begin(ctx context.Context) (view.Backup, int64, string, error) {
	now := time.Now()
	wait, cancel := context.WithTimeout(ctx, backupCatchUp)
	defer cancel()
	complete := b.node.Consistent(wait) == nil
	if err := b.store.Flush(wait); err != nil {
		if ctx.Err() == nil && wait.Err() != nil {
			return nil, 0, "", hub.Errorf(hub.CodeUnavailable, "the disk is too busy to start a backup; try again shortly")
		}
		return nil, 0, "", err
	}
	before := b.keys()
	backup, err := b.store.Backup(ctx, store.BackupInfo{Program: programVersion(), Node: b.node.ID(), SecretsKey: b.secrets.ID(),
		SecretsKeys: func() []string { return append(b.keys(), before...) }, TakenAt: now, Complete: complete})
	if err != nil {
		return nil, 0, "", err
	}
	name := fmt.Sprintf("quorumhub-%s-%d.tar", backup.Meta.ClusterID, backup.Meta.Index)
	return backup, backup.Size, name, nil
}

// keys returns the IDs of the sealing keys that the state needs.
func (b *nodeBackups) keys() (ids []string) {
	b.store.View(func(s *hub.State) { ids = s.NeededKeys() })
	return ids
}
