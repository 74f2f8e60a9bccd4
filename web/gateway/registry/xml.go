package registry

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// readXML reads the XML form. A key is an attribute or an element of its name. A list is repeated elements with the item's name, in an
// element of the list's name or without it; lists of scalars may also be separated by spaces. What is under a name of the author's is an
// element of that name, or one with the item's name and a name attribute. DTDs and processing instructions are refused.
func readXML(text []byte, s *shape, m *mistakes) *yaml.Node {
	r := &xmlReader{text: text, mistakes: m, line: 1, column: 1}
	root := r.read()
	if root == nil {
		return nil
	}
	if root.name != "registry" {
		m.add(root.at, nil, "the root element is <%s>, expected <registry>", clip(root.name))
		return nil
	}
	return r.node(root, s, &place{})
}

// element is an element of an XML text.
type element struct {
	name     string
	at       Position
	attrs    []attr
	children []*element
	text     strings.Builder
}

type attr struct {
	name, value string
	at          Position
}

type xmlReader struct {
	*mistakes
	text []byte
	// line and column are those of offset, the last one asked for.
	offset, line, column int
}

// position returns that of an offset, which must not be before the last one.
func (r *xmlReader) position(offset int) Position {
	for ; r.offset < offset; r.offset++ {
		switch c := r.text[r.offset]; {
		case c == '\n':
			r.line, r.column = r.line+1, 1
		case utf8.RuneStart(c):
			r.column++
		}
	}
	return Position{r.line, r.column}
}

// read returns the root element, or nil if the text is not well-formed.
func (r *xmlReader) read() *element {
	d := xml.NewDecoder(bytes.NewReader(r.text))
	var root *element
	var open []*element
	for {
		start := int(d.InputOffset())
		token, err := d.Token()
		if errors.Is(err, io.EOF) && root != nil {
			return root
		}
		if err != nil {
			r.add(r.position(int(d.InputOffset())), nil, "not valid XML: %s", xmlMessage(err))
			return nil
		}
		at := r.position(start)
		switch t := token.(type) {
		case xml.Directive:
			r.add(at, nil, "a DTD or declaration (<!…>), expected only elements")
			return nil
		case xml.ProcInst:
			if t.Target != "xml" || start != 0 {
				r.add(at, nil, "a processing instruction (<?%s …?>), expected only elements", clip(t.Target))
				return nil
			}
		case xml.StartElement:
			if len(open) >= maxDepth {
				r.add(at, nil, "nested more than %d deep", maxDepth)
				return nil
			}
			e := r.element(t, at, start, int(d.InputOffset()))
			switch {
			case len(open) > 0:
				parent := open[len(open)-1]
				parent.children = append(parent.children, e)
			case root != nil:
				r.add(at, nil, "a second root element <%s>, expected only one", clip(e.name))
				return nil
			default:
				root = e
			}
			open = append(open, e)
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			switch {
			case len(open) > 0:
				open[len(open)-1].text.Write(t)
			case len(bytes.TrimSpace(t)) > 0:
				r.add(at, nil, "text outside of the root element")
				return nil
			}
		}
	}
}

func xmlMessage(err error) string {
	message := err.Error()
	if errors.Is(err, io.EOF) {
		return "the text ends without a root element, expected <registry>"
	}
	if _, after, ok := strings.Cut(message, ": "); ok && strings.HasPrefix(message, "XML syntax error on line ") {
		message = after
	}
	return message
}

// element makes an element of a start tag, which stands between two offsets. Attributes given twice are left to walk.
func (r *xmlReader) element(t xml.StartElement, at Position, start, end int) *element {
	e := &element{name: t.Name.Local, at: at}
	if t.Name.Space != "" && bytes.HasPrefix(r.text[start:end], []byte("<"+t.Name.Space+":")) {
		e.name = t.Name.Space + ":" + t.Name.Local // an undeclared prefix
	}
	tag := start
	for _, a := range t.Attr {
		if a.Name.Space == "" && a.Name.Local == "xmlns" || a.Name.Space == "xmlns" || strings.HasSuffix(a.Name.Space, "XMLSchema-instance") {
			continue // declarations for editors
		}
		name := a.Name.Local
		position := at
		if i := attributeAt(r.text[tag:end], name); i >= 0 {
			tag += i
			position = r.position(tag)
		}
		if a.Name.Space != "" {
			name = a.Name.Space + ":" + name
		}
		e.attrs = append(e.attrs, attr{name: name, value: a.Value, at: position})
	}
	return e
}

// attributeAt returns where the next attribute of this name begins in the rest of a start tag, or -1.
func attributeAt(tag []byte, name string) int {
	quote := byte(0)
	for i, c := range tag {
		switch {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case bytes.HasPrefix(tag[i:], []byte(name)) && i > 0 && strings.IndexByte(" \t\r\n:", tag[i-1]) >= 0:
			if rest := bytes.TrimLeft(tag[i+len(name):], " \t\r\n"); len(rest) > 0 && rest[0] == '=' {
				return i
			}
		}
	}
	return -1
}

// The rest makes nodes of elements, as the shape says.

func textNode(text string, at Position) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text, Line: at.Line, Column: at.Column}
}

func (r *xmlReader) node(e *element, s *shape, where *place) *yaml.Node {
	switch s.kind {
	case listKind:
		return r.list(e, s, where)
	case objectKind:
		return r.object(e, s, where)
	case namesKind:
		return r.names(e, s, where)
	case anyKind:
		return r.anything(e)
	default:
		for _, c := range e.children {
			r.add(c.at, where, "has an element <%s>, expected only text: %s", clip(c.name), s.form.expected)
		}
		for _, a := range e.attrs {
			r.add(a.at, where, "has an attribute %s, expected only text: %s", clip(a.name), s.form.expected)
		}
		return textNode(strings.TrimSpace(e.text.String()), e.at)
	}
}

