package convert

import (
	"encoding/xml"
	"strings"
	"unicode/utf8"
)

const (
	textKey  = "#text"
	itemName = "item" // of the elements of an array that is itself an item, or the whole document

	// markSpace is the namespace of the attributes that say what plain XML cannot; see the package's documentation.
	markSpace = "urn:quorumhub:json"
	// schemaSpace is the namespace of xsi:nil (XML Schema Part 1, section 2.6).
	schemaSpace = "http://www.w3.org/2001/XMLSchema-instance"
)

// names knows which names XML accepts. It remembers those that are dear to find out.
type names struct{ known map[string]bool }

// valid reports whether name is an XML name without a colon (Namespaces in XML, NCName) which encoding/xml reads back.
func (n *names) valid(name string) bool {
	ascii := true
	for i := range len(name) {
		c := name[i]
		switch {
		case c >= utf8.RuneSelf:
			ascii = false
		case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '_':
		case i > 0 && ('0' <= c && c <= '9' || c == '-' || c == '.'):
		default:
			return false
		}
	}
	if ascii || name == "" {
		return name != ""
	}
	ok, known := n.known[name]
	if !known {
		// The tables of XML 1.0 are in encoding/xml only.
		t, err := xml.NewDecoder(strings.NewReader("<" + name + "/>")).RawToken()
		start, isStart := t.(xml.StartElement)
		ok = err == nil && isStart && start.Name == xml.Name{Local: name}
		if n.known == nil {
			n.known = map[string]bool{}
		}
		n.known[name] = ok
	}
	return ok
}
