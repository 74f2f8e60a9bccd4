package registry

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// place is where in the tree of a text something stands: keys and, with an empty key, indices.
type place struct {
	up    *place
	key   string
	index int
}

func (p *place) at(key string) *place { return &place{up: p, key: key} }
func (p *place) nth(i int) *place     { return &place{up: p, index: i} }

// String returns the place in the form services[3].versions[0].target.
func (p *place) String() string {
	if p == nil || p.up == nil {
		return ""
	}
	if p.key == "" {
		return p.up.String() + "[" + strconv.Itoa(p.index) + "]"
	}
	name := p.key
	if strings.ContainsAny(name, ".[] ") {
		name = strconv.Quote(clip(name))
	}
	if above := p.up.String(); above != "" {
		return above + "." + name
	}
	return name
}

// mistakes collects what is wrong with a text.
type mistakes struct {
	found []Mistake
	more  int
	// flawed are the positions at which the form is wrong, so that the meaning is not judged.
	flawed map[Position]bool
}

func (m *mistakes) add(at Position, where *place, format string, args ...any) {
	if len(m.found) >= maxMistakes {
		m.more++
		return
	}
	m.found = append(m.found, Mistake{Position: at, Path: where.String(), Detail: fmt.Sprintf(format, args...)})
	if m.flawed == nil {
		m.flawed = make(map[Position]bool)
	}
	m.flawed[at] = true
}

// sorted returns the mistakes in the order of the text.
func (m *mistakes) sorted() []Mistake {
	slices.SortStableFunc(m.found, func(a, b Mistake) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	if m.more > 0 {
		m.found = append(m.found, Mistake{Detail: fmt.Sprintf("and %d more", m.more)})
		m.more = 0
	}
	return m.found
}

func positionOf(n *yaml.Node) Position {
	if n == nil {
		return Position{}
	}
	return Position{Line: n.Line, Column: n.Column}
}

// find returns the node at a path of keys (string) and indices (int) below root, or the deepest one on the way.
func find(root *yaml.Node, path []any) (*yaml.Node, *place) {
	n, where := root, &place{}
	missing := false
	for _, step := range path {
		var below *yaml.Node
		switch step := step.(type) {
		case string:
			where = where.at(step)
			below = valueOf(n, step)
		case int:
			where = where.nth(step)
			if n.Kind == yaml.SequenceNode && step < len(n.Content) {
				below = n.Content[step]
			}
		}
		missing = missing || below == nil
		if !missing {
			n = below
		}
	}
	return n, where
}

// valueOf returns the value under a key, or nil.
func valueOf(n *yaml.Node, key string) *yaml.Node {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// Error returns the mistake in one line.
func (m Mistake) Error() string {
	var b strings.Builder
	if m.Line > 0 {
		fmt.Fprintf(&b, "line %d, column %d: ", m.Line, m.Column)
	}
	if m.Path != "" {
		b.WriteString(m.Path)
		b.WriteString(": ")
	}
	b.WriteString(m.Detail)
	return b.String()
}
