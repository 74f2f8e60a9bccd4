package web

import (
	"context"
	"net/http"
	"strings"

	"quorumhub/auth"
	"quorumhub/hub"
	"quorumhub/web/view"
)

// addNode lets a node join: {"node": "node-4", "address": "10.0.0.4:8180", "voter": true}.
func (s *Server) addNode(w http.ResponseWriter, r *http.Request) {
	in := struct {
		Node    string `json:"node"`
		Address string `json:"address"`
		Voter   *bool  `json:"voter"`
	}{}
	s.changeNodes(w, r, &in, `{"node": "node-4", "address": "10.0.0.4:8180"}`, func(ctx context.Context, m view.Membership) error {
		switch {
		case in.Node == "":
			return hub.ParamErrorf("node", "is missing; expected the ID of the joining node")
		case in.Address == "":
			return hub.ParamErrorf("address", "is missing; expected the host:port where other nodes reach it")
		}
		auth.Note(ctx, "node", in.Node)
		auth.Note(ctx, "node_address", in.Address)
		return m.AddNode(ctx, in.Node, in.Address, in.Voter == nil || *in.Voter)
	})
}

func (s *Server) promoteNode(w http.ResponseWriter, r *http.Request) {
	s.changeNodes(w, r, nil, "", func(ctx context.Context, m view.Membership) error { return m.PromoteNode(ctx, nodeInPath(r)) })
}

func (s *Server) demoteNode(w http.ResponseWriter, r *http.Request) {
	s.changeNodes(w, r, nil, "", func(ctx context.Context, m view.Membership) error { return m.DemoteNode(ctx, nodeInPath(r)) })
}

func (s *Server) drainNode(w http.ResponseWriter, r *http.Request) {
	s.changeNodes(w, r, nil, "", func(ctx context.Context, m view.Membership) error { return m.DrainNode(ctx, nodeInPath(r)) })
}

func (s *Server) undrainNode(w http.ResponseWriter, r *http.Request) {
	s.changeNodes(w, r, nil, "", func(ctx context.Context, m view.Membership) error { return m.UndrainNode(ctx, nodeInPath(r)) })
}

func (s *Server) removeNode(w http.ResponseWriter, r *http.Request) {
	s.changeNodes(w, r, nil, "", func(ctx context.Context, m view.Membership) error { return m.RemoveNode(ctx, nodeInPath(r)) })
}

// leave removes this node.
func (s *Server) leave(w http.ResponseWriter, r *http.Request) {
	s.changeNodes(w, r, nil, "", func(ctx context.Context, m view.Membership) error { return m.RemoveNode(ctx, s.Node.ID()) })
}

// transferLeadership makes another node the leader: {"node": "node-2"}, or {} for any.
func (s *Server) transferLeadership(w http.ResponseWriter, r *http.Request) {
	in := struct {
		Node string `json:"node"`
	}{}
	s.changeNodes(w, r, &in, `{"node": "node-2"} or {}`, func(ctx context.Context, m view.Membership) error {
		auth.Note(ctx, "node", in.Node)
		return m.TransferLeadership(ctx, in.Node)
	})
}

// nodeInPath returns the ID in /v1/cluster/nodes/<id> and below.
func nodeInPath(r *http.Request) string {
	id, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v1/cluster/nodes/"), "/")
	return id
}

// changeNodes reads a JSON body into in, unless it is nil, makes the change and answers with the cluster after it.
func (s *Server) changeNodes(w http.ResponseWriter, r *http.Request, in any, example string, do func(context.Context, view.Membership) error) {
	var err error
	if in != nil {
		err = s.readJSON(w, r, maxJSONBytes, in, "expected JSON such as "+example)
	}
	if err == nil {
		var m view.Membership
		if m, err = s.membership(); err == nil {
			err = do(r.Context(), m)
		}
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.getCluster(w, r)
}

// membership returns what changes the cluster's members.
func (s *Server) membership() (view.Membership, error) {
	if s.Options.Membership == nil {
		return nil, errAlone
	}
	return s.Options.Membership, nil
}

var errAlone = hub.Errorf(hub.CodeConflict, "this node runs alone, without a cluster")
