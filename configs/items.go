package configs

import (
	"maps"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// ItemKind describes a list of items in a YAML file that is no configuration of a node.
type ItemKind struct {
	// Name is the key that the list stands under.
	Name string
	// Keys are those of one item; dots nest, as in the configuration.
	Keys []string
	// Lists are lists of items in an item.
	Lists []ItemKind
}

// Item is one item of a list.
type Item struct {
	// Origin says where it begins: "hub.yaml:12".
	Origin string
	values layer
	lists  map[string][]Item
}

// Text is the value under a key, with its origin; !ok when there is none or when it is a list.
func (i *Item) Text(key string) (text, origin string, ok bool) {
	g, ok := i.values[key]
	if !ok || g.List {
		return "", i.Where(key), false
	}
	return g.Texts[0], g.Origin, true
}

// Texts is the list under a key; !ok when what stands there is no list. Nothing at all is an empty list.
func (i *Item) Texts(key string) (texts []string, ok bool) {
	g, given := i.values[key]
	return g.Texts, !given || g.List
}

// Has tells whether a value or a list stands under a key.
func (i *Item) Has(key string) bool { _, ok := i.values[key]; return ok }

// Where is the origin of a key, or of the item when it does not have that key.
func (i *Item) Where(key string) string {
	if g, ok := i.values[key]; ok {
		return g.Origin
	}
	if items := i.lists[key]; len(items) > 0 {
		return items[0].Origin
	}
	return i.Origin
}

// Items are those of a list in the item.
func (i *Item) Items(name string) []Item { return i.lists[name] }

// ReadItems reads a YAML file whose keys are the names of kinds. The answer has an entry, maybe an empty one, for every list that
// the file has. Problems are those of the syntax, unknown keys and values of the wrong shape; values are not looked at.
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
			w.fail(at, kind.Name, "expected a list whose items have the keys "+strings.Join(namesIn(kind), ", "))
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
