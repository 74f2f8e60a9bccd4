package convert

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Options are how the documents of one route are converted. The zero value converts by the conventions alone.
//
// An element path ("GetAddress/Line") begins at the root element or at one of its children, names one element a step
// regardless of namespace prefixes, and passes through arrays. A JSON pointer ("/Line/0", RFC 6901) begins at the root
// element's value. In both, * stands for any one step.
type Options struct {
	// Arrays are the paths of elements that are arrays in JSON even when there is only one of them.
	Arrays []string
	// Root is the name of the root element of XML that is made from JSON; empty: "document".
	Root string
	// Namespaces keeps the namespace of an element as "@xmlns" where it differs from that of the element around it.
	Namespaces bool
	// Strip are the element paths and the JSON pointers of what is left out, with everything inside.
	Strip []string
	// Types are the JSON types of what XML knows only as text, by JSON pointer, as a schema gives them. Text that is no such
	// value remains a string, so that validation can say what is wrong with it.
	Types  map[string]Type
	Limits Limits
}

// Type is a JSON type.
type Type int

// The types that text in XML can have.
const (
	String  Type = iota + 1 // an empty element is "" and not null
	Number                  // kept as written, however large
	Boolean                 // true, false, 1 or 0
)

// Limits bound what one document may cost. A zero field is its default.
type Limits struct {
	Depth      int   // of elements; 64
	Elements   int   // 100,000; comments, processing instructions and pieces of text together may be four times as many
	Attributes int   // 10,000
	Bytes      int64 // of the document; 1 MiB
	Output     int64 // of what it becomes, since names in JSON stand for two tags an item in XML; eight times Bytes
}

func (l Limits) orDefault() Limits {
	l.Depth = cmp.Or(l.Depth, 64)
	l.Elements = cmp.Or(l.Elements, 100_000)
	l.Attributes = cmp.Or(l.Attributes, 10_000)
	l.Bytes = cmp.Or(l.Bytes, 1<<20)
	l.Output = cmp.Or(l.Output, 8*l.Bytes)
	return l
}

// Check returns the first fault of the options as an *OptionsError.
func (o Options) Check() error {
	_, err := o.compile()
	return err
}

// rules are Options in the form in which documents are converted by them.
type rules struct {
	Options
	elements *step // Arrays and Strip by element path; nil: none
	pointers *step // Types and Strip by JSON pointer; nil: none
}

func (o Options) compile() (*rules, error) {
	o.Root, o.Limits = cmp.Or(o.Root, "document"), o.Limits.orDefault()
	if !new(names).valid(o.Root) {
		return nil, &OptionsError{"root", fmt.Sprintf("is %q; expected the name of an XML element, without a prefix", o.Root)}
	}
	r := &rules{Options: o}
	for i, path := range o.Arrays {
		s, err := r.elementPath(path)
		if err != nil {
			return nil, &OptionsError{fmt.Sprintf("arrays[%d]", i), err.Error()}
		}
		s.array = true
	}
	for i, path := range o.Strip {
		s, err := r.anyPath(path)
		if err != nil {
			return nil, &OptionsError{fmt.Sprintf("strip[%d]", i), err.Error()}
		}
		s.strip = true
	}
	for path, kind := range o.Types {
		s, err := r.pointer(path)
		if err != nil {
			return nil, &OptionsError{"types", err.Error()}
		}
		s.kind = kind
	}
	return r, nil
}

func (r *rules) anyPath(path string) (*step, error) {
	if strings.HasPrefix(path, "/") {
		return r.pointer(path)
	}
	return r.elementPath(path)
}

func (r *rules) elementPath(path string) (*step, error) {
	steps := strings.Split(path, "/")
	if slices.Contains(steps, "") {
		return nil, fmt.Errorf("is %q; expected names of elements such as GetAddress/Line", path)
	}
	if r.elements == nil {
		r.elements = &step{}
	}
	return r.elements.add(steps), nil
}

func (r *rules) pointer(path string) (*step, error) {
	rest, ok := strings.CutPrefix(path, "/")
	if !ok {
		return nil, fmt.Errorf("is %q; expected a JSON pointer such as /address/line", path)
	}
	steps := strings.Split(rest, "/")
	for i, s := range steps {
		steps[i] = unescapeStep.Replace(s)
	}
	if r.pointers == nil {
		r.pointers = &step{}
	}
	return r.pointers.add(steps), nil
}

// unescapeStep undoes the escapes of one step of a JSON pointer.
var unescapeStep = strings.NewReplacer("~1", "/", "~0", "~")
