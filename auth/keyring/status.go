package keyring

import (
	"context"
	"maps"
	"slices"
	"sync"
)

// Status describes the sealing keys of the cluster.
type Status struct {
	Sealing string     `json:"sealing"` // ID of the key that seals; empty: not agreed yet
	Next    string     `json:"next"`    // announced by a rotation in progress; empty: none
	Retired []string   `json:"retired"` // no longer needed, newest last
	Keys    []KeyUse   `json:"keys"`    // held by a node or used by a secret, by ID
	Nodes   []NodeKeys `json:"nodes"`
}

// KeyUse counts what is sealed with a key.
type KeyUse struct {
	ID            string `json:"id"`
	Subscriptions int    `json:"subscriptions"`
	Former        int    `json:"former"`    // replaced secrets that still sign
	Requests      int    `json:"requests"`  // awaiting verification
	Callbacks     int    `json:"callbacks"` // credentials that operators have set
	Gateway       int    `json:"gateway"`   // 1: the secrets of the gateway's registry
	// Sessions have cookies that may be sealed with the key. They hold no secret of the hub, but end without it.
	Sessions int      `json:"sessions"`
	Nodes    []string `json:"nodes"` // that hold the key
}

// Secrets returns the total.
func (u *KeyUse) Secrets() int {
	return u.Subscriptions + u.Former + u.Requests + u.Callbacks + u.Gateway
}

// NodeKeys lists the keys a node holds.
type NodeKeys struct {
	Node   string   `json:"node"`
	Source string   `json:"source,omitempty"` // "file" or "configuration"
	Holds  []string `json:"holds"`
	Seals  string   `json:"seals,omitempty"`
	Error  string   `json:"error,omitempty"` // the node does not answer or cannot read its file
}

// Status asks all nodes which keys they hold and counts what is sealed with each.
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
		u.Callbacks, u.Gateway, u.Sessions = c.Callbacks, c.Gateway, c.Sessions
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

// survey asks all nodes in parallel.
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
