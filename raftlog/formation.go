package raftlog

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	formationPause = 50 * time.Millisecond // between two rounds
	stateTimeout   = time.Second           // for one response
	firstWaitLog   = 2 * time.Second
	nextWaitLog    = 10 * time.Second
	// patience is how long fresh peers may refuse this node before it gives up: certificates may still be being distributed.
	patience = 3 * time.Second
)

// stateRequest asks a peer for its state. It carries the sender's own configuration, so that both sides notice differences.
type stateRequest struct {
	Node   string `json:"node"`
	Member bool   `json:"member,omitempty"` // the sender belongs to a cluster and does not want to found one
	Peers  []Peer `json:"peers"`
	Shared string `json:"shared"`
}

type stateResponse struct {
	Node          string            `json:"node"`
	Instance      string            `json:"instance"`
	Fresh         bool              `json:"fresh"` // it belongs to no cluster yet
	Peers         []Peer            `json:"peers"`
	Shared        string            `json:"shared"`
	Level         uint32            `json:"level,omitempty"` // feature level of its program; older ones do not tell
	Cluster       string            `json:"cluster,omitempty"`
	Members       map[string]string `json:"members,omitempty"`
	Configuration []Peer            `json:"configuration,omitempty"`
}

// formation is what a node knows before raft runs. Guarded by mu.
type formation struct {
	mu           sync.Mutex
	refused      time.Time // since when more than half of the peers refuse this node
	wiped        time.Time // since when some peer knows this node with other data
	fresh        bool
	disagreement error
}

// openPort opens the cluster port. For a fresh node it returns with Options.Bootstrap or Options.Join set.
func (n *Node) openPort(ctx context.Context) error {
	fresh, err := n.isFresh()
	if err != nil {
		return err
	}
	if n.identity.Instance == "" {
		n.identity.Instance = randomID()
		if err := n.identity.write(n.opts.Dir); err != nil {
			return err
		}
	}
	n.formation.fresh = fresh
	n.founded = !fresh
	if n.port, err = newPort(n.opts, n.self(), n.serveCalls); err != nil {
		return err
	}
	n.port.onRefusal = n.handleRefusal
	n.port.admit, n.port.stays = n.admitVisitor, n.isMemberNow
	n.port.addressOf = n.addressOf
	n.caller = newCaller(func(ctx context.Context, to Peer, lane int) (conn net.Conn, err error) {
		return n.port.dial(ctx, purpose{streamCalls, lane == laneOpen}, to)
	})
	n.port.open()
	if !fresh {
		return nil
	}
	if len(n.opts.Peers) > 1 {
		err = n.form(ctx)
	} else if err = n.checkMayFound(); err == nil {
		n.useFounders()
		n.foundingLevel = n.level
	}
	n.port.self.Store(n.self())
	return err
}

// checkMayFound refuses to let a non-voter found a cluster.
func (n *Node) checkMayFound() error {
	if n.opts.Nonvoter {
		return refuse(refusedID, "%s is a non-voter (cluster.voter: false) and cannot found a cluster; start the voters first", n.opts.ID)
	}
	return nil
}

// useFounders makes Options.Peers the first configuration.
func (n *Node) useFounders() {
	n.opts.Bootstrap = nil
	for _, p := range n.opts.Peers {
		n.opts.Bootstrap = append(n.opts.Bootstrap, raft.Server{ID: raft.ServerID(p.ID), Address: raft.ServerAddress(p.Address)})
	}
	n.founded = true
}

// founds reports whether this node is founding a cluster of several nodes. It then stands for election at once.
func (n *Node) founds() bool { return n.port != nil && len(n.opts.Bootstrap) > 1 }

