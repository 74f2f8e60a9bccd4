package keyring

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// Cluster is a Keeper's view of the cluster. Safe for concurrent use.
type Cluster interface {
	hub.Leadership
	// NodeIDs returns the IDs of all members, including this node.
	NodeIDs() []string
	// CaughtUp reports whether this node has applied all but the newest entries of the log.
	CaughtUp() bool
	// Ask sends a question to another node, where Keeper.Answer answers it.
	Ask(ctx context.Context, node string, q *Question) (*Answer, error)
}

// KeeperOptions configures a Keeper.
type KeeperOptions struct {
	Node     string
	Keys     *Store
	State    hub.StateReader
	Proposer hub.Proposer
	Cluster  Cluster
	// Flush makes the current state durable. A key is removed only after that.
	Flush func(context.Context) error
	// Unfit is called once if this node lacks keys it needs and cannot go on.
	Unfit func(error)
	Log   *slog.Logger
}

// Keeper keeps a node's keys in step with the log, and rotates the cluster's sealing key. Call Start, and Close at the end. It
// implements hub.Observer. Safe for concurrent use.
type Keeper struct {
	o       KeeperOptions
	changed chan struct{}
	stop    context.CancelFunc
	done    sync.WaitGroup
	warned  string // the last warning, so that it is logged once
}

const (
	keeperPause = time.Second
	firstPause  = 50 * time.Millisecond
	// transferBinding keeps a key in transit from being opened as a secret.
	transferBinding = "secrets.key\x00"
)

// NewKeeper makes a Keeper. From here on the key named by the log seals, if the node has it.
func NewKeeper(o KeeperOptions) *Keeper {
	k := &Keeper{o: o, changed: make(chan struct{}, 1)}
	o.Keys.Ring().prefer(k.agreed().Sealing)
	return k
}

// Applied implements hub.Observer.
func (k *Keeper) Applied(fx *hub.Effects) {
	if fx.KeysChanged {
		k.Reload()
	}
}

// Reload makes the Keeper check the state again, after it was replaced.
func (k *Keeper) Reload() {
	select {
	case k.changed <- struct{}{}:
	default:
	}
}

// Start keeps the keys in step until ctx ends or Close is called.
func (k *Keeper) Start(ctx context.Context) {
	ctx, k.stop = context.WithCancel(ctx)
	k.done.Go(func() { k.run(ctx) })
}

// Close stops the Keeper and waits for it.
func (k *Keeper) Close() {
	if k.stop != nil {
		k.stop()
		k.done.Wait()
	}
}

