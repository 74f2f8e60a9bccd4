package convert

import (
	"encoding/xml"
	"io"
	"strings"
)

// xmlWriter writes a value as XML. The value has been read with forXML, so every name and text of it can be written.
type xmlWriter struct {
	output
	rules    *rules
	afterTag int // where the attributes of the root's start tag begin
	marked   bool
	nilled   bool
}

// place of a value among others.
type setting struct {
	item    bool // the only item of an array: needs a mark unless the options name it
	strings bool // in an array of strings, where a plain empty element is ""
	root    bool
}

func (w *xmlWriter) document(v *value) error {
	if err := w.add(xml.Header); err != nil {
		return err
	}
	return w.element(w.rules.Root, v, w.rules.start(w.rules.Root), setting{root: true})
}

// writeTo sends the document, with the declarations of the namespaces that its marks turned out to need.
func (w *xmlWriter) writeTo(dst io.Writer) error {
	declarations := ""
	if w.marked {
		declarations += ` xmlns:j="` + markSpace + `"`
	}
	if w.nilled {
		declarations += ` xmlns:xsi="` + schemaSpace + `"`
	}
	for _, part := range [][]byte{w.buf[:w.afterTag], []byte(declarations), w.buf[w.afterTag:]} {
		if _, err := dst.Write(part); err != nil {
			return err
		}
	}
	return nil
}

func (w *xmlWriter) element(name string, v *value, at places, in setting) error {
	w.buf = append(append(w.buf, '<'), name...)
	if in.root {
		w.afterTag = len(w.buf)
	}
	if in.item && (v.kind == isArray || !at.element.isArray()) {
		w.mark("item", "true")
	}
	switch v.kind {
	case isNull:
		if in.strings || at.pointer.kind() == String {
			w.nilled = true
			w.buf = append(w.buf, ` xsi:nil="true"`...)
		}
		return w.add("/>")
	case isText, isNumber, isBoolean:
		if v.text == "" {
			if !in.strings {
				w.mark("type", "string")
			}
			return w.add("/>")
		}
		w.buf = append(w.buf, '>')
		w.escape(v.text)
	case isArray:
		w.mark("type", "array")
		if len(v.parts) == 0 {
			return w.add("/>")
		}
		w.buf = append(w.buf, '>')
		if err := w.items(itemName, v, at, false); err != nil {
			return err
		}
	case isObject:
		closed, err := w.object(v, at)
		if closed || err != nil {
			return err
		}
	}
	w.buf = append(append(w.buf, "</"...), name...)
	return w.add(">")
}

// items writes the items of an array, each as an element.
func (w *xmlWriter) items(name string, v *value, at places, alone bool) error {
	in := setting{item: alone && len(v.parts) == 1, strings: isStrings(v.parts)}
	for i := range v.parts {
		if err := w.element(name, &v.parts[i].value, at.item(i), in); err != nil {
			return err
		}
	}
	return nil
}

// object writes the rest of the start tag and what is inside. closed says that the element needs no end tag.
func (w *xmlWriter) object(v *value, at places) (closed bool, err error) {
	var text *value
	var empty []string
	attributes, children := 0, 0
	for i := range v.parts {
		m := &v.parts[i]
		switch {
		case m.name == textKey:
			text = &m.value
		case strings.HasPrefix(m.name, "@"):
			attributes++
			w.buf = append(append(append(w.buf, ' '), m.name[1:]...), `="`...)
			w.escape(m.text)
			w.buf = append(w.buf, '"')
		case m.kind == isArray && len(m.parts) == 0:
			empty = append(empty, m.name)
		default:
			children++
		}
	}
	switch {
	case len(v.parts) == 0:
		w.mark("type", "object")
	case text != nil && (text.text == "" || len(v.parts) == 1 || children > 0 && trimSpace(text.text) != text.text):
		w.mark("type", "text")
	}
	if len(empty) > 0 {
		w.mark("empty", strings.Join(empty, " "))
	}
	if children == 0 && (text == nil || text.text == "") {
		return true, w.add("/>")
	}
	w.buf = append(w.buf, '>')
	if text != nil {
		w.escape(text.text)
	}
	for i := range v.parts {
		m := &v.parts[i]
		if m.name == textKey || strings.HasPrefix(m.name, "@") {
			continue
		}
		in := at.member(m.name)
		if m.kind == isArray {
			err = w.items(m.name, &m.value, in, true)
		} else {
			err = w.element(m.name, &m.value, in, setting{})
		}
		if err != nil {
			return false, err
		}
	}
	return false, nil
}

// mark adds an attribute in markSpace.
func (w *xmlWriter) mark(name, value string) {
	w.marked = true
	w.buf = append(append(append(append(append(w.buf, " j:"...), name...), `="`...), value...), '"')
}

func (w *xmlWriter) escape(text string) { w.buf = appendEscaped(w.buf, text) }
