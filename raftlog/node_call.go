package raftlog

import (
	"context"
	"errors"

	"quorumhub/hub"
)

// Call puts a question to another node, whose Options.HandleCall answers it; what questions there are is their business. A
// node that cannot be reached or does not answer is hub.CodeUnavailable; so is one that is no member, and what it refuses.
func (n *Node) Call(ctx context.Context, node string, question []byte) ([]byte, error) {
	address := ""
	for _, s := range n.servers() {
		if string(s.ID) == node {
			address = string(s.Address)
		}
	}
	if address == "" || n.caller == nil {
		return nil, hub.Errorf(hub.CodeUnavailable, "%s is no node of this cluster (any more)", oneLine(node))
	}
	status, answer, err := n.caller.call(ctx, address, 0, methodNodeCall, question)
	switch {
	case errors.Is(err, context.Canceled):
		return nil, err
	case err != nil:
		return nil, hub.Errorf(hub.CodeUnavailable, "%s cannot be asked at the moment; try again shortly", oneLine(node))
	case status != statusOK:
		return nil, hub.Errorf(hub.CodeUnavailable, "%s says: %s", oneLine(node), oneLine(string(answer)))
	}
	return answer, nil
}

func (n *Node) handleNodeCall(question []byte) (status byte, out []byte) {
	if n.opts.HandleCall == nil || !n.running.Load() {
		return statusRefused, []byte("nothing can be asked now")
	}
	out, err := n.opts.HandleCall(question)
	if err != nil {
		return statusRefused, []byte(err.Error())
	}
	return statusOK, out
}