func (k *Keeper) run(ctx context.Context) {
	fits := false // the node has all keys the state needs, as of the last change
	for {
		if err := k.keep(ctx); err != nil && ctx.Err() == nil {
			k.warn("the sealing keys do not match the log yet", err)
		}
		if !fits && k.o.Cluster.CaughtUp() {
			if err := k.fit(); err != nil {
				k.o.Unfit(err)
				return
			}
			fits = true
		}
		wait := keeperPause
		if k.agreed().Sealing == "" {
			wait = firstPause // a cluster has just been founded
		}
		select {
		case <-k.changed:
			fits = false
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

func (k *Keeper) warn(what string, err error) {
	if text := err.Error(); text != k.warned {
		k.warned = text
		k.o.Log.Warn(what, "error", err)
	}
}

func (k *Keeper) agreed() (keys hub.SealingKeys) {
	k.o.State.View(func(s *hub.State) { keys = s.SealingKeys() })
	return keys
}

func (k *Keeper) counts() (counts map[string]hub.SealedCount) {
	k.o.State.View(func(s *hub.State) { counts = s.SealedCounts() })
	return counts
}

// keep carries out what the log asks for and is not done yet.
func (k *Keeper) keep(ctx context.Context) error {
	agreed, ring := k.agreed(), k.o.Keys.Ring()
	if agreed.Sealing == "" {
		if !k.o.Cluster.IsLeader() {
			return nil
		}
		_, err := k.o.Proposer.Propose(ctx, switched(ring.ID(), nil))
		return err
	}
	if ring.Opens(agreed.Sealing) && ring.ID() != agreed.Sealing {
		ring.prefer(agreed.Sealing)
		k.o.Log.Info("a different key seals secrets from now on", "key", agreed.Sealing)
	}
	var errs []error
	if kept, err := k.o.Keys.Kept(); err != nil {
		errs = append(errs, err)
	} else if len(kept) > 0 && kept[0] != agreed.Sealing && slices.Contains(kept, agreed.Sealing) && !k.o.Keys.Fixed() {
		errs = append(errs, k.o.Keys.Prefer(agreed.Sealing))
	}
	flushed := false
	for _, id := range agreed.Retired {
		if !ring.Opens(id) {
			continue
		}
		if !flushed {
			// A restart from an older state would still need the key.
			if err := k.o.Flush(ctx); err != nil {
				return err
			}
			flushed = true
		}
		err := k.o.Keys.Remove(id)
		switch {
		case errors.Is(err, ErrFixed):
			k.o.Log.Warn("a key is no longer needed; remove it from secrets.key", "key", id)
		case err != nil:
			errs = append(errs, err)
		default:
			k.o.Log.Info("removed a key that is no longer needed", "key", id, "from", k.o.Keys.Where())
		}
	}
	return errors.Join(errs...)
}

func switched(key string, nodes []string) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_SealingKeySwitched{SealingKeySwitched: &hubpb.SealingKeySwitched{Key: key, Nodes: nodes}}}
}

// fit returns an error that names the keys the state needs and the node lacks.
func (k *Keeper) fit() error {
	if _, err := k.o.Keys.Kept(); err != nil { // they may have been added just now
		k.warn("cannot read the sealing keys again", err)
	}
	ring, agreed, counts := k.o.Keys.Ring(), k.agreed(), k.counts()
	var missing []string
	if agreed.Sealing != "" && !ring.Opens(agreed.Sealing) {
		missing = append(missing, agreed.Sealing)
	}
	for id, n := range counts {
		if id != "" && n.Total() > 0 && !ring.Opens(id) && id != agreed.Sealing {
			missing = append(missing, id)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	whatToDo := "The keys were rotated without this file: copy the key file of another node, or restore the file from a backup"
	if len(k.o.Cluster.NodeIDs()) <= 1 {
		whatToDo = "It is another file than before, or an older one: restore the file that this hub had from a backup; without that key the secrets of its subscriptions are lost"
	}
	return fmt.Errorf("%s lacks the key %s, with which secrets of this hub are sealed; it has %s. %s",
		k.o.Keys.Where(), strings.Join(missing, " and "), strings.Join(ring.IDs(), " and "), whatToDo)
}

// Question is what one node asks another about its keys.
type Question struct {
	Op  string `json:"op"`            // status, take or give
	Key string `json:"key,omitempty"` // take, give: its id
	// Sealed, with take, is the key, sealed with the current sealing key. Without that key a node can neither learn nor
	// introduce a key, whatever else it knows.
	Sealed []byte `json:"sealed,omitempty"`
}

// Answer answers a Question: give returns the sealed key, and all return what the node holds.
type Answer struct {
	Sealed []byte   `json:"sealed,omitempty"`
	Kept   []string `json:"kept"`  // in its file, or its configuration
	Seals  string   `json:"seals"` // the key it seals with
	Fixed  bool     `json:"fixed,omitempty"`
}

// Answer answers a question from another node.
func (k *Keeper) Answer(q *Question) (*Answer, error) {
	a := &Answer{Fixed: k.o.Keys.Fixed()}
	var err error
	switch q.Op {
	case "status":
	case "take":
		err = k.take(q)
	case "give":
		a.Sealed, err = k.give(q.Key)
	default:
		err = fmt.Errorf("unknown operation %q; the asking node runs a newer version", q.Op)
	}
	if err != nil {
		return nil, err
	}
	a.Kept, err = k.o.Keys.Kept()
	a.Seals = k.o.Keys.Ring().ID()
	return a, err
}

func (k *Keeper) take(q *Question) error {
	raw, err := k.o.Keys.Ring().Open(q.Sealed, transferBinding+q.Key)
	if err != nil {
		return fmt.Errorf("the new key is not from a node with the same keys: %w", err)
	}
	if KeyID(raw) != q.Key {
		return errors.New("the new key is not the one that was announced")
	}
	if err := k.o.Keys.Add(raw); err != nil {
		return err
	}
	k.o.Log.Info("added a new sealing key", "key", q.Key, "to", k.o.Keys.Where())
	return nil
}

// give seals a key for nodes that hold the current sealing key.
func (k *Keeper) give(id string) ([]byte, error) {
	key := k.o.Keys.Ring().find(id)
	if key == nil {
		return nil, fmt.Errorf("the node does not hold the key %s", id)
	}
	return k.o.Keys.Ring().Seal(key.raw, transferBinding+id)
}

// ask asks a node, or answers itself if that is this node.
func (k *Keeper) ask(ctx context.Context, node string, q *Question) (*Answer, error) {
	if node == k.o.Node {
		return k.Answer(q)
	}
	return k.o.Cluster.Ask(ctx, node, q)
}
