package configs

import (
	"fmt"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"quorumhub/configs/syntax"
)

// readYAML reads a file into a layer. It walks the syntax tree instead of decoding, since the tree knows the line of
// every key. Keys may be nested or dotted. Anchors, aliases and tags are rejected: a configuration does not need
// them, and without them a small file cannot expand into a huge one.
func readYAML(name string, data []byte, known *names) (layer, []Problem) {
	w := yamlWalk{name: name, known: known, out: make(layer)}
	w.document(data)
	return w.out, w.problems
}

type yamlWalk struct {
	name     string
	known    *names
	out      layer
	problems []Problem
	// lists describes the keys that hold lists of items, items holds their contents; see ReadItems.
	lists map[string]ItemKind
	items map[string][]Item
}

// document reads the only document a file may contain.
func (w *yamlWalk) document(data []byte) {
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		w.syntax(data, err)
		return
	}
	for i, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if i > 0 {
			w.fail(doc.Body.GetToken(), "", "a second document starts here, expected only one")
			break
		}
		w.section("", doc.Body)
	}
}

func (w *yamlWalk) origin(t *token.Token) string {
	if t == nil || t.Position == nil {
		return w.name
	}
	return fmt.Sprintf("%s:%d", w.name, t.Position.Line)
}

func (w *yamlWalk) fail(t *token.Token, key, message string) {
	w.problems = append(w.problems, Problem{Key: key, Origin: w.origin(t), Message: message})
}

func (w *yamlWalk) syntax(data []byte, err error) {
	fault := syntax.Explain(data, err)
	origin := w.name
	if fault.Line > 0 {
		origin = fmt.Sprintf("%s:%d:%d", w.name, fault.Line, fault.Column)
	}
	w.problems = append(w.problems, Problem{Origin: origin, Message: "not valid YAML: " + fault.Message})
}

// section reads a mapping whose keys are below prefix.
func (w *yamlWalk) section(prefix string, node ast.Node) {
	switch n := node.(type) {
	case *ast.NullNode, *ast.CommentGroupNode:
		// A section with everything commented out.
	case *ast.MappingNode:
		for _, v := range n.Values {
			w.pair(prefix, v)
		}
	case *ast.MappingValueNode:
		w.pair(prefix, n)
	default:
		if prefix == "" {
			w.fail(node.GetToken(), "", "expected keys and values such as data_dir: ./data")
			return
		}
		w.fail(node.GetToken(), prefix, w.known.unknown(prefix))
	}
}

func (w *yamlWalk) pair(prefix string, pair *ast.MappingValueNode) {
	key, ok := scalarText(pair.Key)
	if !ok {
		w.fail(pair.Key.GetToken(), prefix, "expected a plain key")
		return
	}
	if prefix != "" {
		key = prefix + "." + key
	}
	at := pair.Key.GetToken()
	kind, isList := w.lists[key]
	switch {
	case isList:
		w.itemsOf(kind, at, pair.Value)
	case w.known.is(key):
		w.leaf(key, at, pair.Value)
	case w.known.section(key):
		w.section(key, pair.Value)
	default:
		message := w.known.unknown(key)
		if _, nested := pair.Value.(*ast.MappingNode); nested {
			message = fmt.Sprintf("unknown key; did you mean %s?", w.known.nearestSection(key))
		}
		w.fail(at, key, message)
	}
}

func (w *yamlWalk) leaf(key string, at *token.Token, node ast.Node) {
	if _, ok := w.out[key]; ok {
		w.fail(at, key, "given twice in this file")
		return
	}
	g := given{Origin: w.origin(at)}
	switch n := node.(type) {
	case *ast.NullNode:
		// "key:" without a value keeps the default, like an empty section.
		return
	case *ast.SequenceNode:
		g.List = true
		for _, item := range n.Values {
			text, ok := scalarText(item)
			if !ok {
				w.fail(item.GetToken(), key, "expected a plain value")
				return
			}
			g.Texts = append(g.Texts, text)
		}
	default:
		text, ok := scalarText(node)
		if !ok {
			w.fail(at, key, "expected a plain value")
			return
		}
		g.Texts = []string{text}
	}
	w.out[key] = g
}

// scalarText returns a scalar as written, so that 010 or 1e3 mean the same as in the environment.
func scalarText(node ast.Node) (string, bool) {
	switch n := node.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	default:
		return "", false
	}
}
