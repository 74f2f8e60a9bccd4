package registry

import (
	"regexp"
	"strings"
)

// A shape says what may stand at one place of a registry, whatever the notation. The check of a text, the reading of the XML form and
// the JSON Schema are all derived from it.
type shape struct {
	kind kind
	// form is that of a scalar, or of the names of a mapping of names.
	form *form
	// item is the shape of a list's items and of the values under names, itemName its word in XML.
	item     *shape
	itemName string
	members  []member
	nonEmpty bool // of lists
	most     int  // entries of a list
	// references says that ${NAME} in the value stands for a secret, literal that it stands for itself. Elsewhere it is a mistake.
	references, literal bool
	// secret says that the value must not be written in the text itself.
	secret bool
}

type kind int

const (
	scalarKind kind = iota
	listKind
	objectKind // the keys are known
	namesKind  // the keys are names that the author chooses
	anyKind
)

// member is one key of an object.
type member struct {
	name, doc string
	shape     *shape
	required  bool
}

// form is what a scalar must look like.
type form struct {
	expected string // completes "expected …"
	// number says that a number without quotes is text, too; natural that it then must not be negative, whole that it has no fraction.
	number, natural, whole bool
	onlyNumber, onlyTruth  bool
	enum                   []string
	pattern                *regexp.Regexp // of the whole text; nil: any that is not empty
	maxBytes               int
	min, max               int64 // with onlyNumber
	// convert finds what no pattern can: values out of range.
	convert func(string) error
}

func (s *shape) member(name string) *member {
	for i := range s.members {
		if s.members[i].name == name {
			return &s.members[i]
		}
	}
	return nil
}

// memberNames returns the known keys of an object.
func (s *shape) memberNames() []string {
	names := make([]string, len(s.members))
	for i, m := range s.members {
		names[i] = m.name
	}
	return names
}

func object(members ...member) *shape { return &shape{kind: objectKind, members: members} }

func list(item *shape, itemName string) *shape {
	return &shape{kind: listKind, item: item, itemName: itemName, most: maxItems}
}

// some is a list that must not be empty.
func some(item *shape, itemName string) *shape {
	return &shape{kind: listKind, item: item, itemName: itemName, most: maxItems, nonEmpty: true}
}

// atMost bounds the entries of a list.
func (s *shape) atMost(n int) *shape {
	s.most = n
	return s
}

func names(form *form, item *shape, itemName string) *shape {
	return &shape{kind: namesKind, form: form, item: item, itemName: itemName}
}

func scalar(f *form) *shape { return &shape{kind: scalarKind, form: f} }

// referring is a scalar in which ${NAME} stands for a secret.
func referring(f *form) *shape { return &shape{kind: scalarKind, form: f, references: true} }

// literal is a scalar in which ${ has no meaning.
func literal(f *form) *shape { return &shape{kind: scalarKind, form: f, literal: true} }

// secret is a scalar that must be a reference.
func secret(f *form) *shape { return &shape{kind: scalarKind, form: f, references: true, secret: true} }

func key(name string, s *shape, doc string) member { return member{name: name, doc: doc, shape: s} }

func required(name string, s *shape, doc string) member {
	return member{name: name, doc: doc, shape: s, required: true}
}

func matching(pattern, expected string, maxBytes int) *form {
	return &form{pattern: regexp.MustCompile(`^(?:` + pattern + `)$`), expected: expected, maxBytes: maxBytes}
}

// orNumber lets numbers without quotes be text: 2 as the name of a version.
func (f *form) orNumber() *form {
	f.number, f.natural = true, true
	return f
}

func oneOf(values ...string) *form {
	expected := values[0]
	if n := len(values); n > 1 {
		expected = strings.Join(values[:n-1], ", ") + " or " + values[n-1]
	}
	return &form{enum: values, expected: expected}
}