// form polls the peers until it is clear whether this fresh node founds a cluster with them or joins an existing one.
// Founding requires all of them to be fresh and to have the same configuration: a cluster founded next to an existing one
// would lose what that one acknowledged. The founder with the first ID writes the first entry; the others receive it.
func (n *Node) form(ctx context.Context) error {
	begin := time.Now()
	nextLog := begin.Add(firstWaitLog)
	for {
		answers, missing := n.pollPeers(ctx)
		if err := n.decide(ctx, answers, missing); err != nil {
			return err
		}
		if n.opts.Join || n.founded {
			return nil
		}
		if len(missing) == 0 {
			missing[n.opts.Peers[0].ID] = errors.New("it founds the cluster but has not begun")
		}
		if now := time.Now(); now.After(nextLog) {
			nextLog = now.Add(nextWaitLog)
			var why []string
			for _, id := range slices.Sorted(maps.Keys(missing)) {
				why = append(why, fmt.Sprintf("%s (%v)", id, missing[id]))
			}
			n.opts.Logger.Info("waiting for the other nodes in cluster.peers", "missing", strings.Join(why, ", "))
		}
		select {
		case <-time.After(formationPause):
		case <-ctx.Done():
			return fmt.Errorf("start node: not part of a cluster yet: %w", ctx.Err())
		case <-n.ctx.Done():
			return n.ctx.Err()
		}
	}
}

// pollPeers requests the state of all peers concurrently.
func (n *Node) pollPeers(ctx context.Context) (answers map[string]*stateResponse, missing map[string]error) {
	request, err := json.Marshal(stateRequest{Node: n.opts.ID, Peers: n.opts.Peers, Shared: n.opts.Shared})
	answers, missing = map[string]*stateResponse{}, map[string]error{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, p := range n.opts.Peers {
		if p.ID == n.opts.ID {
			continue
		}
		wg.Go(func() {
			a, err := n.requestState(ctx, p, request, err)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				missing[p.ID] = err
			} else {
				answers[p.ID] = a
			}
		})
	}
	wg.Wait()
	return answers, missing
}

func (n *Node) requestState(ctx context.Context, p Peer, request []byte, err error) (*stateResponse, error) {
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	status, body, err := n.caller.call(ctx, p, laneOpen, methodState, request)
	if err != nil {
		return nil, err
	}
	if status != statusOK {
		return nil, fmt.Errorf("it answered with status %d: %s", status, oneLine(string(body)))
	}
	a := new(stateResponse)
	if err := json.Unmarshal(body, a); err != nil {
		return nil, fmt.Errorf("unreadable response: %w", err)
	}
	return a, nil
}

// decide evaluates one round: the node joins, founds a cluster, fails, or keeps waiting. If it cannot join yet, decide puts
// the reason into missing.
func (n *Node) decide(ctx context.Context, answers map[string]*stateResponse, missing map[string]error) error {
	if err := n.checkRejected(answers, missing); err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(answers)) {
		a := answers[id]
		if a.Fresh {
			continue
		}
		// There is a cluster. Whatever other fresh nodes say, this node joins that cluster or none.
		joined, err := n.joinVia(ctx, a)
		var r *refusedError
		switch {
		case joined:
			return nil
		case errors.As(err, &r):
			return r
		}
		missing[id] = err
		return nil
	}
	n.formation.mu.Lock()
	err := n.formation.disagreement
	n.formation.mu.Unlock()
	if err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(answers)) {
		if err := n.checkAgreement(id, answers[id].Peers, answers[id].Shared); err != nil {
			return err
		}
	}
	if len(missing) > 0 {
		return nil
	}
	if err := n.checkMayFound(); err != nil {
		return err
	}
	if n.opts.Peers[0].ID != n.opts.ID {
		return nil // the first peer founds it
	}
	members, level := map[string]string{n.opts.ID: n.identity.Instance}, n.level
	for id, a := range answers {
		members[id] = a.Instance
		level = min(level, a.Level)
	}
	n.identity.Members = members
	if err := n.identity.write(n.opts.Dir); err != nil {
		return err
	}
	n.useFounders()
	n.foundingLevel = level
	n.port.self.Store(n.self())
	n.formation.mu.Lock()
	n.formation.fresh = false
	n.formation.mu.Unlock()
	n.opts.Logger.Info("founding a cluster", "peers", peersText(n.opts.Peers))
	return nil
}

