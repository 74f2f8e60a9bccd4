package console

import (
	"context"
	"net/http"

	"quorumhub/web/view"
)

// nodeRow is a node in a table.
type nodeRow struct {
	view.Node
	Badge badge
}

// Overview shows how the hub is doing.
func (c *Console) Overview(w http.ResponseWriter, r *http.Request) {
	c.show(w, r, sheet{template: "overview", section: "overview", fragments: []string{"overview-nodes"},
		build: func(context.Context) (*content, error) {
			var data struct{ Nodes []nodeRow }
			for _, n := range c.Cluster.Nodes() {
				data.Nodes = append(data.Nodes, nodeRow{n, roleBadge(&n)})
			}
			return &content{Title: "Overview", Data: data}, nil
		}})
}

// roleBadge is a node's role, and how it is doing.
func roleBadge(n *view.Node) badge {
	switch {
	case n.Role == view.RoleDown:
		return badge{stateBad, "down"}
	case n.Leaving:
		return badge{stateWarn, "leaving"}
	case n.Stopping:
		return badge{stateWarn, "stopping"}
	case !n.Healthy:
		return badge{stateWarn, string(n.Role) + ", behind"}
	case n.Role == view.RoleLeader:
		return badge{stateInfo, "leader"}
	}
	return badge{stateGood, string(n.Role)}
}
