package keyring

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

const (
	askLimit      = 5 * time.Second // for one node's answer
	followLimit   = 5 * time.Second // for all nodes to act on what was decided
	followPause   = 50 * time.Millisecond
	switchTries   = 5
	resealBatch   = 256
	resealFailing = 20 // that are named
)

// Status is how the keys for secrets at rest stand.
type Status struct {
	Sealing string     `json:"sealing"` // id of the key that seals; empty: not agreed yet
	Next    string     `json:"next"`    // announced by a rotation that is under way; empty: none
	Retired []string   `json:"retired"` // needed no more, newest last
	Keys    []KeyUse   `json:"keys"`    // that a node holds or a secret is sealed with, in order of id
	Nodes   []NodeKeys `json:"nodes"`
}

// KeyUse is what is sealed with a key.
type KeyUse struct {
	ID            string   `json:"id"`
	Subscriptions int      `json:"subscriptions"`
	Former        int      `json:"former"`   // replaced secrets that still sign
	Requests      int      `json:"requests"` // that wait for their verification
	Nodes         []string `json:"nodes"`    // that hold it
}

// Secrets is how many there are.
func (u *KeyUse) Secrets() int { return u.Subscriptions + u.Former + u.Requests }

// NodeKeys are the keys that a node holds.
type NodeKeys struct {
	Node   string   `json:"node"`
	Source string   `json:"source,omitempty"` // file or configuration
	Holds  []string `json:"holds"`
	Seals  string   `json:"seals,omitempty"`
	Error  string   `json:"error,omitempty"` // it does not answer, or cannot read its file
}

// Status asks all nodes which keys they hold, and counts what is sealed with each.
func (k *Keeper) Status(ctx context.Context) *Status {
	agreed := k.agreed()
	st := &Status{Sealing: agreed.Sealing, Next: agreed.Next, Retired: append([]string{}, agreed.Retired...), Keys: []KeyUse{}, Nodes: k.survey(ctx)}
	uses := map[string]*KeyUse{}
	use := func(id string) *KeyUse {
		if uses[id] == nil {
			uses[id] = &KeyUse{ID: id, Nodes: []string{}}
		}
		return uses[id]
	}
	for id, c := range k.counts() {
		u := use(id)
		u.Subscriptions, u.Former, u.Requests = c.Subscriptions, c.Former, c.Requests
	}
	for i := range st.Nodes {
		for _, id := range st.Nodes[i].Holds {
			u := use(id)
			u.Nodes = append(u.Nodes, st.Nodes[i].Node)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(uses)) {
		st.Keys = append(st.Keys, *uses[id])
	}
	return st
}

// survey asks all nodes at once.
func (k *Keeper) survey(ctx context.Context) []NodeKeys {
	ids := k.o.Cluster.NodeIDs()
	slices.Sort(ids)
	out := make([]NodeKeys, len(ids))
	var wg sync.WaitGroup
	for i, id := range ids {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, askLimit)
			defer cancel()
			out[i] = NodeKeys{Node: id, Holds: []string{}}
			a, err := k.ask(ctx, id, &Question{Op: "status"})
			if err != nil {
				out[i].Error = err.Error()
				return
			}
			out[i].Source, out[i].Seals = "file", a.Seals
			if a.Fixed {
				out[i].Source = "configuration"
			}
			out[i].Holds = append(out[i].Holds, a.Kept...)
		})
	}
	wg.Wait()
	return out
}

// Rotate brings in a new key that seals, or goes on with a rotation that was begun. to names a key that all nodes hold
// already; empty: the one announced, or a new one, which is added to the key file of every node. Sealing switches only when
// every node has said that it holds the key; whoever keeps it from that is named in the error, a *hub.Error. by is who asks.
func (k *Keeper) Rotate(ctx context.Context, to, by string) error {
	agreed := k.agreed()
	switch {
	case agreed.Sealing == "":
		return hub.Errorf(hub.CodeUnavailable, "the nodes have not agreed on their first key yet; try again shortly")
	case to != "" && to == agreed.Sealing:
		return hub.Errorf(hub.CodeConflict, "%s seals secrets already", to)
	case to != "" && agreed.Next != "" && to != agreed.Next:
		return hub.Errorf(hub.CodeConflict, "a rotation to %s is under way; finish it (quorumhub keys rotate) or give it up (quorumhub keys drop %s) first", agreed.Next, agreed.Next)
	case slices.Contains(agreed.Retired, to):
		return hub.Errorf(hub.CodeConflict, "%s was retired; it never seals again", to)
	}
	// Before anything is made: who is not there could not get it.
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
			return hub.Errorf(hub.CodeConflict, "%s cannot say which keys it has (%s), and would meet secrets that it cannot open; start it, or remove it from the cluster, then repeat",
				nodes[i].Node, nodes[i].Error)
		}
	}
	return nil
}

