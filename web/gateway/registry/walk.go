package registry

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"quorumhub/configs/syntax"
)

// walk compares a tree with its shape and notes what differs.
type walk struct {
	*mistakes
	// plain says that the notation has no types, as XML: all scalars are text.
	plain bool
	// known returns the value of a reference and whether it has one; with draft it need not.
	known func(name string) (string, bool)
	draft bool
}

func (w *walk) fail(n *yaml.Node, where *place, format string, args ...any) {
	w.add(positionOf(n), where, format, args...)
}

// node compares n with s. A value that is missing (null) counts as not given.
func (w *walk) node(n *yaml.Node, s *shape, where *place) {
	switch {
	case n.Kind == yaml.AliasNode, n.Anchor != "":
		w.fail(n, where, "anchors and aliases are not possible here, expected the value itself")
		return
	case n.Style&yaml.TaggedStyle != 0:
		w.fail(n, where, "a tag (%s) is not possible here, expected the value itself", clip(n.Tag))
		return
	}
	switch s.kind {
	case scalarKind:
		w.scalar(n, s, where)
	case listKind:
		w.list(n, s, where)
	case objectKind:
		w.object(n, s, where)
	case namesKind:
		w.names(n, s, where)
	case anyKind:
		w.any(n, where, 0)
	}
}

// null reports whether a section was left empty.
func null(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

func (w *walk) list(n *yaml.Node, s *shape, where *place) {
	switch {
	case null(n):
		if s.nonEmpty {
			w.fail(n, where, "is empty, expected at least one %s", s.itemName)
		}
		return
	case n.Kind != yaml.SequenceNode:
		example := ""
		if n.Kind == yaml.ScalarNode && n.Value != "" && len(n.Value) <= 40 {
			example = ", such as [" + n.Value + "]"
		}
		w.fail(n, where, "%s, expected a list%s", kindOf(n), example)
		return
	case s.nonEmpty && len(n.Content) == 0:
		w.fail(n, where, "is empty, expected at least one %s", s.itemName)
	case len(n.Content) > s.most:
		w.fail(n, where, "%d entries, expected at most %d", len(n.Content), s.most)
		return
	}
	for i, item := range n.Content {
		w.node(item, s.item, where.nth(i))
	}
}

func (w *walk) object(n *yaml.Node, s *shape, where *place) {
	if null(n) {
		w.missing(n, n, s, where)
		return
	}
	if n.Kind != yaml.MappingNode {
		w.fail(n, where, "%s, expected some of the keys %s", kindOf(n), strings.Join(s.memberNames(), ", "))
		return
	}
	given := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if !w.key(k, given, where) {
			continue
		}
		m := s.member(k.Value)
		if m == nil {
			w.fail(k, where.at(k.Value), "unknown key; did you mean %s?", syntax.Nearest(k.Value, s.memberNames()))
			continue
		}
		if null(v) && m.shape.kind == scalarKind {
			w.fail(v, where.at(k.Value), "has no value, expected %s", m.shape.form.expected)
			continue
		}
		w.node(v, m.shape, where.at(k.Value))
	}
	w.missing(n, n, s, where)
}

// missing notes the required keys that n does not have.
func (w *walk) missing(n, at *yaml.Node, s *shape, where *place) {
	for _, m := range s.members {
		if v := valueOf(n, m.name); m.required && (v == nil || null(v) && m.shape.kind == objectKind) {
			w.fail(at, where.at(m.name), "is missing: %s", lowerFirst(m.doc))
		}
	}
}

func (w *walk) names(n *yaml.Node, s *shape, where *place) {
	if null(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		w.fail(n, where, "%s, expected names of a %s each with a value", kindOf(n), s.itemName)
		return
	}
	if len(n.Content)/2 > maxNames {
		w.fail(n, where, "%d entries, expected at most %d", len(n.Content)/2, maxNames)
		return
	}
	given := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		if !w.key(k, given, where) {
			continue
		}
		if !s.form.accepts(k.Value) {
			w.fail(k, where, "got the name %q, expected %s", clip(k.Value), s.form.expected)
		}
		if null(v) && (s.item.kind == scalarKind || s.item.kind == listKind) {
			w.fail(v, where.at(k.Value), "has no value")
			continue
		}
		w.node(v, s.item, where.at(k.Value))
	}
}

// key checks that a key is plain and given once.
func (w *walk) key(k *yaml.Node, given map[string]int, where *place) bool {
	switch {
	case k.Kind != yaml.ScalarNode || k.Anchor != "" || k.Style&yaml.TaggedStyle != 0 || null(k) || k.Value == "":
		w.fail(k, where, "expected a plain key")
		return false
	case given[k.Value] > 0:
		w.fail(k, where.at(k.Value), "is given twice, first in line %d", given[k.Value])
		return false
	}
	given[k.Value] = max(k.Line, 1)
	return true
}

