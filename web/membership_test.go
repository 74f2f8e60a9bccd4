package web_test

import (
	"context"
	"strings"
	"testing"

	"quorumhub/hub"
	"quorumhub/web"
)

// nodes is a view.Membership that records its calls.
type nodes struct{ asked []string }

func (n *nodes) note(words ...string) error {
	n.asked = append(n.asked, strings.Join(words, " "))
	if strings.Contains(n.asked[len(n.asked)-1], "node-9") {
		return hub.Errorf(hub.CodeNotFound, "node-9 is not a node of this cluster; its nodes are node-1")
	}
	return nil
}

func (n *nodes) AddNode(_ context.Context, id, address string, voter bool) error {
	if !voter {
		id += " without a vote"
	}
	return n.note("add", id, address)
}
func (n *nodes) PromoteNode(_ context.Context, id string) error        { return n.note("promote", id) }
func (n *nodes) DemoteNode(_ context.Context, id string) error         { return n.note("demote", id) }
func (n *nodes) DrainNode(_ context.Context, id string) error          { return n.note("drain", id) }
func (n *nodes) UndrainNode(_ context.Context, id string) error        { return n.note("undrain", id) }
func (n *nodes) RemoveNode(_ context.Context, id string) error         { return n.note("remove", id) }
func (n *nodes) TransferLeadership(_ context.Context, id string) error { return n.note("transfer", id) }

func TestMembershipAPI(t *testing.T) {
	n := &nodes{}
	f := newFixture(t, func(_ *hub.Policy, o *web.Options) { o.Membership = n })
	for _, c := range []struct {
		method, path, body string
		status             int
		asked, says        string
	}{
		{"POST", "/v1/cluster/nodes", `{"node":"node-4","address":"10.0.0.4:8180"}`, 200, "add node-4 10.0.0.4:8180", `"leader":"node-1"`},
		{"POST", "/v1/cluster/nodes", `{"node":"node-4","address":"a:1","voter":false}`, 200, "add node-4 without a vote a:1", ""},
		{"POST", "/v1/cluster/nodes", `{"address":"a:1"}`, 400, "", "node: is missing"},
		{"POST", "/v1/cluster/nodes", `{"node":"node-4"}`, 400, "", "address: is missing"},
		{"POST", "/v1/cluster/nodes", `{"nod":"node-4"}`, 400, "", "body: cannot be decoded"},
		{"POST", "/v1/cluster/nodes", ``, 400, "", "body: cannot be decoded"},
		{"POST", "/v1/cluster/nodes/node-2/promote", ``, 200, "promote node-2", ""},
		{"POST", "/v1/cluster/nodes/node-2/demote", ``, 200, "demote node-2", ""},
		{"POST", "/v1/cluster/nodes/node-2/drain", ``, 200, "drain node-2", `"drained":false`},
		{"POST", "/v1/cluster/nodes/node-2/undrain", ``, 200, "undrain node-2", ""},
		{"DELETE", "/v1/cluster/nodes/node-2", ``, 200, "remove node-2", ""},
		{"DELETE", "/v1/cluster/nodes/node-9", ``, 404, "remove node-9", "its nodes are node-1"},
		{"POST", "/v1/cluster/transfer-leadership", `{"node":"node-2"}`, 200, "transfer node-2", ""},
		{"POST", "/v1/cluster/transfer-leadership", `{}`, 200, "transfer ", ""},
		{"POST", "/v1/cluster/leave", ``, 200, "remove node-1", ""},
		{"GET", "/v1/cluster/leave", ``, 405, "", "accepts OPTIONS, POST"},
	} {
		n.asked = nil
		got := want(t, f.send(c.method, c.path, c.body, "Content-Type", "application/json"), c.status)
		if asked := strings.Join(n.asked, "; "); asked != c.asked || !strings.Contains(got, c.says) {
			t.Errorf("%s %s %s: asked %q, answered %s", c.method, c.path, c.body, asked, got)
		}
	}
	f = newFixture(t)
	if got := want(t, f.send("POST", "/v1/cluster/leave", ""), 409); !strings.Contains(got, "runs alone") {
		t.Error(got)
	}
}