// announce makes a key, unless to names one that is there, and has the log say that it is the next.
func (k *Keeper) announce(ctx context.Context, nodes []NodeKeys, to, by string) (string, error) {
	if to == "" {
		for i := range nodes {
			if nodes[i].Source != "file" {
				return "", hub.Errorf(hub.CodeConflict, "%s has its keys from its configuration (secrets.key, QUORUMHUB_SECRETS_KEY), which only an operator changes: make a key (quorumhub keys new), "+
					"put it behind the present one on every node, restart them one by one, then quorumhub keys rotate --to ID", nodes[i].Node)
			}
		}
		raw := make([]byte, keyBytes)
		for to == "" || k.known(nodes, to) {
			if _, err := rand.Read(raw); err != nil {
				return "", fmt.Errorf("make a key: %w", err)
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
		return "", hub.Errorf(hub.CodeConflict, "another rotation began at the same time; see quorumhub keys status")
	}
	k.o.Log.Info("a rotation of the key for secrets at rest began", "key", to, "by", by)
	return to, nil
}

func (k *Keeper) known(nodes []NodeKeys, id string) bool {
	agreed := k.agreed()
	return slices.Contains(agreed.Retired, id) || slices.ContainsFunc(nodes, func(n NodeKeys) bool { return slices.Contains(n.Holds, id) })
}

// distribute brings the announced key to every node that does not keep it.
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
		return hub.Errorf(hub.CodeConflict, "a rotation to %s is under way, and no node holds that key any more; give it up (quorumhub keys drop %s), then rotate again", key, key)
	}
	for i := range nodes {
		n := &nodes[i]
		if slices.Contains(n.Holds, key) {
			continue
		}
		if n.Source != "file" {
			return hub.Errorf(hub.CodeConflict, "%s has its keys from its configuration (secrets.key, QUORUMHUB_SECRETS_KEY) and lacks %s: put the key there, restart it, then repeat", n.Node, key)
		}
		if _, err := k.asked(ctx, n.Node, &Question{Op: "take", Key: key, Sealed: sealed}); err != nil {
			return hub.Errorf(hub.CodeConflict, "%s did not take the new key %s, so secrets are sealed as before: %v; repeat when that is put right", n.Node, key, err)
		}
	}
	return nil
}

func (k *Keeper) asked(ctx context.Context, node string, q *Question) (*Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	return k.ask(ctx, node, q)
}