func (r *xmlReader) noText(e *element, where *place) {
	if text := strings.TrimSpace(e.text.String()); text != "" {
		r.add(e.at, where, "has the text %q, expected only elements and attributes", clip(text))
	}
}

func (r *xmlReader) list(e *element, s *shape, where *place) *yaml.Node {
	n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Line: e.at.Line, Column: e.at.Column}
	if s.item.kind == scalarKind && len(e.children) == 0 {
		for _, word := range strings.Fields(e.text.String()) {
			n.Content = append(n.Content, textNode(word, e.at))
		}
	} else {
		r.noText(e, where)
	}
	for _, a := range e.attrs {
		r.add(a.at, where, "has an attribute %s, expected only elements <%s>", clip(a.name), s.itemName)
	}
	for _, c := range e.children {
		if c.name != s.itemName {
			r.add(c.at, where, "has an element <%s>, expected <%s>", clip(c.name), s.itemName)
			continue
		}
		n.Content = append(n.Content, r.node(c, s.item, where.nth(len(n.Content))))
	}
	return n
}

func (r *xmlReader) names(e *element, s *shape, where *place) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: e.at.Line, Column: e.at.Column}
	r.noText(e, where)
	for _, a := range e.attrs {
		if s.item.kind == objectKind || s.item.kind == listKind && s.item.item.kind == objectKind {
			r.add(a.at, where, "has an attribute %s, expected elements <%s name=\"…\">", clip(a.name), s.itemName)
			continue
		}
		n.Content = append(n.Content, textNode(a.name, a.at), r.attribute(a, s.item))
	}
	for _, c := range e.children {
		name := textNode(c.name, c.at)
		if c.name == s.itemName {
			for i, a := range c.attrs {
				if a.name == "name" {
					name = textNode(a.value, a.at)
					c.attrs = append(c.attrs[:i:i], c.attrs[i+1:]...)
					break
				}
			}
		}
		n.Content = append(n.Content, name, r.node(c, s.item, where.at(name.Value)))
	}
	return n
}

// attribute returns an attribute's value as the shape says.
func (r *xmlReader) attribute(a attr, s *shape) *yaml.Node {
	if s.kind == listKind && s.item.kind == scalarKind {
		n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Line: a.at.Line, Column: a.at.Column}
		for _, word := range strings.Fields(a.value) {
			n.Content = append(n.Content, textNode(word, a.at))
		}
		return n
	}
	return textNode(a.value, a.at)
}

func (r *xmlReader) object(e *element, s *shape, where *place) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: e.at.Line, Column: e.at.Column}
	r.noText(e, where)
	for _, a := range e.attrs {
		value := textNode(a.value, a.at)
		if m := s.member(a.name); m != nil {
			value = r.attribute(a, m.shape)
		}
		n.Content = append(n.Content, textNode(a.name, a.at), value)
	}
	lists := map[string]*yaml.Node{} // those that elements make, with or without one around the items
	for _, c := range e.children {
		m := s.member(c.name)
		switch {
		case m != nil && m.shape.kind == listKind && lists[m.name] != nil:
			lists[m.name].Content = append(lists[m.name].Content, r.node(c, m.shape, where.at(m.name)).Content...)
		case m != nil:
			value := r.node(c, m.shape, where.at(c.name))
			if m.shape.kind == listKind {
				lists[m.name] = value
			}
			n.Content = append(n.Content, textNode(c.name, c.at), value)
		default:
			r.loose(n, c, s, lists, where)
		}
	}
	return n
}

// loose adds an element that is not a key: an item of a list without an element around it, or a mistake that walk names.
func (r *xmlReader) loose(n *yaml.Node, c *element, s *shape, lists map[string]*yaml.Node, where *place) {
	m := s.listOf(c.name)
	if m == nil {
		n.Content = append(n.Content, textNode(c.name, c.at), &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: c.at.Line, Column: c.at.Column})
		return
	}
	items := lists[m.name]
	if items == nil {
		items = &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Line: c.at.Line, Column: c.at.Column}
		lists[m.name] = items
		n.Content = append(n.Content, textNode(m.name, c.at), items)
	}
	items.Content = append(items.Content, r.node(c, m.shape.item, where.at(m.name).nth(len(items.Content))))
}

// listOf returns the list whose items have this name in XML, or nil.
func (s *shape) listOf(itemName string) *member {
	for i := range s.members {
		if m := &s.members[i]; m.shape.kind == listKind && m.shape.itemName == itemName {
			return m
		}
	}
	return nil
}

// anything reads an element without a shape: text, or a mapping of its attributes and children, in which repeated names make a list.
func (r *xmlReader) anything(e *element) *yaml.Node {
	if len(e.attrs) == 0 && len(e.children) == 0 {
		return textNode(strings.TrimSpace(e.text.String()), e.at)
	}
	n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: e.at.Line, Column: e.at.Column}
	for _, a := range e.attrs {
		n.Content = append(n.Content, textNode(a.name, a.at), textNode(a.value, a.at))
	}
	repeated := map[string]int{}
	for _, c := range e.children {
		value := r.anything(c)
		i, again := repeated[c.name]
		switch {
		case !again:
			n.Content = append(n.Content, textNode(c.name, c.at), value)
			repeated[c.name] = len(n.Content) - 1
		case n.Content[i].Kind == yaml.SequenceNode:
			n.Content[i].Content = append(n.Content[i].Content, value)
		default:
			first := n.Content[i]
			n.Content[i] = &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Line: first.Line, Column: first.Column, Content: []*yaml.Node{first, value}}
		}
	}
	return n
}
