package convert

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
)

// frame is an element that is being read.
type frame struct {
	attributes []member
	children   []member
	text       []byte
	marks
	item bool // marked as an item of an array

	spaces    map[string]string // by prefix: the namespaces declared here; nil: none
	space     string            // the element's own namespace
	declared  bool              // the default namespace is declared here
	childItem []bool            // by child: marked as an item; shorter when the rest is not
}

// marks are what attributes in markSpace, and xsi:nil, say about an element's value.
type marks struct {
	kind  string   // string, object, text or array; "": not said
	null  bool     // xsi:nil
	empty []string // names of members that are empty arrays
}

// treeReader reads XML into a value.
type treeReader struct {
	*scanner
	rules  *rules
	frames []frame
}

// readXML reads a whole document into the value of its root element.
func readXML(src io.Reader, r *rules) (value, error) {
	s, err := newScanner(src, r.Limits)
	if err != nil {
		return value{}, err
	}
	t := &treeReader{scanner: s, rules: r}
	var root value
	var name string
	for {
		token, err := t.next()
		if errors.Is(err, io.EOF) && t.src.err == nil {
			break
		}
		if err != nil {
			return value{}, err
		}
		switch token := token.(type) {
		case xml.StartElement:
			if err := t.start(token); err != nil {
				return value{}, err
			}
		case xml.CharData:
			f := &t.frames[len(t.frames)-1]
			f.text = append(f.text, token...)
		case xml.EndElement:
			v, err := t.finish()
			if err != nil {
				return value{}, err
			}
			name = token.Name.Local
			if item := t.pop(); len(t.frames) == 0 {
				root = v
			} else {
				t.frames[len(t.frames)-1].add(name, v, item)
			}
		}
	}
	r.shape(&root, r.start(name))
	return root, nil
}

func (t *treeReader) start(token xml.StartElement) error {
	if len(t.frames) < cap(t.frames) { // keep the buffer of an earlier one
		t.frames = t.frames[:len(t.frames)+1]
		f := &t.frames[len(t.frames)-1]
		*f = frame{text: f.text[:0]}
	} else {
		t.frames = append(t.frames, frame{})
	}
	f := &t.frames[len(t.frames)-1]
	for _, a := range token.Attr {
		switch {
		case a.Name.Space == "xmlns":
			f.declare(a.Name.Local, a.Value)
		case a.Name == xml.Name{Local: "xmlns"}:
			f.declare("", a.Value)
			f.declared = true
		}
	}
	if err := t.namespace(f, token.Name); err != nil {
		return err
	}
	for _, a := range token.Attr {
		if a.Name.Space == "xmlns" || a.Name == (xml.Name{Local: "xmlns"}) {
			continue
		}
		if err := t.attribute(f, a); err != nil {
			return err
		}
	}
	return nil
}

// declare notes a namespace declaration.
func (f *frame) declare(prefix, space string) {
	if f.spaces == nil {
		f.spaces = map[string]string{}
	}
	f.spaces[prefix] = space
}

// resolve returns the namespace of a prefix, "" for none.
func (t *treeReader) resolve(prefix string) (space string, declared bool) {
	if prefix == "xml" {
		return "http://www.w3.org/XML/1998/namespace", true
	}
	for i := len(t.frames) - 1; i >= 0; i-- {
		if space, ok := t.frames[i].spaces[prefix]; ok {
			return space, true
		}
	}
	return "", false
}

// namespace keeps an element's namespace where the options ask for it: where it is declared as the default, and where it is not
// that of the element around it.
func (t *treeReader) namespace(f *frame, name xml.Name) error {
	if !t.rules.Namespaces {
		return nil
	}
	space, declared := t.resolve(name.Space)
	if !declared && name.Space != "" {
		return t.fail(Malformed, "the prefix %s is not declared", shorten(name.Space))
	}
	f.space = space
	around := ""
	if len(t.frames) > 1 {
		around = t.frames[len(t.frames)-2].space
	}
	if f.declared || space != around {
		f.attributes = append(f.attributes, member{"@xmlns", value{kind: isText, text: space}})
		return t.countAttribute()
	}
	return nil
}

func (t *treeReader) attribute(f *frame, a xml.Attr) error {
	if a.Name.Space != "" {
		space, _ := t.resolve(a.Name.Space) // an undeclared prefix is dropped like others
		if space == markSpace {
			return t.mark(f, a)
		}
		if space == schemaSpace && a.Name.Local == "nil" {
			f.null = a.Value == "true" || a.Value == "1"
			return nil
		}
	}
	key := "@" + a.Name.Local
	if find(f.attributes, key) >= 0 {
		return t.fail(Refused, "two attributes are named %s once their prefixes are dropped", shorten(a.Name.Local))
	}
	f.attributes = append(f.attributes, member{key, value{kind: isText, text: a.Value}})
	return t.countAttribute()
}