// checkRejected returns an error if other nodes definitely refuse this one, as opposed to being unreachable. The refusal of a
// node that belongs to a cluster counts at once, unless it says that it knows this node with other data: it may have just joined
// a recovered cluster, and have the state of the former one for a moment. Of fresh nodes more than half must refuse for a while,
// because a single one may itself be misconfigured.
func (n *Node) checkRejected(answers map[string]*stateResponse, missing map[string]error) error {
	var refused, wiped *refusedError
	count := 0
	for _, id := range slices.Sorted(maps.Keys(missing)) {
		var r *refusedError
		if !errors.As(missing[id], &r) {
			continue
		}
		switch {
		case r.what == refusedWiped:
			wiped = r
		case r.what == refusedLevel, r.what == refusedID, r.what == refusedRemoved, r.settled:
			return cmp.Or(wiped, r) // the former says more
		}
		refused = r
		count++
	}
	switch {
	case wiped == nil:
		n.formation.wiped = time.Time{}
	case n.formation.wiped.IsZero():
		n.formation.wiped = time.Now()
	case time.Since(n.formation.wiped) >= patience:
		return wiped
	}
	switch {
	case len(answers) > 0 || 2*count <= len(n.opts.Peers)-1:
		n.formation.refused = time.Time{}
	case n.formation.refused.IsZero():
		n.formation.refused = time.Now()
	case time.Since(n.formation.refused) >= patience:
		return refused
	}
	return nil
}

// checkAgreement compares another fresh node's configuration with this one's.
func (n *Node) checkAgreement(id string, peers []Peer, shared string) error {
	if mine, its := peersText(n.opts.Peers), peersText(peers); mine != its {
		return fmt.Errorf("cluster.peers contradict each other: %s has %s, %s has %s; cluster.peers must be the same on every node", n.opts.ID, mine, oneLine(id), oneLine(its))
	}
	if shared != n.opts.Shared {
		return fmt.Errorf("%s and %s have different sealing keys: %s has %s, %s has %s; copy one secrets.key_file to every node",
			n.opts.ID, oneLine(id), n.opts.ID, n.opts.Shared, oneLine(id), oneLine(shared))
	}
	return nil
}

func peersText(peers []Peer) string {
	texts := make([]string, len(peers))
	for i, p := range peers {
		texts[i] = p.ID + "=" + p.Address
	}
	slices.Sort(texts)
	return strings.Join(texts, ",")
}

// handleState answers another node's stateRequest.
func (n *Node) handleState(body []byte) (status byte, out []byte) {
	var q stateRequest
	if err := json.Unmarshal(body, &q); err != nil {
		return statusRefused, []byte("unreadable request")
	}
	me := n.port.self.Load()
	a := stateResponse{Node: me.id, Instance: me.instance, Cluster: me.cluster, Members: me.members, Peers: n.opts.Peers, Shared: n.opts.Shared, Level: n.level}
	if n.running.Load() {
		a.Fresh = n.raft.LastIndex() == 0 && n.raft.CurrentTerm() == 0
		for _, s := range n.servers() {
			a.Configuration = append(a.Configuration, Peer{string(s.ID), string(s.Address)})
		}
	} else {
		n.formation.mu.Lock()
		a.Fresh = n.formation.fresh
		if a.Fresh && !q.Member && n.formation.disagreement == nil {
			n.formation.disagreement = n.checkAgreement(q.Node, q.Peers, q.Shared)
		}
		n.formation.mu.Unlock()
	}
	out, err := json.Marshal(a)
	if err != nil {
		return statusRefused, []byte(err.Error())
	}
	return statusOK, out
}

// closePort closes the port, if there is one, and waits for its goroutines.
func (n *Node) closePort() {
	switch {
	case n.port != nil:
		_ = n.port.Close()
		n.port.wait()
	case n.opts.Listener != nil:
		n.opts.Listener.Close()
	}
}