// any checks a value of any kind, which only must not be too deep.
func (w *walk) any(n *yaml.Node, where *place, depth int) {
	switch {
	case depth > maxDepth:
		w.fail(n, where, "nested more than %d deep", maxDepth)
		return
	case n.Kind == yaml.AliasNode, n.Anchor != "", n.Style&yaml.TaggedStyle != 0:
		w.fail(n, where, "anchors, aliases and tags are not possible here, expected the value itself")
		return
	}
	switch n.Kind { //nolint:exhaustive // the rest has nothing below
	case yaml.SequenceNode:
		for i, item := range n.Content {
			w.any(item, where.nth(i), depth+1)
		}
	case yaml.MappingNode:
		given := make(map[string]int, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			if w.key(n.Content[i], given, where) {
				w.any(n.Content[i+1], where.at(n.Content[i].Value), depth+1)
			}
		}
	}
}

func (w *walk) scalar(n *yaml.Node, s *shape, where *place) {
	f := s.form
	if n.Kind != yaml.ScalarNode {
		w.fail(n, where, "%s, expected %s", kindOf(n), f.expected)
		return
	}
	if detail := f.kindMistake(n, w.plain); detail != "" {
		w.fail(n, where, "%s", detail)
		return
	}
	text := n.Value
	if s.literal || !strings.Contains(text, "${") {
		if s.secret && text != "" {
			w.fail(n, where, "a secret in the clear, expected a reference such as ${NAME} or ${file:NAME}, whose value is given when the registry is applied")
			return
		}
		w.value(n, text, false, s, where)
		return
	}
	if !s.references {
		w.fail(n, where, "got %q, but references are only possible in URLs, headers and secrets; expected %s", clip(text), f.expected)
		return
	}
	complete := true
	resolved, err := expand(text, func(name string) string {
		value, ok := w.known(name)
		if !ok {
			complete = false
			if !w.draft {
				w.fail(n, where, "%s", unset(name))
			}
		}
		return value
	})
	switch {
	case err != nil:
		w.fail(n, where, "%s", err)
	case s.secret && !refers(text):
		w.fail(n, where, "a secret in the clear, expected a reference such as ${NAME} or ${file:NAME}, whose value is given when the registry is applied")
	case complete:
		w.value(n, resolved, refers(text), s, where)
	}
}

func unset(name string) string {
	if file, is := strings.CutPrefix(name, filePrefix); is {
		return fmt.Sprintf("the file %q of ${%s} cannot be read, expected it beside the registry", clip(file), clip(name))
	}
	return fmt.Sprintf("${%s} is not set, expected an environment variable of this name where the registry is applied", clip(name))
}

// value checks a scalar's text. One that comes from a secret is not shown.
func (w *walk) value(n *yaml.Node, text string, hidden bool, s *shape, where *place) {
	switch {
	case s.form.accepts(text):
	case hidden:
		w.fail(n, where, "the value of %s does not fit, expected %s", clip(n.Value), s.form.expected)
	case text == "":
		w.fail(n, where, "is empty, expected %s", s.form.expected)
	case s.form.maxBytes > 0 && len(text) > s.form.maxBytes:
		w.fail(n, where, "%d bytes, expected %s, of at most %d", len(text), s.form.expected, s.form.maxBytes)
	default:
		w.fail(n, where, "got %q, expected %s", clip(text), s.form.expected)
	}
}

// kindMistake says what is wrong with a scalar's type, or "".
func (f *form) kindMistake(n *yaml.Node, plain bool) string {
	if plain {
		return ""
	}
	quoted := n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0
	switch tag := n.ShortTag(); {
	case tag == "!!null":
		return "has no value, expected " + f.expected
	case f.onlyTruth && tag != "!!bool":
		return fmt.Sprintf("got %q, expected %s", clip(n.Value), f.expected)
	case f.onlyNumber && (tag != "!!int" || quoted):
		return fmt.Sprintf("got %q, expected %s, without quotes", clip(n.Value), f.expected)
	case f.onlyTruth, f.onlyNumber:
		return ""
	case tag == "!!bool", tag == "!!float" && f.whole, (tag == "!!int" || tag == "!!float") && !f.number:
		return fmt.Sprintf("got %s, expected %s; a text that looks like something else needs quotes", clip(n.Value), f.expected)
	}
	return ""
}

// accepts reports whether text is of the form.
func (f *form) accepts(text string) bool {
	switch {
	case text == "" || f.maxBytes > 0 && len(text) > f.maxBytes:
		return false
	case f.onlyTruth:
		return text == "true" || text == "false"
	case f.enum != nil:
		for _, v := range f.enum {
			if v == text {
				return true
			}
		}
		return false
	case f.pattern != nil && !f.pattern.MatchString(text):
		return false
	}
	return f.convert == nil || f.convert(text) == nil
}

// kindOf says what a node is.
func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.SequenceNode:
		return "is a list"
	case yaml.MappingNode:
		return "has keys"
	case yaml.ScalarNode:
		return fmt.Sprintf("got %q", clip(n.Value))
	default:
		return "is an alias"
	}
}

// lowerFirst makes the first sentence of s the end of another.
func lowerFirst(s string) string {
	s, _, _ = strings.Cut(s, ". ")
	s = strings.TrimSuffix(s, ".")
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}
