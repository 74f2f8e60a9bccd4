package keyring

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

const (
	askLimit    = 5 * time.Second // for one node's answer
	followLimit = 5 * time.Second // for all nodes to act on a decision
	followPause = 50 * time.Millisecond
	switchTries = 5
)

// Rotate switches sealing to another key, or continues a rotation that was interrupted. to names a key that all nodes hold; if
// empty, Rotate uses the announced key, or makes one and adds it to the key file of every node. Sealing switches only once every
// node has confirmed that it holds the key; otherwise a *hub.Error names the node in the way. by is who asks, for the log.
func (k *Keeper) Rotate(ctx context.Context, to, by string) error {
	agreed := k.agreed()
	switch {
	case agreed.Sealing == "":
		return hub.Errorf(hub.CodeUnavailable, "the nodes have not agreed on their first key yet; try again shortly")
	case to != "" && to == agreed.Sealing:
		return hub.Errorf(hub.CodeConflict, "%s is already the sealing key", to)
	case to != "" && agreed.Next != "" && to != agreed.Next:
		return hub.Errorf(hub.CodeConflict, "a rotation to %s is in progress; first finish it (quorumhub keys rotate) or abandon it (quorumhub keys drop %s)", agreed.Next, agreed.Next)
	case slices.Contains(agreed.Retired, to):
		return hub.Errorf(hub.CodeConflict, "%s was retired and never seals again", to)
	}
	// Check before making a key: an unreachable node could not get it.
	nodes := k.survey(ctx)
	if err := allThere(nodes); err != nil {
		return err
	}
	next := agreed.Next
	if next == "" {
		var err error
		if next, err = k.announce(ctx, nodes, to, by); err != nil {
			return err
		}
	}
	if err := k.distribute(ctx, next); err != nil {
		return err
	}
	return k.switchTo(ctx, next)
}

func allThere(nodes []NodeKeys) error {
	for i := range nodes {
		if nodes[i].Error != "" {
			return hub.Errorf(hub.CodeConflict, "%s does not report its keys (%s) and might later be unable to open secrets; start it or remove it from the cluster, then repeat",
				nodes[i].Node, nodes[i].Error)
		}
	}
	return nil
}

// announce makes a key, unless to names an existing one, and records it in the log as the next.
func (k *Keeper) announce(ctx context.Context, nodes []NodeKeys, to, by string) (string, error) {
	if to == "" {
		for i := range nodes {
			if nodes[i].Source != "file" {
				return "", hub.Errorf(hub.CodeConflict, "%s has its keys in its configuration (secrets.key, QUORUMHUB_SECRETS_KEY), which only an operator changes: make a key (quorumhub keys new), "+
					"append it on every node, restart the nodes one by one, then run quorumhub keys rotate --to ID", nodes[i].Node)
			}
		}
		raw := make([]byte, keyBytes)
		for to == "" || k.known(nodes, to) {
			if _, err := rand.Read(raw); err != nil {
				return "", fmt.Errorf("generate key: %w", err)
			}
			to = KeyID(raw)
		}
		if err := k.o.Keys.Add(raw); err != nil {
			return "", hub.Errorf(hub.CodeConflict, "%s: %v", k.o.Node, err)
		}
	} else if !k.known(nodes, to) {
		return "", &hub.Error{Code: hub.CodeNotFound, Param: "to", Message: fmt.Sprintf("no node holds the key %.80q; quorumhub keys status lists them", to)}
	}
	res, err := k.o.Proposer.Propose(ctx, &hubpb.Event{Kind: &hubpb.Event_SealingKeyAnnounced{SealingKeyAnnounced: &hubpb.SealingKeyAnnounced{Key: to, By: by}}})
	if err != nil {
		return "", err
	}
	if res[0].Outcome != hub.OutcomeOK {
		return "", hub.Errorf(hub.CodeConflict, "another rotation started at the same time; see quorumhub keys status")
	}
	k.o.Log.Info("started a rotation of the sealing key", "key", to, "by", by)
	return to, nil
}

func (k *Keeper) known(nodes []NodeKeys, id string) bool {
	agreed := k.agreed()
	return slices.Contains(agreed.Retired, id) || slices.ContainsFunc(nodes, func(n NodeKeys) bool { return slices.Contains(n.Holds, id) })
}

// distribute sends the announced key to every node that lacks it.
func (k *Keeper) distribute(ctx context.Context, key string) error {
	nodes := k.survey(ctx)
	if err := allThere(nodes); err != nil {
		return err
	}
	var sealed []byte
	for i := range nodes {
		if !slices.Contains(nodes[i].Holds, key) {
			continue
		}
		a, err := k.asked(ctx, nodes[i].Node, &Question{Op: "give", Key: key})
		if err == nil {
			sealed = a.Sealed
			break
		}
	}
	if sealed == nil {
		return hub.Errorf(hub.CodeConflict, "a rotation to %s is in progress, but no node holds that key any more; abandon it (quorumhub keys drop %s), then rotate again", key, key)
	}
	for i := range nodes {
		n := &nodes[i]
		if slices.Contains(n.Holds, key) {
			continue
		}
		if n.Source != "file" {
			return hub.Errorf(hub.CodeConflict, "%s has its keys in its configuration (secrets.key, QUORUMHUB_SECRETS_KEY) and lacks %s: add the key there, restart the node, then repeat", n.Node, key)
		}
		if _, err := k.asked(ctx, n.Node, &Question{Op: "take", Key: key, Sealed: sealed}); err != nil {
			return hub.Errorf(hub.CodeConflict, "%s did not store the new key %s, so the sealing key is unchanged: %v; fix that, then repeat", n.Node, key, err)
		}
	}
	return nil
}

