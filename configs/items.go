package configs

import (
	"maps"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// ItemKind describes a list of items in a YAML file other than a node's configuration.
type ItemKind struct {
	// Name is the key of the list.
	Name string
	// Keys are the keys of one item; dots nest, as in the configuration.
	Keys []string
	// Lists are lists of items within an item.
	Lists []ItemKind
}

// Item is one item of a list.
type Item struct {
	// Origin is where the item begins: "hub.yaml:12".
	Origin string
	values layer
	lists  map[string][]Item
}

// Text returns the value of a key and its origin; ok is false if there is none or if it is a list.
func (i *Item) Text(key string) (text, origin string, ok bool) {
	g, ok := i.values[key]
	if !ok || g.List {
		return "", i.Where(key), false
	}
	return g.Texts[0], g.Origin, true
}

// Texts returns the list under a key; ok is false if the value is not a list. A missing key is an empty list.
func (i *Item) Texts(key string) (texts []string, ok bool) {
	g, given := i.values[key]
	return g.Texts, !given || g.List
}

// Has reports whether a key has a value.
func (i *Item) Has(key string) bool { _, ok := i.values[key]; return ok }

// Where returns the origin of a key, or that of the item if the key is missing.
func (i *Item) Where(key string) string {
	if g, ok := i.values[key]; ok {
		return g.Origin
	}
	if items := i.lists[key]; len(items) > 0 {
		return items[0].Origin
	}
	return i.Origin
}

// Items returns the items of a list within the item.
func (i *Item) Items(name string) []Item { return i.lists[name] }

// ReadItems reads a YAML file whose keys are the names of kinds. The result has an entry, possibly empty, for every
// list in the file. It reports problems of syntax, unknown keys and values of the wrong shape, but does not validate
// values.
func ReadItems(name string, data []byte, kinds ...ItemKind) (map[string][]Item, []Problem) {
	w := newItemWalk(name, nil, kinds)
	w.document(data)
	return w.items, w.problems
}

func newItemWalk(name string, keys []string, lists []ItemKind) *yamlWalk {
	w := &yamlWalk{name: name, out: make(layer), lists: make(map[string]ItemKind), items: make(map[string][]Item)}
	all := slices.Clone(keys)
	for _, k := range lists {
		w.lists[k.Name] = k
		all = append(all, k.Name)
	}
	w.known = namesOf(all)
	return w
}

// itemsOf reads the list under a key.
func (w *yamlWalk) itemsOf(kind ItemKind, at *token.Token, node ast.Node) {
	if _, ok := w.items[kind.Name]; ok {
		w.fail(at, kind.Name, "given twice in this file")
		return
	}
	sequence, ok := node.(*ast.SequenceNode)
	if !ok {
		if _, empty := node.(*ast.NullNode); !empty {
			w.fail(at, kind.Name, "expected a list of items with the keys "+strings.Join(namesIn(kind), ", "))
		}
		return
	}
	items := []Item{}
	for _, n := range sequence.Values {
		in := newItemWalk(w.name, kind.Keys, kind.Lists)
		begin := n.GetToken()
		switch m := n.(type) {
		case *ast.MappingNode:
			if len(m.Values) > 0 {
				begin = m.Values[0].Key.GetToken()
			}
			in.section("", m)
		case *ast.MappingValueNode:
			begin = m.Key.GetToken()
			in.section("", m)
		default:
			w.fail(begin, kind.Name, "expected an item with the keys "+strings.Join(namesIn(kind), ", "))
			continue
		}
		for _, p := range in.problems {
			p.Key = strings.TrimSuffix(kind.Name+"."+p.Key, ".")
			w.problems = append(w.problems, p)
		}
		items = append(items, Item{Origin: w.origin(begin), values: in.out, lists: maps.Clone(in.items)})
	}
	w.items[kind.Name] = items
}

func namesIn(kind ItemKind) []string {
	out := slices.Clone(kind.Keys)
	for _, k := range kind.Lists {
		out = append(out, k.Name)
	}
	return out
}