// mark reads an attribute in markSpace.
func (t *treeReader) mark(f *frame, a xml.Attr) error {
	switch a.Name.Local {
	case "type":
		switch a.Value {
		case "string", "object", "text", "array":
			f.kind = a.Value
			return nil
		}
	case "item":
		f.item = a.Value == "true"
		return nil
	case "empty":
		f.empty = strings.Fields(a.Value)
		for _, name := range f.empty {
			if !t.names.valid(name) {
				return t.fail(Malformed, "the attribute empty names %s, which is no name of an element", shorten(name))
			}
			if t.elements++; t.elements > t.limits.Elements {
				return t.fail(Limit, "more than %d elements", t.limits.Elements)
			}
		}
		return nil
	}
	return t.fail(Malformed, "the attribute %s=%q of %s is not known", shorten(a.Name.Local), shorten(a.Value), markSpace)
}

// pop removes the innermost frame and reports whether its element is marked as an item.
func (t *treeReader) pop() bool {
	last := len(t.frames) - 1
	item := t.frames[last].item
	t.frames = t.frames[:last]
	return item
}

// add adds a child that has been read.
func (f *frame) add(name string, v value, item bool) {
	f.children = append(f.children, member{name, v})
	if item {
		for len(f.childItem) < len(f.children) {
			f.childItem = append(f.childItem, false)
		}
		f.childItem[len(f.children)-1] = true
	}
}

// finish returns the value of the innermost element.
func (t *treeReader) finish() (value, error) {
	f := &t.frames[len(t.frames)-1]
	if f.kind == "array" {
		if len(f.attributes) > 0 || len(f.empty) > 0 || trimSpace(string(f.text)) != "" {
			return value{}, t.fail(Malformed, "an element that is marked as an array has attributes or text")
		}
		for i := range f.children {
			f.children[i].name = ""
		}
		return value{kind: isArray, parts: f.children}, nil
	}
	if len(f.attributes)+len(f.children)+len(f.empty) == 0 && f.kind != "object" && f.kind != "text" {
		switch {
		case len(f.text) > 0:
			return value{kind: isText, text: string(f.text)}, nil
		case f.null:
			return value{kind: isNull}, nil
		case f.kind == "string":
			return value{kind: isText}, nil
		}
		return value{kind: isNull, plain: true}, nil
	}
	return t.object(f)
}

func (t *treeReader) object(f *frame) (value, error) {
	v := value{kind: isObject, parts: f.attributes}
	index := groups{}
	for i, c := range f.children {
		at, again := index.find(&v, c.name, len(f.attributes))
		item := i < len(f.childItem) && f.childItem[i]
		switch {
		case again && index.grouped[at-len(f.attributes)]:
			v.parts[at].parts = append(v.parts[at].parts, member{value: c.value})
		case again:
			first := v.parts[at].value
			v.parts[at].value = value{kind: isArray, parts: []member{{value: first}, {value: c.value}}}
			index.grouped[at-len(f.attributes)] = true
		default:
			if item {
				c.value = value{kind: isArray, parts: []member{{value: c.value}}}
			}
			v.parts = append(v.parts, c)
			index.grouped = append(index.grouped, item)
		}
	}
	for _, name := range f.empty {
		if _, again := index.find(&v, name, len(f.attributes)); again {
			return value{}, t.fail(Malformed, "%s is marked as an empty array, but is there", shorten(name))
		}
		v.parts = append(v.parts, member{name, value{kind: isArray}})
		index.grouped = append(index.grouped, true)
	}
	text := string(f.text)
	if f.kind != "text" && len(f.children) > 0 {
		text = trimSpace(text)
	}
	if f.kind == "text" || text != "" {
		v.parts = append(v.parts, member{textKey, value{kind: isText, text: text}})
	}
	return v, nil
}

// groups finds the members of an object by name while children are added to it.
type groups struct {
	grouped []bool         // by member: it is an array of several children, or of one that is marked as an item
	byName  map[string]int // once there are many
}

// find returns the index of a member of that name among those from the given one on, and notes that a missing one is added
// next.
func (g *groups) find(v *value, name string, from int) (at int, found bool) {
	const few = 16
	if len(v.parts)-from < few {
		at = find(v.parts[from:], name)
		return at + from, at >= 0
	}
	if g.byName == nil {
		g.byName = map[string]int{}
		for i := from; i < len(v.parts); i++ {
			g.byName[v.parts[i].name] = i
		}
	}
	if at, found = g.byName[name]; !found {
		g.byName[name] = len(v.parts)
	}
	return at, found
}
