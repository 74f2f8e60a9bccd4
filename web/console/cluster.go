package console

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"quorumhub/auth"
	"quorumhub/figures"
	"quorumhub/hub"
	"quorumhub/web/view"
)

// ClusterPorts is what the page about the cluster needs of the server.
type ClusterPorts interface {
	// Membership changes the cluster's members. The error says why nothing can be changed.
	Membership() (view.Membership, error)
}

// clusterData is what the page about the cluster shows.
type clusterData struct {
	State    state
	Verdict  string
	Concerns []concernRow
	Picture  *nodePicture
	Heard    []heardRow
	Nodes    []memberRow
	Level    uint32
	Endings  []endingRow
	Doings   []doing

	MayChange, MayBackup, Alone bool
	Transfer                    []string // who may lead
}

// memberRow is a node with everything that is known of it.
type memberRow struct {
	nodeRow
	Behind   uint64 // entries behind the leader
	Contact  string
	Clock    string
	Share    string // of the subscriptions
	Acts     []nodeAct
	IsLeader bool
}

// nodeAct is what can be done with a node.
type nodeAct struct{ Verb, Text string }

type heardRow struct {
	By, Whom, Text string
	Badge          badge
}

type endingRow struct {
	Node string
	figures.Ending
	Badge badge
}

// Cluster shows the nodes, how they are doing, who hears whom, and what can be done with them.
func (c *Console) Cluster(w http.ResponseWriter, r *http.Request) {
	c.show(w, r, sheet{template: "cluster", section: "cluster", build: c.buildCluster, personal: true,
		fragments: []string{"cluster-verdict", "cluster-picture", "cluster-nodes", "cluster-figures", "cluster-acts", "cluster-doings"}})
}

func (c *Console) buildCluster(ctx context.Context) (*content, error) {
	h := c.Ports.Health(ctx)
	_, alone := c.Ports.Membership()
	d := clusterData{Level: c.Nodes.FeatureLevel(), MayChange: c.Ports.May(ctx, auth.ActionCluster), MayBackup: c.Ports.May(ctx, auth.ActionBackup), Alone: alone != nil}
	for _, one := range h.Concerns() {
		if one.Kind == view.ConcernCluster || one.Kind == view.ConcernDisk || one.Kind == view.ConcernSettings {
			row := concernRowOf(one)
			row.Path = ""
			d.Concerns = append(d.Concerns, row)
		}
	}
	d.State, d.Verdict = quorum(h)
	rows := nodeRows(h)
	leader := slices.IndexFunc(rows, func(n nodeRow) bool { return n.Role == view.RoleLeader })
	owned := 0
	for i := range rows {
		owned += rows[i].Subscriptions
	}
	for i := range rows {
		m := memberRow{nodeRow: rows[i], IsLeader: i == leader}
		if leader >= 0 {
			m.Behind = rows[leader].AppliedIndex - min(rows[leader].AppliedIndex, m.AppliedIndex)
		}
		m.Contact, m.Clock, m.Share = contactText(&m.Node), clockText(m.ClockOffset), "–"
		if owned > 0 {
			m.Share = fmt.Sprintf("%d %%", (100*m.Subscriptions+owned/2)/owned)
		}
		m.Acts = nodeActs(&m.Node, len(rows))
		d.Nodes = append(d.Nodes, m)
		if m.Voter && m.Role == view.RoleFollower && !m.Leaving && !m.Stopping {
			d.Transfer = append(d.Transfer, m.ID)
		}
		if m.Rates != nil {
			for _, e := range m.Rates.Status.Endings {
				d.Endings = append(d.Endings, endingRow{m.ID, e, endingBadge(e, h.Now)})
			}
		}
	}
	d.Picture, d.Heard = drawNodes(d.Nodes)
	d.Doings = c.doings.list()
	return &content{Title: "Cluster", Data: d}, nil
}

