package console

import (
	"fmt"
	"html/template"
	"math"
	"strings"
	"time"

	"quorumhub/web/view"
)

// nodePicture is who hears whom.
type nodePicture struct {
	Label string
	nodes []memberRow
	pairs []nodePair
}

// nodePair is how two nodes hear each other.
type nodePair struct {
	a, b  int
	class string // both, one, none or unknown
	text  string
}

// drawNodes makes the picture, and the table behind it.
func drawNodes(nodes []memberRow) (*nodePicture, []heardRow) {
	p := &nodePicture{nodes: nodes}
	var rows []heardRow
	deaf := 0
	for a := range nodes {
		for b := range nodes {
			if a == b {
				continue
			}
			ok, known, silent := hears(&nodes[a], nodes[b].ID)
			row := heardRow{By: nodes[a].ID, Whom: nodes[b].ID, Text: "it tells nothing about itself", Badge: badge{stateIdle, "unknown"}}
			switch {
			case known && ok:
				row.Text, row.Badge = "it answered lately", badge{stateGood, "hears it"}
			case known:
				row.Text, row.Badge = fmt.Sprintf("no answer for %s", spanText(silent)), badge{stateBad, "does not"}
				deaf++
			}
			rows = append(rows, row)
			if a < b {
				p.pairs = append(p.pairs, pairOf(nodes, a, b))
			}
		}
	}
	p.Label = "Who hears whom: everybody hears everybody"
	switch {
	case len(nodes) < 2:
		p.Label = "One node, which needs nobody"
	case deaf > 0:
		p.Label = fmt.Sprintf("Who hears whom: of %d directions, %d are silent", len(nodes)*(len(nodes)-1), deaf)
	}
	return p, rows
}

// hears reports whether a node hears another one, whether that is known, and for how long it has not.
func hears(n *memberRow, other string) (ok, known bool, silent time.Duration) {
	if n.Rates == nil {
		return false, false, 0
	}
	for _, h := range n.Rates.Status.Hears {
		if h.Node == other {
			return h.Alive, true, time.Duration(h.Silent) * time.Millisecond
		}
	}
	return false, false, 0
}

func pairOf(nodes []memberRow, a, b int) nodePair {
	ab, knowsA, _ := hears(&nodes[a], nodes[b].ID)
	ba, knowsB, _ := hears(&nodes[b], nodes[a].ID)
	x, y := nodes[a].ID, nodes[b].ID
	pair := nodePair{a: a, b: b, class: "unknown", text: "nothing is known about " + x + " and " + y}
	switch {
	case knowsA && knowsB && ab && ba:
		pair.class, pair.text = "both", x+" and "+y+" hear each other"
	case knowsA && knowsB && !ab && !ba:
		pair.class, pair.text = "none", x+" and "+y+" do not hear each other"
	case knowsA && !knowsB && !ab:
		pair.class, pair.text = "none", x+" does not hear "+y
	case knowsB && !knowsA && !ba:
		pair.class, pair.text = "none", y+" does not hear "+x
	case knowsA && !ab:
		pair.class, pair.text = "one", x+" does not hear "+y
	case knowsB && !ba:
		pair.class, pair.text = "one", y+" does not hear "+x
	case ab || ba:
		pair.class, pair.text = "both", x+" and "+y+" hear each other, as far as one of them tells"
	}
	return pair
}

// SVG draws the nodes on a circle.
func (p *nodePicture) SVG() template.HTML {
	const width, height, cx, cy, r = 420.0, 300.0, 210.0, 140.0, 100.0
	at := func(i int) (x, y float64) {
		if len(p.nodes) == 1 {
			return cx, cy
		}
		angle := 2*math.Pi*float64(i)/float64(len(p.nodes)) - math.Pi/2
		return math.Round(cx + 1.35*r*math.Cos(angle)), math.Round(cy + r*math.Sin(angle))
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg class="nodes" viewBox="0 0 %v %v" role="img" aria-label="%s">`, width, height, template.HTMLEscapeString(p.Label))
	for _, pair := range p.pairs {
		x1, y1 := at(pair.a)
		x2, y2 := at(pair.b)
		fmt.Fprintf(&b, `<line class="pair %s" x1="%v" y1="%v" x2="%v" y2="%v"><title>%s</title></line>`, pair.class, x1, y1, x2, y2, template.HTMLEscapeString(pair.text))
	}
	for i := range p.nodes {
		n := &p.nodes[i]
		x, y := at(i)
		class := "node"
		switch {
		case n.Role == view.RoleDown:
			class += " down"
		case n.IsLeader:
			class += " leads"
		case !n.Voter:
			class += " mute"
		}
		name := template.HTMLEscapeString(n.ID)
		fmt.Fprintf(&b, `<g class="%s"><circle cx="%v" cy="%v" r="24"/><text x="%v" y="%v" class="mark">%s</text><text x="%v" y="%v">%s</text><title>%s: %s</title></g>`,
			class, x, y, x, y+5, markOf(n), x, y+42, name, name, template.HTMLEscapeString(n.Badge.Text))
	}
	b.WriteString(`</svg>`)
	return template.HTML(b.String()) //nolint:gosec // texts are escaped, the rest are numbers
}

// markOf is what stands in a node's circle.
func markOf(n *memberRow) string {
	switch {
	case n.Role == view.RoleDown:
		return "×"
	case n.IsLeader:
		return "★"
	case !n.Voter:
		return "○"
	}
	return "✓"
}
