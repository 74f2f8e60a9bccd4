package console

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"quorumhub/figures"
	"quorumhub/hub"
	"quorumhub/web/view"
)

// OverviewPorts is what the overview needs of the server.
type OverviewPorts interface {
	// Health returns what tells how the cluster is doing. Only operators may see it.
	Health(ctx context.Context) *view.Health
	// Holding counts what a principal owns.
	Holding(ctx context.Context, principal string) Holding
}

// Holding counts what a principal owns.
type Holding struct{ Topics, Subscriptions, Requests, DeadLetters int }

// overviewData is what the overview shows to operators.
type overviewData struct {
	State    state
	Verdict  string
	First    *concernRow  // what the verdict is about; nil: nothing
	Concerns []concernRow // the others
	Counts   hub.Counts
	Now      *figures.Rates // nil: no figures
	Failing  []figures.Failing
	Plots    []*plot
	Rows     []figureRow
	Nodes    []nodeRow
}

// concernRow is a concern with the page that shows more of it.
type concernRow struct {
	view.Concern
	Badge      badge
	Path, Link string
}

// nodeRow is a node in a table.
type nodeRow struct {
	view.Node
	Badge badge
	Hash  string
	// Rates are nil if the node did not tell them.
	Rates *figures.NodeFigures
}

// Overview shows how the hub is doing to operators, and to others what they own.
func (c *Console) Overview(w http.ResponseWriter, r *http.Request) {
	if v := c.viewer(r.Context()); !v.Operator {
		c.show(w, r, sheet{template: "mine", section: "overview", build: c.buildMine})
		return
	}
	c.show(w, r, sheet{template: "overview", section: "overview", build: c.buildOverview,
		fragments: []string{"overview-verdict", "overview-rates", "overview-failing", "overview-plots", "overview-nodes"}})
}

func (c *Console) buildMine(ctx context.Context) (*content, error) {
	return &content{Title: "Overview", Lead: "What is yours on this hub.", Data: c.Ports.Holding(ctx, c.viewer(ctx).ID)}, nil
}

func (c *Console) buildOverview(ctx context.Context) (*content, error) {
	h := c.Ports.Health(ctx)
	d := overviewData{Counts: h.Counts}
	for _, one := range h.Concerns() {
		d.Concerns = append(d.Concerns, concernRowOf(one))
	}
	d.State, d.Verdict = verdict(d.Concerns, h)
	if len(d.Concerns) > 0 {
		d.First, d.Concerns = &d.Concerns[0], d.Concerns[1:]
	}
	if p := h.Picture; p != nil {
		d.Now, d.Failing = &p.Now, p.Failing
		points := thin(p.Series[len(p.Series)-spanOf(p.Series):])
		d.Plots, d.Rows = overviewPlots(points), figureRows(p.Series)
	}
	d.Nodes = nodeRows(h)
	return &content{Title: "Overview", Data: d}, nil
}

// concernRowOf adds the page that mends a concern, or tells more of it.
func concernRowOf(one view.Concern) concernRow {
	row := concernRow{Concern: one, Badge: badge{stateWarn, "look into it"}}
	if one.Bad {
		row.Badge = badge{stateBad, "wrong"}
	}
	switch one.Kind {
	case view.ConcernCluster, view.ConcernDisk, view.ConcernSettings:
		row.Path, row.Link = "/cluster", "To the cluster"
	case view.ConcernFailing:
		row.Path, row.Link = "/subscriptions?health=failing", "To the subscriptions that fail"
	case view.ConcernLetters:
		row.Path, row.Link = "/dead-letters", "To the dead letters"
	case view.ConcernLag:
		row.Path, row.Link = "/subscriptions?sort=-lag", "To the subscriptions that lag"
	case view.ConcernGateway:
		row.Path, row.Link = "/gateway", "To the gateway"
	case view.ConcernKeys:
		row.Path, row.Link = "/cluster", "To the cluster"
		if strings.Contains(one.Text, "encryption key") {
			row.Path, row.Link = "/subscriptions", "To the subscriptions"
		}
	}
	return row
}

// verdict is the state of everything in one sentence.
func verdict(concerns []concernRow, h *view.Health) (state, string) {
	if len(concerns) == 0 {
		nodes := fmt.Sprintf("%d nodes agree", len(h.Nodes))
		if len(h.Nodes) == 1 {
			nodes = "the node works"
		}
		return stateGood, "All is well: " + nodes + ", nothing fails, nothing waits."
	}
	s := stateWarn
	if concerns[0].Bad {
		s = stateBad
	}
	return s, concerns[0].Text
}

// nodeRows lists the nodes with what is known of them.
func nodeRows(h *view.Health) (out []nodeRow) {
	for _, n := range h.Nodes {
		row := nodeRow{Node: n, Badge: roleBadge(&n), Hash: fmt.Sprintf("%016x", n.StateHash)[:8]}
		if h.Picture != nil {
			for i := range h.Picture.Nodes {
				if f := &h.Picture.Nodes[i]; f.Node == n.ID {
					row.Rates = f
				}
			}
		}
		out = append(out, row)
	}
	return out
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
	case n.Drained && n.Subscriptions > 0:
		return badge{stateWarn, string(n.Role) + ", draining"}
	case n.Drained:
		return badge{stateIdle, string(n.Role) + ", drained"}
	case n.Role == view.RoleLeader:
		return badge{stateInfo, "leader"}
	}
	return badge{stateGood, string(n.Role)}
}