// quorum says in a sentence how many nodes may fail.
func quorum(h *view.Health) (state, string) {
	voters, up := 0, 0
	for i := range h.Nodes {
		if n := &h.Nodes[i]; n.Voter {
			voters++
			if n.Role != view.RoleDown {
				up++
			}
		}
	}
	nodes := fmt.Sprintf("%d nodes, %d votes", len(h.Nodes), voters)
	if len(h.Nodes) == 1 {
		nodes = "1 node"
	}
	switch spare := up - voters/2 - 1; {
	case h.Leader == "":
		return stateBad, nodes + ": no node leads, so nothing can be published or changed."
	case len(h.Nodes) == 1:
		return stateIdle, nodes + ", without others: if it fails, the hub does."
	case spare <= 0:
		return stateWarn, fmt.Sprintf("%s; %s leads. If one more voter fails, nothing can be published until it is back.", nodes, h.Leader)
	case up < voters:
		return stateWarn, fmt.Sprintf("%s, %d of them up; %s leads. %d more may fail.", nodes, up, h.Leader, spare)
	default:
		return stateGood, fmt.Sprintf("%s; %s leads. %d of the voters may fail at a time without anybody noticing.", nodes, h.Leader, spare)
	}
}

func contactText(n *view.Node) string {
	switch {
	case n.Role == view.RoleLeader:
		return "leads"
	case n.Role == view.RoleDown:
		return "–"
	case n.LastContact < 0:
		return "unknown"
	case n.LastContact < time.Millisecond:
		return "< 1 ms ago"
	}
	return tookText(n.LastContact.Round(10*time.Millisecond)) + " ago"
}

// clockText writes how far a clock is off.
func clockText(offset time.Duration) string {
	switch ms := offset.Round(time.Millisecond); {
	case ms.Abs() < 5*time.Millisecond:
		return "agrees"
	case ms < 0:
		return tookText(-ms) + " behind"
	default:
		return tookText(ms) + " ahead"
	}
}

func endingBadge(e figures.Ending, now time.Time) badge {
	switch left := e.Ends.Sub(now); {
	case left <= 0:
		return badge{stateBad, "ended"}
	case left < min(30*24*time.Hour, e.Ends.Sub(e.Begins)/4):
		return badge{stateWarn, "ends soon"}
	}
	return badge{stateGood, "valid"}
}

// nodeActs lists what can be done with a node of a cluster of size nodes.
func nodeActs(n *view.Node, nodes int) (out []nodeAct) {
	if n.Leaving || nodes < 2 {
		return nil
	}
	switch {
	case n.Voter:
		out = append(out, nodeAct{"demote", "Take its vote"})
	case n.Role != view.RoleDown:
		out = append(out, nodeAct{"promote", "Give it a vote"})
	}
	if n.Drained {
		out = append(out, nodeAct{"undrain", "Let it deliver"})
	} else {
		out = append(out, nodeAct{"drain", "Drain"})
	}
	return append(out, nodeAct{"remove", "Remove"})
}

// nodeOf returns a node by the ID in the path of an act.
func (c *Console) nodeOf(r *http.Request) (n view.Node, others []view.Node, err error) {
	id, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/console/cluster/nodes/"), "/")
	for _, one := range c.Nodes.Nodes() {
		if one.ID == id {
			n = one
		} else {
			others = append(others, one)
		}
	}
	if n.ID == "" {
		err = &hub.Error{Code: hub.CodeNotFound, Param: "node", Message: "is not a node of this cluster"}
	}
	return n, others, err
}

// PromoteNode gives a node a vote.
func (c *Console) PromoteNode(w http.ResponseWriter, r *http.Request) {
	c.changeNode(w, r, func(n *view.Node, others []view.Node) confirm {
		voters := 1 + votersOf(others)
		return confirm{Title: "Give " + n.ID + " a vote", Lead: fmt.Sprintf("There will be %d votes. Every message is then acknowledged once %d nodes have it.", voters, voters/2+1), Button: "Give it a vote"}
	}, view.Membership.PromoteNode, func(id string) string { return id + " has a vote." })
}

// DemoteNode takes a node's vote.
func (c *Console) DemoteNode(w http.ResponseWriter, r *http.Request) {
	c.changeNode(w, r, func(n *view.Node, others []view.Node) confirm {
		return confirm{Title: "Take the vote of " + n.ID, Lead: "It goes on storing everything and delivering. " + spareText(votersOf(others)), Button: "Take its vote"}
	}, view.Membership.DemoteNode, func(id string) string { return id + " has no vote any more." })
}