func (k *Keeper) asked(ctx context.Context, node string, q *Question) (*Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	return k.ask(ctx, node, q)
}

// switchTo records in the log that the key seals, once all nodes hold it.
func (k *Keeper) switchTo(ctx context.Context, key string) error {
	for try := 1; ; try++ {
		nodes := k.survey(ctx)
		if err := allThere(nodes); err != nil {
			return err
		}
		var ids []string
		for i := range nodes {
			if !slices.Contains(nodes[i].Holds, key) {
				return hub.Errorf(hub.CodeConflict, "%s does not hold the new key %s, so the sealing key is unchanged; repeat", nodes[i].Node, key)
			}
			ids = append(ids, nodes[i].Node)
		}
		res, err := k.o.Proposer.Propose(ctx, switched(key, ids))
		if err != nil {
			return err
		}
		if res[0].Outcome == hub.OutcomeOK || k.agreed().Sealing == key {
			break
		}
		if try == switchTries || k.agreed().Next != key {
			return hub.Errorf(hub.CodeConflict, "a node is joining, or another rotation interfered; see quorumhub cluster status and quorumhub keys status, then repeat")
		}
		if err := pause(ctx, followPause); err != nil {
			return err
		}
	}
	k.Reload()
	return k.follow(ctx, func(n *NodeKeys) bool {
		return n.Seals == key && (n.Source != "file" || len(n.Holds) > 0 && n.Holds[0] == key)
	})
}

// follow waits briefly for all reachable nodes to act on a decision. The others act on it later.
func (k *Keeper) follow(ctx context.Context, done func(*NodeKeys) bool) error {
	for end := time.Now().Add(followLimit); time.Now().Before(end); {
		nodes := k.survey(ctx)
		if !slices.ContainsFunc(nodes, func(n NodeKeys) bool { return n.Error == "" && !done(&n) }) {
			return nil
		}
		if err := pause(ctx, followPause); err != nil {
			return err
		}
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Drop retires keys with which nothing is sealed any more, and makes every node remove them from its file: the one named, or, if
// key is empty, all that some node holds except the sealing key and the next. Dropping the next key abandons its rotation.
func (k *Keeper) Drop(ctx context.Context, key, by string) (dropped []string, err error) {
	st := k.Status(ctx)
	if key != "" && key == st.Next && !slices.ContainsFunc(st.Keys, func(u KeyUse) bool { return u.ID == key }) {
		st.Keys = append(st.Keys, KeyUse{ID: key}) // announced, but no node holds it any more
	}
	for i := range st.Keys {
		u := &st.Keys[i]
		switch {
		case key == u.ID, key == "" && u.ID != "" && u.ID != st.Sealing && u.ID != st.Next:
		default:
			continue
		}
		if u.ID == st.Sealing {
			return nil, hub.Errorf(hub.CodeConflict, "%s is the sealing key; rotate to another key first (quorumhub keys rotate)", u.ID)
		}
		if n := u.Secrets(); n > 0 {
			return dropped, hub.Errorf(hub.CodeConflict, "%d secrets are still sealed with %s; re-encrypt them first (quorumhub keys reencrypt)", n, u.ID)
		}
		if u.Sessions > 0 {
			return dropped, hub.Errorf(hub.CodeConflict, "the cookies of %d sessions may be sealed with %s; wait until they have ended (sessions.absolute in auth.file), or end them (quorumhub auth end-session --all)", u.Sessions, u.ID)
		}
		retired := &hubpb.SealingKeyRetired{Key: u.ID, By: by}
		k.o.State.View(func(s *hub.State) {
			if s.KeepsTokenKeys() {
				retired.TokenKey = k.o.Keys.Ring().tokenKey(u.ID)
			}
		})
		res, err := k.o.Proposer.Propose(ctx, &hubpb.Event{Kind: &hubpb.Event_SealingKeyRetired{SealingKeyRetired: retired}})
		if err != nil {
			return dropped, err
		}
		if res[0].Outcome != hub.OutcomeOK {
			return dropped, hub.Errorf(hub.CodeConflict, "a secret was sealed with %s just now; repeat quorumhub keys reencrypt", u.ID)
		}
		k.o.Log.Info("retired a sealing key", "key", u.ID, "by", by)
		dropped = append(dropped, u.ID)
	}
	if len(dropped) == 0 && key != "" {
		return nil, &hub.Error{Code: hub.CodeNotFound, Param: "id", Message: fmt.Sprintf("no node holds the key %.80q; quorumhub keys status lists them", key)}
	}
	k.Reload()
	return dropped, k.follow(ctx, func(n *NodeKeys) bool {
		return n.Source != "file" || !slices.ContainsFunc(dropped, func(id string) bool { return slices.Contains(n.Holds, id) })
	})
}