// joined is how many steps one point of a plot, and perRow how many one row of its table, stands for.
const (
	joined = 2
	perRow = 6
)

// thin joins neighbouring points.
func thin(points []figures.Point) []figures.Point {
	out := make([]figures.Point, 0, len(points)/joined)
	for i := 0; i+joined <= len(points); i += joined {
		out = append(out, join(points[i:i+joined]))
	}
	return out
}

// join makes one point of several: rates are averaged, of what is a height the highest is taken.
func join(points []figures.Point) figures.Point {
	out := points[len(points)-1]
	mean := func(get func(*figures.Point) *figures.Value) {
		sum, n := figures.Value(0), 0
		for i := range points {
			if v := *get(&points[i]); v.Known() {
				sum += v
				n++
			}
		}
		*get(&out) = figures.Unknown()
		if n > 0 {
			*get(&out) = sum / figures.Value(n)
		}
	}
	highest := func(get func(*figures.Point) *figures.Value) {
		top := figures.Unknown()
		for i := range points {
			if v := *get(&points[i]); v.Known() && (!top.Known() || v > top) {
				top = v
			}
		}
		*get(&out) = top
	}
	mean(func(p *figures.Point) *figures.Value { return &p.Published })
	mean(func(p *figures.Point) *figures.Value { return &p.Delivered })
	mean(func(p *figures.Point) *figures.Value { return &p.Failed })
	mean(func(p *figures.Point) *figures.Value { return &p.DeadLettered })
	mean(func(p *figures.Point) *figures.Value { return &p.PublishP50 })
	highest(func(p *figures.Point) *figures.Value { return &p.PublishP99 })
	mean(func(p *figures.Point) *figures.Value { return &p.DeliveryP50 })
	highest(func(p *figures.Point) *figures.Value { return &p.DeliveryP99 })
	highest(func(p *figures.Point) *figures.Value { return &p.Lag })
	highest(func(p *figures.Point) *figures.Value { return &p.Failing })
	return out
}

// spanOf returns how many of the newest points are worth a plot: from the first of which something is known on, but not too few.
func spanOf(points []figures.Point) int {
	const least = 60 // ten minutes
	first := slices.IndexFunc(points, func(p figures.Point) bool { return p.Published.Known() })
	n := len(points) - max(first, 0)
	if first < 0 {
		n = least
	}
	return min(max(n, least)+joined-1, len(points)) / joined * joined
}

// overviewPlots draws the last hour, or what is known of it.
func overviewPlots(points []figures.Point) []*plot {
	line := func(name string, get func(*figures.Point) figures.Value) series {
		s := series{Name: name}
		for i := range points {
			s.Values = append(s.Values, float64(get(&points[i])))
		}
		return s
	}
	seconds := func(v float64) string { return tookText(time.Duration(v * float64(time.Second))) }
	whole := func(v float64) string { return count(int64(math.Ceil(v))) }
	out := []*plot{
		{Label: "Messages per second", Series: []series{
			line("published", func(p *figures.Point) figures.Value { return p.Published }),
			line("delivered", func(p *figures.Point) figures.Value { return p.Delivered }),
			line("failed attempts", func(p *figures.Point) figures.Value { return p.Failed })}},
		{Label: "Messages to be delivered", Unit: whole, Series: []series{line("lag", func(p *figures.Point) figures.Value { return p.Lag })}},
		{Label: "Time to publish", Unit: seconds, Series: []series{
			line("half take less (p50)", func(p *figures.Point) figures.Value { return p.PublishP50 }),
			line("99 of 100 (p99)", func(p *figures.Point) figures.Value { return p.PublishP99 })}},
		{Label: "Time of a delivery", Unit: seconds, Series: []series{
			line("half take less (p50)", func(p *figures.Point) figures.Value { return p.DeliveryP50 }),
			line("99 of 100 (p99)", func(p *figures.Point) figures.Value { return p.DeliveryP99 })}},
	}
	for _, p := range out {
		p.From, p.To = spanText(time.Duration(len(points))*joined*figures.Step)+" ago", "now"
	}
	return out
}

// figureRow is a minute in the table behind the plots.
type figureRow struct {
	At    time.Time
	Cells []string
}

// figureRows lists the minutes of which something is known, the newest first.
func figureRows(points []figures.Point) (out []figureRow) {
	rate := func(v figures.Value) string {
		if !v.Known() {
			return "–"
		}
		return rateText(float64(v))
	}
	took := func(v figures.Value) string {
		if !v.Known() {
			return "–"
		}
		return tookText(time.Duration(float64(v) * float64(time.Second)))
	}
	for i := len(points); i >= perRow; i -= perRow {
		p := join(points[i-perRow : i])
		if !p.Published.Known() {
			continue
		}
		out = append(out, figureRow{p.At, []string{rate(p.Published), rate(p.Delivered), rate(p.Failed), took(p.PublishP50), took(p.PublishP99),
			took(p.DeliveryP50), took(p.DeliveryP99), count(int64(p.Lag)), count(int64(p.Failing))}})
	}
	return out
}

// seconds writes a figure in seconds for people.
func secondsText(v figures.Value) string {
	if !v.Known() {
		return "–"
	}
	return tookText(time.Duration(float64(v) * float64(time.Second)))
}

// why writes the class of a failure and the status behind it.
func why(status int, reason string) string {
	if status > 0 {
		return fmt.Sprintf("HTTP %d", status)
	}
	return cmp.Or(reason, "no answer")
}
