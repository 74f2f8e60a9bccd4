package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"quorumhub/cli/exit"
	"quorumhub/cli/terminal"
)

// clusterNodesFlags are shared by the commands for a cluster's nodes. --hub may be any node of the cluster.
type clusterNodesFlags struct {
	hubFlags
	JSON bool `name:"json" help:"Print the resulting cluster as JSON."`
}

// change requests a change and prints words or, with --json, the resulting cluster.
func (f *clusterNodesFlags) change(ctx context.Context, s Streams, method, path string, body any, words string) error {
	return callHub(ctx, s, &f.hubFlags, f.JSON, method, path, body, func(json.RawMessage) (string, error) { return words, nil }, "nodes")
}

type statusCmd struct{ clusterNodesFlags }

// Run shows the nodes as the node at --hub sees them.
func (c *statusCmd) Run(ctx context.Context, s Streams) error {
	hub, err := c.client()
	if err != nil {
		return err
	}
	defer hub.Close()
	answer, err := hub.Call(ctx, http.MethodGet, "/v1/cluster", nil, "nodes")
	if err != nil {
		return err
	}
	if c.JSON {
		return writeJSON(s.Out, answer)
	}
	var cluster struct {
		Leader string `json:"leader"`
		Nodes  []struct {
			ID            string `json:"id"`
			HTTPAddr      string `json:"http_addr"`
			ClusterAddr   string `json:"cluster_addr"`
			Role          string `json:"role"`
			AppliedIndex  uint64 `json:"applied_index"`
			Subscriptions int    `json:"subscriptions"`
			Voter         bool   `json:"voter"`
			Healthy       bool   `json:"healthy"`
			LastContact   *int64 `json:"last_contact_ms"`
			Stopping      bool   `json:"stopping"`
			Leaving       bool   `json:"leaving"`
			Drained       bool   `json:"drained"`
			Gateway       string `json:"gateway_hash"`
		} `json:"nodes"`
	}
	if err := json.Unmarshal(answer, &cluster); err != nil {
		return hub.Unexpected("", err)
	}
	table := s.table()
	table.Row("NODE\tROLE\tVOTER\tSTATE\tLAST CONTACT\tAPPLIED ENTRY\tSUBSCRIPTIONS\tGATEWAY\tHTTP ADDRESS\tCLUSTER ADDRESS")
	voters, healthy := 0, 0
	for _, n := range cluster.Nodes {
		vote, state, contact := "no", "healthy", "-"
		if n.Voter {
			vote = "yes"
			voters++
		}
		switch {
		case n.Leaving:
			state = "leaving"
		case n.Stopping:
			state = "stopping"
		case n.Role == "down":
			state = "down"
		case n.Drained && n.Healthy:
			state = "drained"
			if n.Voter {
				healthy++
			}
		case !n.Healthy:
			state = "behind"
		case n.Voter:
			healthy++
		}
		if n.LastContact != nil {
			contact = terminal.Duration(time.Duration(*n.LastContact)*time.Millisecond) + " ago"
		}
		table.Row(fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s", terminal.OneLine(n.ID), terminal.OneLine(n.Role), vote, state, contact, n.AppliedIndex,
			n.Subscriptions, terminal.OrDash(shortHash(n.Gateway)), terminal.OrDash(n.HTTPAddr), terminal.OrDash(n.ClusterAddr)))
	}
	if err := table.Write(s.Out); err != nil {
		return err
	}
	switch spare := healthy - (voters/2 + 1); {
	case cluster.Leader == "":
		_, err = fmt.Fprintln(s.Out, "\nno leader: the cluster accepts nothing until a majority of its voters is up")
	case spare <= 0:
		_, err = fmt.Fprintf(s.Out, "\n%d of %d voters are healthy: none may fail\n", healthy, voters)
	default:
		_, err = fmt.Fprintf(s.Out, "\n%d of %d voters are healthy: %d may fail\n", healthy, voters, spare)
	}
	return err
}

