package convert

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// jsonReader reads one JSON document into a value, within the limits.
type jsonReader struct {
	*jsontext.Decoder
	limits               Limits
	forXML               bool // refuse what XML cannot express
	namespaces           bool
	names                names
	elements, attributes int
}

// readJSON reads a whole document. Errors of src come back wrapped.
func readJSON(src io.Reader, r *rules, forXML bool) (value, error) {
	bounded := &boundedReader{src: src, left: r.Limits.Bytes}
	j := &jsonReader{Decoder: jsontext.NewDecoder(bounded), limits: r.Limits, forXML: forXML, namespaces: r.Namespaces}
	v, err := j.read(1, false)
	if err == nil {
		if _, err = j.ReadToken(); err == nil {
			err = &Error{Reason: Malformed, Detail: "a second JSON value follows the first; expected one"}
		} else if errors.Is(err, io.EOF) {
			err = nil
		}
	}
	return v, j.explain(err, bounded)
}

// read reads the next value. depth is that of the element which the value becomes in XML; inObject, whether an array's items
// take the place of that element instead of lying inside it.
func (j *jsonReader) read(depth int, inObject bool) (value, error) {
	if depth > j.limits.Depth {
		return value{}, j.limit("nested deeper than %d elements", j.limits.Depth)
	}
	if j.elements++; j.elements > j.limits.Elements {
		return value{}, j.limit("more than %d values", j.limits.Elements)
	}
	t, err := j.ReadToken()
	if err != nil {
		return value{}, err
	}
	switch t.Kind() {
	case '{':
		return j.readObject(depth)
	case '[':
		v := value{kind: isArray}
		switch {
		case inObject && j.PeekKind() != ']':
			j.elements-- // its items count instead
		case !inObject:
			depth++
		}
		for j.PeekKind() != ']' {
			item, err := j.read(depth, false)
			if err != nil {
				return value{}, err
			}
			v.parts = append(v.parts, member{value: item})
		}
		_, err = j.ReadToken()
		return v, err
	case '"':
		v := value{kind: isText, text: t.String()}
		return v, j.checkText(v.text)
	case '0':
		return value{kind: isNumber, text: t.String()}, nil
	case 't', 'f':
		return value{kind: isBoolean, text: t.String()}, nil
	default: // null
		return value{}, nil
	}
}

func (j *jsonReader) readObject(depth int) (value, error) {
	v := value{kind: isObject}
	for j.PeekKind() != '}' {
		t, err := j.ReadToken()
		if err != nil {
			return value{}, err
		}
		name := t.String()
		if err := j.checkName(name); err != nil {
			return value{}, err
		}
		inner := depth + 1
		text := j.forXML && (name == textKey || strings.HasPrefix(name, "@"))
		if text {
			inner = depth // no element of its own
			j.elements--
		}
		part, err := j.read(inner, true)
		if err != nil {
			return value{}, err
		}
		if text && !part.isScalar() {
			return value{}, j.refuse("becomes text in XML; expected a string, a number or a boolean")
		}
		v.parts = append(v.parts, member{name, part})
	}
	_, err := j.ReadToken()
	return v, err
}

// checkName refuses keys that are no names in XML.
func (j *jsonReader) checkName(key string) error {
	if !j.forXML || key == textKey {
		return nil
	}
	name, attribute := strings.CutPrefix(key, "@")
	if attribute {
		if j.attributes++; j.attributes > j.limits.Attributes {
			return j.limit("more than %d attributes", j.limits.Attributes)
		}
	}
	if attribute && name == "xmlns" && !j.namespaces {
		return j.refuse("is a namespace, and namespaces are not kept here")
	}
	if !j.names.valid(name) {
		return j.refuse("the key is no name in XML: expected a letter or _, then letters, digits, _, - and .")
	}
	return nil
}

