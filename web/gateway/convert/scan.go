package convert

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

const lateDeclaration = "an XML declaration that is not at the beginning"

// scanner reads XML as what a tree is made of, and refuses everything that is not well-formed or over the limits. Names keep
// their prefixes.
type scanner struct {
	limits   Limits
	src      *boundedReader
	gate     *gate
	decoder  *xml.Decoder
	encoding string // from which the document was converted; "" is UTF-8

	names                       names
	open                        []xml.Name // the elements around
	seen                        bool       // the root element
	first                       bool       // nothing has been read yet
	elements, attributes, other int
}

func newScanner(src io.Reader, limits Limits) (*scanner, error) {
	s := &scanner{limits: limits, src: &boundedReader{src: src, left: limits.Bytes}, first: true}
	r, from, err := toUTF8(s.src)
	if err != nil {
		return nil, s.explain(err)
	}
	s.encoding, s.gate = from, &gate{r: r}
	s.decoder = xml.NewDecoder(s.gate)
	s.decoder.CharsetReader = func(label string, input io.Reader) (io.Reader, error) {
		// toUTF8 has seen to it; what it did not see in the first bytes is none that it can still convert.
		if !s.first {
			return nil, s.fail(Malformed, lateDeclaration)
		}
		if !strings.EqualFold(label, s.encoding) {
			if enc, known := encodings[strings.ToLower(label)]; !known || enc != nil {
				return nil, unknownEncoding(label)
			}
		}
		return input, nil
	}
	return s, nil
}

// next returns a start element, an end element or text inside the root element, or io.EOF after the document's end. It is
// valid until the next call.
func (s *scanner) next() (xml.Token, error) {
	for {
		// Marks and namespace declarations are not counted, but a tag cannot have many of them.
		s.gate.begin(s.limits.Attributes - s.attributes + 16)
		t, err := s.decoder.RawToken()
		if err != nil {
			return nil, s.explain(s.atEnd(err))
		}
		first := s.first
		s.first = false
		switch t := t.(type) {
		case xml.StartElement:
			return t, s.start(t)
		case xml.EndElement:
			return t, s.end(t)
		case xml.CharData:
			if len(s.open) > 0 {
				return t, s.checkText(t)
			}
			if len(bytes.Trim(t, " \t\r\n")) > 0 {
				return nil, s.fail(Malformed, "text outside the root element")
			}
		case xml.ProcInst:
			if strings.EqualFold(t.Target, "xml") && !first {
				return nil, s.fail(Malformed, lateDeclaration)
			}
		case xml.Directive:
			return nil, s.fail(Refused, "%s", errDTD)
		}
		if err := s.countOther(); err != nil {
			return nil, err
		}
	}
}

func (s *scanner) start(t xml.StartElement) error {
	switch {
	case s.seen && len(s.open) == 0:
		return s.fail(Malformed, "a second root element, %s", shorten(t.Name.Local))
	case len(s.open) == s.limits.Depth:
		return s.fail(Limit, "nested deeper than %d elements", s.limits.Depth)
	case s.elements == s.limits.Elements:
		return s.fail(Limit, "more than %d elements", s.limits.Elements)
	}
	if err := s.checkName(t.Name); err != nil {
		return err
	}
	s.elements++
	s.seen = true
	s.open = append(s.open, t.Name)
	return s.checkAttributes(t.Attr)
}

// checkName refuses what encoding/xml lets pass: a colon that separates no prefix, and a name after the prefix that is none.
func (s *scanner) checkName(n xml.Name) error {
	if strings.Contains(n.Local, ":") || n.Space != "" && !s.names.valid(n.Local) {
		return s.fail(Malformed, "%s is no name", shorten(qualified(n)))
	}
	return nil
}

func (s *scanner) checkAttributes(attrs []xml.Attr) error {
	for i, a := range attrs {
		if err := s.checkName(a.Name); err != nil {
			return err
		}
		if len(attrs) <= 16 && slices.ContainsFunc(attrs[:i], func(b xml.Attr) bool { return a.Name == b.Name }) {
			return s.fail(Malformed, "the attribute %s is there twice", shorten(a.Name.Local))
		}
		if s.encoding != "" && strings.ContainsRune(a.Value, '\uFFFD') {
			return s.fail(Malformed, "holds bytes that are no %s", s.encoding)
		}
	}
	if len(attrs) > 16 {
		seen := make(map[xml.Name]bool, len(attrs))
		for _, a := range attrs {
			if seen[a.Name] {
				return s.fail(Malformed, "the attribute %s is there twice", shorten(a.Name.Local))
			}
			seen[a.Name] = true
		}
	}
	return nil
}

// countAttribute counts an attribute that is data.
func (s *scanner) countAttribute() error {
	if s.attributes++; s.attributes > s.limits.Attributes {
		return s.fail(Limit, "more than %d attributes", s.limits.Attributes)
	}
	return nil
}

func (s *scanner) end(t xml.EndElement) error {
	if len(s.open) == 0 {
		return s.fail(Malformed, "the end of %s, which is not open", shorten(t.Name.Local))
	}
	last := s.open[len(s.open)-1]
	if t.Name != last {
		return s.fail(Malformed, "the end of %s; expected that of %s", shorten(t.Name.Local), shorten(last.Local))
	}
	s.open = s.open[:len(s.open)-1]
	return nil
}

func (s *scanner) checkText(text []byte) error {
	if s.encoding != "" && bytes.ContainsRune(text, '\uFFFD') {
		return s.fail(Malformed, "holds bytes that are no %s", s.encoding)
	}
	return s.countOther()
}

// countOther counts what is no element: each piece of it costs time.
func (s *scanner) countOther() error {
	if s.other++; s.other > 4*s.limits.Elements+s.limits.Attributes {
		return s.fail(Limit, "more than %d pieces of text, comments and processing instructions", 4*s.limits.Elements+s.limits.Attributes)
	}
	return nil
}

// atEnd says what is wrong when the document ends here.
func (s *scanner) atEnd(err error) error {
	switch {
	case !errors.Is(err, io.EOF) || s.src.err != nil:
		return err
	case len(s.open) > 0:
		return s.fail(Malformed, "the document ends inside %s", shorten(s.open[len(s.open)-1].Local))
	case !s.seen:
		return s.fail(Malformed, "the document has no element; expected XML")
	}
	return err
}

func (s *scanner) fail(reason Reason, format string, args ...any) *Error {
	e := &Error{Reason: reason, Line: 1, Column: 1, Detail: fmt.Sprintf(format, args...)}
	if s.decoder != nil {
		e.Line, e.Column = s.decoder.InputPos()
	}
	return e
}

// explain turns an error of the decoder into one of ours; those of the source and io.EOF stay what they are.
func (s *scanner) explain(err error) error {
	var ours *Error
	var syntax *xml.SyntaxError
	switch {
	case s.src.err != nil:
		return s.src.err
	case errors.As(err, &ours):
		return ours
	case errors.Is(err, io.EOF):
		return io.EOF
	case errors.Is(err, errDTD):
		return s.fail(Refused, "%s", err)
	case errors.Is(err, errManyAttributes):
		return s.fail(Limit, "more than %d attributes", s.limits.Attributes)
	case errors.As(err, &syntax):
		return s.fail(Malformed, "%s", shorten(syntax.Msg))
	}
	return s.fail(Malformed, "%s", shorten(err.Error()))
}