type addNodeCmd struct {
	clusterNodesFlags
	Node     string `arg:"" help:"The joining node's cluster.node_id."`
	Address  string `arg:"" help:"The joining node's address (HOST:PORT), as seen by the other nodes."`
	Nonvoter bool   `help:"Join as a permanent non-voter, which stores everything and delivers."`
}

// Run announces a node. It joins once it is started with cluster.peers that name itself and a node of the cluster.
func (c *addNodeCmd) Run(ctx context.Context, s Streams) error {
	body := struct {
		Node    string `json:"node"`
		Address string `json:"address"`
		Voter   bool   `json:"voter"`
	}{c.Node, c.Address, !c.Nonvoter}
	return c.change(ctx, s, http.MethodPost, "/v1/cluster/nodes", body,
		c.Node+" may join from "+c.Address+"; start it with cluster.peers that name itself and a node of this cluster")
}

// nodeFlags are shared by the commands for one node.
type nodeFlags struct {
	clusterNodesFlags
	Node string `arg:"" help:"The node's ID."`
}

func (f *nodeFlags) path(action string) string {
	return "/v1/cluster/nodes/" + url.PathEscape(f.Node) + action
}

func (f *nodeFlags) check() error {
	if f.Node == "" || strings.ContainsAny(f.Node, "/?#% ") {
		return exit.Usagef("NODE: got %q, expected a node ID such as node-3", f.Node)
	}
	return nil
}

type promoteCmd struct{ nodeFlags }

func (c *promoteCmd) Run(ctx context.Context, s Streams) error {
	if err := c.check(); err != nil {
		return err
	}
	return c.change(ctx, s, http.MethodPost, c.path("/promote"), nil, c.Node+" is a voter")
}

type demoteCmd struct{ nodeFlags }

func (c *demoteCmd) Run(ctx context.Context, s Streams) error {
	if err := c.check(); err != nil {
		return err
	}
	return c.change(ctx, s, http.MethodPost, c.path("/demote"), nil, c.Node+" is a non-voter; it still delivers")
}

type drainCmd struct{ nodeFlags }

func (c *drainCmd) Run(ctx context.Context, s Streams) error {
	if err := c.check(); err != nil {
		return err
	}
	return c.change(ctx, s, http.MethodPost, c.path("/drain"), nil,
		c.Node+" is drained: the others take over what it delivers, and it stays so until quorumhub cluster undrain "+c.Node)
}

type undrainCmd struct{ nodeFlags }

func (c *undrainCmd) Run(ctx context.Context, s Streams) error {
	if err := c.check(); err != nil {
		return err
	}
	return c.change(ctx, s, http.MethodPost, c.path("/undrain"), nil, c.Node+" delivers again")
}

type removeCmd struct{ nodeFlags }

func (c *removeCmd) Run(ctx context.Context, s Streams) error {
	if err := c.check(); err != nil {
		return err
	}
	return c.change(ctx, s, http.MethodDelete, c.path(""), nil, c.Node+" removed; its ID is never reused")
}

type transferLeadershipCmd struct {
	clusterNodesFlags
	Node string `arg:"" optional:"" help:"The new leader. Default: the most up-to-date voter."`
}

func (c *transferLeadershipCmd) Run(ctx context.Context, s Streams) error {
	body := struct {
		Node string `json:"node,omitempty"`
	}{c.Node}
	to := c.Node
	if to == "" {
		to = "another node"
	}
	return c.change(ctx, s, http.MethodPost, "/v1/cluster/transfer-leadership", body, to+" is the leader")
}

type leaveCmd struct{ clusterNodesFlags }

// Run removes the node at --hub, whose process then exits.
func (c *leaveCmd) Run(ctx context.Context, s Streams) error {
	if len(c.Hub) != 1 {
		return exit.Usagef("--hub: got %d nodes, expected the one that is to leave", len(c.Hub))
	}
	return c.change(ctx, s, http.MethodPost, "/v1/cluster/leave", nil, "the node at "+c.Hub[0]+" has left the cluster and is exiting")
}