// checkText refuses characters that XML cannot hold, not even escaped (XML 1.0 section 2.2).
func (j *jsonReader) checkText(text string) error {
	if !j.forXML {
		return nil
	}
	for _, c := range text {
		if c < ' ' && c != '\t' && c != '\n' && c != '\r' || c == '\uFFFE' || c == '\uFFFF' {
			return j.refuse("holds the character U+%04X, which XML cannot", c)
		}
	}
	return nil
}

func (j *jsonReader) limit(format string, args ...any) error {
	return &Error{Reason: Limit, Pointer: string(j.StackPointer()), Detail: fmt.Sprintf(format, args...)}
}

func (j *jsonReader) refuse(format string, args ...any) error {
	return &Error{Reason: Refused, Pointer: string(j.StackPointer()), Detail: fmt.Sprintf(format, args...)}
}

// explain turns an error of the decoder into one of ours; those of the source stay what they are.
func (j *jsonReader) explain(err error, src *boundedReader) error {
	var ours *Error
	var syntax *jsontext.SyntacticError
	switch {
	case err == nil:
		return nil
	case src.err != nil:
		return src.err
	case errors.As(err, &ours):
		return ours
	case errors.As(err, &syntax):
		detail := syntax.Err.Error()
		switch {
		case errors.Is(err, jsontext.ErrDuplicateName):
			detail = "the key is there twice"
		case errors.Is(err, io.ErrUnexpectedEOF):
			detail = "the document ends too early"
		}
		return &Error{Reason: Malformed, Pointer: string(syntax.JSONPointer), Detail: fmt.Sprintf("%s (byte %d)", detail, syntax.ByteOffset)}
	case errors.Is(err, io.EOF):
		return &Error{Reason: Malformed, Detail: "the document is empty; expected JSON"}
	}
	return &Error{Reason: Malformed, Detail: err.Error()}
}

// boundedReader ends with a TooLarge error when more than left bytes come. It remembers the first error of src.
type boundedReader struct {
	src  io.Reader
	left int64
	err  error // other than io.EOF
}

func (b *boundedReader) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.src.Read(p)
	if b.left -= int64(n); b.left < 0 {
		b.err = &Error{Reason: TooLarge, Detail: "the document has too many bytes"}
		return 0, b.err
	}
	if err != nil && !errors.Is(err, io.EOF) {
		b.err = fmt.Errorf("reading the document: %w", err)
		err = b.err
	}
	return n, err
}

// writeJSON appends v to out.
func (o *output) writeJSON(v *value) error {
	var err error
	switch v.kind {
	case isNull:
		return o.add("null")
	case isNumber, isBoolean:
		return o.add(v.text)
	case isText:
		return o.quote(v.text)
	case isArray, isObject:
		open, end := "[", "]"
		if v.kind == isObject {
			open, end = "{", "}"
		}
		if err := o.add(open); err != nil {
			return err
		}
		for i := range v.parts {
			part := &v.parts[i]
			if i > 0 {
				o.buf = append(o.buf, ',')
			}
			if v.kind == isObject {
				if err := o.quote(part.name); err != nil {
					return err
				}
				o.buf = append(o.buf, ':')
			}
			if err := o.writeJSON(&part.value); err != nil {
				return err
			}
		}
		err = o.add(end)
	}
	return err
}

func (o *output) quote(s string) error {
	var err error
	if o.buf, err = jsontext.AppendQuote(o.buf, s); err != nil {
		return &Error{Reason: Malformed, Detail: "holds bytes that are no UTF-8"}
	}
	return o.add("")
}

// output collects what a document becomes, up to a limit; nothing of a document is sent before all of it is accepted.
type output struct {
	buf   []byte
	limit int64
}

func (o *output) add(s string) error {
	o.buf = append(o.buf, s...)
	if int64(len(o.buf)) > o.limit {
		return &Error{Reason: Limit, Detail: fmt.Sprintf("the document would become larger than %d bytes", o.limit)}
	}
	return nil
}
