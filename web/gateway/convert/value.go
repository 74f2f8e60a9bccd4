package convert

import (
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

type kind byte

const (
	isNull kind = iota
	isText
	isNumber
	isBoolean
	isObject
	isArray
)

// value is a JSON value. Both directions go through it, because neither format can be written before the other has been read:
// one tag of XML decides whether all earlier ones of its name are items of an array, and one key of JSON whether the tag that
// encloses everything before it has an attribute.
type value struct {
	kind kind
	// plain marks the null of an element that has nothing at all, which is "" in an array of strings.
	plain bool
	text  string   // of text, numbers and booleans, as written
	parts []member // of objects, and of arrays, whose parts have no names
}

type member struct {
	name string
	value
}

// isScalar reports whether XML knows the value as text.
func (v *value) isScalar() bool { return v.kind == isText || v.kind == isNumber || v.kind == isBoolean }

// isStrings reports whether items, as elements of XML, are an array of strings: they are text or nothing, and there is text.
func isStrings(items []member) bool {
	text := false
	for i := range items {
		if items[i].kind != isNull && !items[i].isScalar() {
			return false
		}
		text = text || items[i].text != ""
	}
	return text
}

// find returns the index of the member of that name, or -1.
func find(members []member, name string) int {
	for i := range members {
		if members[i].name == name {
			return i
		}
	}
	return -1
}

// shape applies what the conventions and the options say about values that came from XML.
func (r *rules) shape(v *value, at places) {
	switch v.kind {
	case isObject:
		kept := v.parts[:0]
		for i := range v.parts {
			m := v.parts[i]
			in := at.member(m.name)
			if in.isStripped() {
				continue
			}
			if m.kind != isArray && in.element.isArray() {
				m.value = value{kind: isArray, parts: []member{{value: m.value}}}
			}
			r.shape(&m.value, in)
			kept = append(kept, m)
		}
		v.parts = kept
	case isArray:
		strings := isStrings(v.parts)
		kept := v.parts[:0]
		for i := range v.parts {
			item, in := v.parts[i], at.item(i)
			if in.pointer.isStripped() {
				continue
			}
			if strings && item.plain {
				item.value = value{kind: isText}
			}
			r.shape(&item.value, in)
			kept = append(kept, item)
		}
		v.parts = kept
	case isNull, isText:
		v.become(at.pointer.kind())
	case isNumber, isBoolean: // comes from no XML
	}
}

// become gives a value that XML knows as text the type that the schema says, if it is such a value.
func (v *value) become(kind Type) {
	switch text := trimSpace(v.text); kind {
	case String:
		if v.plain {
			*v = value{kind: isText}
		}
	case Number:
		if n := jsontext.Value(text); n.Kind() == '0' && n.IsValid() {
			*v = value{kind: isNumber, text: text}
		}
	case Boolean:
		switch text {
		case "true", "1":
			*v = value{kind: isBoolean, text: "true"}
		case "false", "0":
			*v = value{kind: isBoolean, text: "false"}
		}
	}
}

// strip leaves out what the options say from a value that came from JSON.
func strip(v *value, at places) {
	if at.none() || v.kind != isObject && v.kind != isArray {
		return
	}
	kept := v.parts[:0]
	for i := range v.parts {
		m, in := v.parts[i], at.item(i)
		if v.kind == isObject {
			in = at.member(m.name)
		}
		if v.kind == isObject && in.isStripped() || in.pointer.isStripped() {
			continue
		}
		strip(&m.value, in)
		kept = append(kept, m)
	}
	v.parts = kept
}

// trimSpace removes what XML calls white space from both ends.
func trimSpace(s string) string { return strings.Trim(s, " \t\r\n") }

func decimal(i int) string { return strconv.Itoa(i) }
