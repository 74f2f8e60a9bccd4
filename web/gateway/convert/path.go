package convert

import (
	"slices"
)

// step is one step of all paths with the same beginning.
type step struct {
	next map[string]*step
	any  *step // after a *

	array, strip bool
	kind         Type
}

// add makes the path below s and returns its last step.
func (s *step) add(path []string) *step {
	for _, name := range path {
		child := s.any
		if name != "*" {
			child = s.next[name]
		}
		if child == nil {
			child = &step{}
			if name == "*" {
				s.any = child
			} else {
				if s.next == nil {
					s.next = map[string]*step{}
				}
				s.next[name] = child
			}
		}
		s = child
	}
	return s
}

// place is where a document stands in the paths: the steps that paths have come to. It is short, and nil when no path goes on.
type place []*step

func (p place) down(name string) place {
	var out place
	for _, s := range p {
		if child := s.next[name]; child != nil {
			out = append(out, child)
		}
		if s.any != nil {
			out = append(out, s.any)
		}
	}
	return out
}

func (p place) isArray() bool { return slices.ContainsFunc(p, func(s *step) bool { return s.array }) }

func (p place) isStripped() bool {
	return slices.ContainsFunc(p, func(s *step) bool { return s.strip })
}

func (p place) kind() Type {
	for _, s := range p {
		if s.kind != 0 {
			return s.kind
		}
	}
	return 0
}

// places is where a document stands in both sorts of paths.
type places struct {
	element, pointer place
}

// start is where a document with this root element stands at its root's value.
func (r *rules) start(root string) places {
	var p places
	if r.elements != nil {
		p.element = append(place{r.elements}, place{r.elements}.down(root)...)
	}
	if r.pointers != nil {
		p.pointer = place{r.pointers}
	}
	return p
}

// member goes down to a member of an object.
func (p places) member(name string) places {
	return places{p.element.down(name), p.pointer.down(name)}
}

// item goes down to an item of an array. Element paths pass through arrays.
func (p places) item(i int) places {
	if p.pointer == nil {
		return p
	}
	return places{p.element, p.pointer.down(decimal(i))}
}

func (p places) isStripped() bool { return p.element.isStripped() || p.pointer.isStripped() }

func (p places) none() bool { return p.element == nil && p.pointer == nil }