// switchTo has the log say that the key seals, once all nodes keep it.
func (k *Keeper) switchTo(ctx context.Context, key string) error {
	for try := 1; ; try++ {
		nodes := k.survey(ctx)
		if err := allThere(nodes); err != nil {
			return err
		}
		var ids []string
		for i := range nodes {
			if !slices.Contains(nodes[i].Holds, key) {
				return hub.Errorf(hub.CodeConflict, "%s does not hold the new key %s, so secrets are sealed as before; repeat", nodes[i].Node, key)
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
			return hub.Errorf(hub.CodeConflict, "a node is joining, or another rotation got in between; see quorumhub cluster status and quorumhub keys status, then repeat")
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

// follow waits a little until all nodes that answer have acted on what was decided. Those that have not do it later.
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

// Reencrypted is what sealing anew came to so far.
type Reencrypted struct {
	Sealed  int      `json:"resealed"` // by this call
	Left    int      `json:"left"`     // sealed with another key than the one that seals
	Failing []string `json:"failing"`  // that cannot be opened, and why; some of them
}

// Reencrypt seals secrets anew with the key that seals, a batch at a time, until none is left that it can do or the time
// is over. A secret that is renewed meanwhile stays as the renewal brought it. It can be ended and repeated at any time.
func (k *Keeper) Reencrypt(ctx context.Context, limit time.Duration) (Reencrypted, error) {
	out := Reencrypted{Failing: []string{}}
	agreed := k.agreed()
	if agreed.Sealing == "" || !k.o.Keys.Ring().Opens(agreed.Sealing) {
		return out, hub.Errorf(hub.CodeUnavailable, "this node does not hold the key that seals; see quorumhub keys status")
	}
	k.o.Keys.Ring().prefer(agreed.Sealing)
	var sub hub.SubscriptionID
	var req hub.RequestID
	for end := time.Now().Add(limit); time.Now().Before(end); {
		var list []hub.SealedSecret
		k.o.State.View(func(s *hub.State) { list = s.SealedOtherwise(agreed.Sealing, sub, req, resealBatch) })
		if len(list) == 0 {
			break
		}
		ev := &hubpb.SecretsReencrypted{}
		for i := range list {
			old := &list[i]
			sub, req = max(sub, old.Subscription), max(req, old.Request)
			sealed, err := k.reseal(old)
			if err != nil {
				if len(out.Failing) < resealFailing {
					out.Failing = append(out.Failing, ownerOf(old)+": "+err.Error())
				}
				continue
			}
			ev.Items = append(ev.Items, &hubpb.SecretsReencrypted_Item{Subscription: uint64(old.Subscription), Request: uint64(old.Request), Was: old.Sealed, Sealed: sealed})
		}
		if len(ev.Items) == 0 {
			continue
		}
		if _, err := k.o.Proposer.Propose(ctx, &hubpb.Event{Kind: &hubpb.Event_SecretsReencrypted{SecretsReencrypted: ev}}); err != nil {
			return out, err
		}
		out.Sealed += len(ev.Items)
	}
	for id, c := range k.counts() {
		if id != agreed.Sealing {
			out.Left += c.Total()
		}
	}
	return out, nil
}

func (k *Keeper) reseal(old *hub.SealedSecret) ([]byte, error) {
	secret, err := k.o.Keys.Ring().Open(old.Sealed, old.Binding)
	if err != nil {
		return nil, err
	}
	return k.o.Keys.Ring().Seal(secret, old.Binding)
}

// Drop retires keys that seal nothing any more, and has every node remove them from its file: the one named, or all that some
// node holds besides those that seal now or next. A rotation to a key that is dropped is given up.
func (k *Keeper) Drop(ctx context.Context, key, by string) (dropped []string, err error) {
	st := k.Status(ctx)
	if key != "" && key == st.Next && !slices.ContainsFunc(st.Keys, func(u KeyUse) bool { return u.ID == key }) {
		st.Keys = append(st.Keys, KeyUse{ID: key}) // announced, and whoever held it is gone
	}
	for i := range st.Keys {
		u := &st.Keys[i]
		switch {
		case key == u.ID, key == "" && u.ID != "" && u.ID != st.Sealing && u.ID != st.Next:
		default:
			continue
		}
		if u.ID == st.Sealing {
			return nil, hub.Errorf(hub.CodeConflict, "%s seals secrets; rotate to another key first (quorumhub keys rotate)", u.ID)
		}
		if n := u.Secrets(); n > 0 {
			return dropped, hub.Errorf(hub.CodeConflict, "%d secrets are still sealed with %s; seal them anew first (quorumhub keys reencrypt)", n, u.ID)
		}
		res, err := k.o.Proposer.Propose(ctx, &hubpb.Event{Kind: &hubpb.Event_SealingKeyRetired{SealingKeyRetired: &hubpb.SealingKeyRetired{Key: u.ID, By: by}}})
		if err != nil {
			return dropped, err
		}
		if res[0].Outcome != hub.OutcomeOK {
			return dropped, hub.Errorf(hub.CodeConflict, "something was sealed with %s just now; repeat quorumhub keys reencrypt", u.ID)
		}
		k.o.Log.Info("a key for secrets at rest was retired", "key", u.ID, "by", by)
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

func ownerOf(s *hub.SealedSecret) string {
	if s.Subscription == 0 {
		return s.Request.String()
	}
	return s.Subscription.String()
}
