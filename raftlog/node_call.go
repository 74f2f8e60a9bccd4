package raftlog

import (
	"context"
	"errors"

	"quorumhub/hub"
)

// Call sends a request to another node, whose Options.HandleCall answers it. The content is up to the callers. The error is
// hub.CodeUnavailable when the node is no member, cannot be reached, does not answer or refuses the request.
func (n *Node) Call(ctx context.Context, node string, request []byte) ([]byte, error) {
	address := ""
	for _, s := range n.servers() {
		if string(s.ID) == node {
			address = string(s.Address)
		}
	}
	if address == "" || n.caller == nil {
		return nil, hub.Errorf(hub.CodeUnavailable, "%s is not a node of this cluster", oneLine(node))
	}
	status, answer, err := n.caller.call(ctx, Peer{node, address}, 0, methodNodeCall, request)
	switch {
	case errors.Is(err, context.Canceled):
		return nil, err
	case err != nil:
		return nil, hub.Errorf(hub.CodeUnavailable, "%s cannot be reached at the moment; try again shortly", oneLine(node))
	case status != statusOK:
		return nil, hub.Errorf(hub.CodeUnavailable, "%s refused the request: %s", oneLine(node), oneLine(string(answer)))
	}
	return answer, nil
}

func (n *Node) handleNodeCall(request []byte) (status byte, out []byte) {
	if n.opts.HandleCall == nil || !n.running.Load() {
		return statusRefused, []byte("the node is starting or takes no calls")
	}
	out, err := n.opts.HandleCall(request)
	if err != nil {
		return statusRefused, []byte(err.Error())
	}
	return statusOK, out
}