// DrainNode lets others deliver what a node does.
func (c *Console) DrainNode(w http.ResponseWriter, r *http.Request) {
	c.changeNode(w, r, func(n *view.Node, others []view.Node) confirm {
		ask := confirm{Title: "Drain " + n.ID, Button: "Drain " + n.ID,
			Lead: fmt.Sprintf("%s owns %s. %s over what it delivers, with nothing lost or out of order; it goes on storing everything, and keeps its vote.",
				n.ID, countOf(n.Subscriptions, "subscription", "subscriptions"), takersOf(others))}
		if n.Role == view.RoleLeader {
			ask.Facts = append(ask.Facts, "It leads; another node will lead first.")
		}
		ask.Facts = append(ask.Facts, "It stays so when its program is started again, until you let it deliver. If no other node is left, it delivers nevertheless.")
		return ask
	}, view.Membership.DrainNode, func(id string) string { return id + " is drained: what it still owns moves to the others now." })
}

// takersOf says who takes over.
func takersOf(others []view.Node) string {
	var ids []string
	for i := range others {
		if o := &others[i]; o.Role != view.RoleDown && !o.Stopping && !o.Leaving && !o.Drained {
			ids = append(ids, o.ID)
		}
	}
	switch len(ids) {
	case 0:
		return "No node could take"
	case 1:
		return ids[0] + " takes"
	}
	return strings.Join(ids, ", ") + " take"
}

// UndrainNode lets a node deliver again.
func (c *Console) UndrainNode(w http.ResponseWriter, r *http.Request) {
	c.changeNode(w, r, func(n *view.Node, _ []view.Node) confirm {
		return confirm{Title: "Let " + n.ID + " deliver", Lead: "It gets its share of the subscriptions again.", Button: "Let it deliver"}
	}, view.Membership.UndrainNode, func(id string) string { return id + " delivers again." })
}

// RemoveNode removes a node for good.
func (c *Console) RemoveNode(w http.ResponseWriter, r *http.Request) {
	c.changeNode(w, r, func(n *view.Node, others []view.Node) confirm {
		ask := confirm{Title: "Remove " + n.ID, Button: "Remove " + n.ID, Name: n.ID, Danger: true,
			Lead: fmt.Sprintf("%s owns %s, which move to the others first. Its program ends then, and its ID is never used again.", n.ID, countOf(n.Subscriptions, "subscription", "subscriptions"))}
		if n.Voter {
			ask.Facts = append(ask.Facts, spareText(votersOf(others)))
		}
		if n.Role == view.RoleLeader {
			ask.Facts = append(ask.Facts, "It leads; another node will lead first.")
		}
		ask.Facts = append(ask.Facts, "To let it rest for a while instead, drain it, or stop its program: it comes back as it was.")
		return ask
	}, view.Membership.RemoveNode, func(id string) string { return id + " was removed." })
}

// votersOf counts the votes of nodes.
func votersOf(nodes []view.Node) (n int) {
	for i := range nodes {
		if nodes[i].Voter {
			n++
		}
	}
	return n
}

// spareText says what a number of votes means.
func spareText(voters int) string {
	spare := voters - voters/2 - 1
	if spare <= 0 {
		return fmt.Sprintf("%s left: none of the voters may fail.", countOf(voters, "vote is", "votes are"))
	}
	return fmt.Sprintf("%s left: %d of the voters may fail.", countOf(voters, "vote is", "votes are"), spare)
}

func countOf(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return count(n) + " " + many
}

// changeNode asks whether a node is to be changed, and changes it.
func (c *Console) changeNode(w http.ResponseWriter, r *http.Request, ask func(n *view.Node, others []view.Node) confirm,
	change func(view.Membership, context.Context, string) error, done func(id string) string) {
	if !c.readForm(w, r) {
		return
	}
	n, others, err := c.nodeOf(r)
	var m view.Membership
	if err == nil {
		m, err = c.Ports.Membership()
	}
	if err != nil {
		c.fail(w, r, err)
		return
	}
	question := ask(&n, others)
	question.Back = "/cluster"
	if !c.confirmed(w, r, "cluster", question) {
		return
	}
	auth.Note(r.Context(), "node", n.ID)
	c.take(w, r, "/cluster", question.Title, done(n.ID), func(ctx context.Context) error { return change(m, ctx, n.ID) })
}

// TransferLeadership makes another node the leader.
func (c *Console) TransferLeadership(w http.ResponseWriter, r *http.Request) {
	if !c.readForm(w, r) {
		return
	}
	m, err := c.Ports.Membership()
	if err != nil {
		c.fail(w, r, err)
		return
	}
	to := r.PostForm.Get("node")
	auth.Note(r.Context(), "node", to)
	c.take(w, r, "/cluster", "Transfer of the leadership", "The leadership was transferred.", func(ctx context.Context) error { return m.TransferLeadership(ctx, to) })
}
