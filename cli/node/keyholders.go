package node

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"quorumhub/auth/keyring"
	"quorumhub/hub"
)

// keyHolders is the cluster as seen by the keyring's keeper. It implements keyring.Cluster. The raft node must be open.
type keyHolders struct{ n *Node }

// keysCall wraps a question about keys, to tell it from one about deliveries.
type keysCall struct {
	Keys *keyring.Question `json:"keys"`
}

// IsLeader implements hub.Leadership.
func (h *keyHolders) IsLeader() bool { return h.n.raft.IsLeader() }

// CaughtUp implements keyring.Cluster. A node that the others refuse because it has none of their keys does not catch up; what it
// last knew tells which key it lacks.
func (h *keyHolders) CaughtUp() bool { return h.n.raft.CaughtUp() || h.n.raft.LacksSecret() }

// NodeIDs implements keyring.Cluster.
func (h *keyHolders) NodeIDs() (ids []string) {
	for _, m := range h.n.raft.Members() {
		ids = append(ids, m.ID)
	}
	return ids
}

// Ask implements keyring.Cluster.
func (h *keyHolders) Ask(ctx context.Context, node string, q *keyring.Question) (*keyring.Answer, error) {
	question, err := json.Marshal(keysCall{q})
	if err != nil {
		return nil, err
	}
	answer, err := h.n.raft.Call(ctx, node, question)
	if err != nil {
		return nil, err
	}
	a := new(keyring.Answer)
	if err := json.Unmarshal(answer, a); err != nil {
		return nil, fmt.Errorf("response of %s: %w", node, err)
	}
	return a, nil
}

// questions answers the calls of other nodes.
type questions struct {
	deliveries *deliveries
	keeper     *keyring.Keeper
	usage      *gatewayUsage
	figures    *nodeFigures
}

func (q *questions) answer(question []byte) ([]byte, error) {
	switch {
	case bytes.HasPrefix(question, []byte(`{"gateway":`)):
		return q.usage.answer(question)
	case bytes.HasPrefix(question, []byte(`{"figures":`)):
		return q.figures.answer(question)
	}
	if bytes.HasPrefix(question, []byte(`{"send":`)) {
		return q.deliveries.answerSend(question)
	}
	if !bytes.HasPrefix(question, []byte(`{"keys":`)) {
		return q.deliveries.answer(question)
	}
	var call keysCall
	if err := json.Unmarshal(question, &call); err != nil {
		return nil, fmt.Errorf("question: %w", err)
	}
	a, err := q.keeper.Answer(call.Keys)
	if err != nil {
		return nil, err
	}
	return json.Marshal(a)
}

// referenceKeys returns the secrets of references to content: all nodes derive the same from the sealing keys, and so they are rotated
// together.
func (n *Node) referenceKeys() [][]byte { return n.keys.Ring().Derived(hub.ReferencePurpose) }
