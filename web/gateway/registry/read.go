package registry

import (
	"cmp"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Environment is what a registry refers to beyond itself. Methods return nil if there is such a thing, and else what is expected.
type Environment interface {
	// Authenticator is asked for names in auth and in sequences, except default, none and those of sequences.
	Authenticator(name string) error
	// Step is asked for each step of a sequence whose names Authenticator knows: whether the hub could take callers through it.
	Step(s *Step) error
	// Operation is asked for hub: targets.
	Operation(name string) error
	// Topic is asked for topic: targets.
	Topic(name string) error
	// OwnAddress reports whether host:port is an address of the hub itself.
	OwnAddress(hostport string) bool
}

// Read parses and checks a registry. It returns every mistake, in the order of the text; the registry is nil if there is one. Without an
// Environment (nil) it does not judge the names that only a hub knows.
func Read(doc Document, env Environment) (*Registry, []Mistake) {
	return read(doc, env, func(name string) (string, bool) { v, ok := doc.Secrets[name]; return v, ok }, false)
}

// ReadDraft is Read for where neither hub nor secrets are at hand: references that lack a value are no mistakes, and what they are in
// stays as written. Its registry is not to be served.
func ReadDraft(doc Document) (*Registry, []Mistake) {
	return read(doc, nil, func(name string) (string, bool) { v, ok := doc.Secrets[name]; return v, ok }, true)
}

func read(doc Document, env Environment, known func(string) (string, bool), draft bool) (*Registry, []Mistake) {
	m := &mistakes{}
	s := grammar()
	t := treeOf(doc.Text, s, m)
	if t == nil {
		return nil, m.sorted()
	}
	w := &walk{mistakes: m, plain: t.plain, known: known, draft: draft}
	w.node(t.root, s, &place{})
	reg := (&decoder{known: known}).registry(t.root)
	reg.Files = doc.Files
	c := &checker{mistakes: m, root: t.root, reg: reg, env: env, draft: draft}
	c.registry()
	if found := m.sorted(); len(found) > 0 {
		return nil, found
	}
	return reg, nil
}

// References returns the names of the references in a text, sorted: NAME of ${NAME}, file:NAME of ${file:NAME}. Mistakes in the text
// are left to Read, unless they are in the notation itself.
func References(text []byte) ([]string, error) {
	found := map[string]bool{}
	err := inspect(text, func(n *yaml.Node, s *shape) {
		if s.references {
			_, _ = expand(n.Value, func(name string) string { found[name] = true; return "" })
		}
	})
	return slices.Sorted(maps.Keys(found)), err
}

// FilesNamed returns the names of the files that a text names, sorted. Those that JSON Schemas name in turn are not among them; see
// Collect.
func FilesNamed(text []byte) ([]string, error) {
	files, _, err := filesNamed(text)
	return files, err
}

// filesNamed also returns which of the files are JSON Schemas.
func filesNamed(text []byte) (files, schemas []string, _ error) {
	found := map[string]bool{}
	s := grammar()
	file := fileForms(s)
	err := inspectAs(text, s, func(n *yaml.Node, m *member) {
		switch {
		case m.name == "accounts":
			if !isTopic(n.Value) && !isURL(n.Value) {
				found[n.Value] = false
			}
		case m.shape.form == file && n.Value != "":
			found[n.Value] = found[n.Value] || m.name == "schema"
		}
	})
	for name, schema := range found {
		if schema {
			schemas = append(schemas, name)
		}
	}
	slices.Sort(schemas)
	return slices.Sorted(maps.Keys(found)), schemas, err
}

// fileForms returns the form that names of files have in a grammar.
func fileForms(s *shape) *form { return s.member("trust").shape.item.member("roots").shape.form }

func isTopic(s string) bool { return strings.HasPrefix(s, "topic:") }

func isURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https")
}

// inspect calls do with each scalar of a text and its shape.
func inspect(text []byte, do func(*yaml.Node, *shape)) error {
	return inspectAs(text, grammar(), func(n *yaml.Node, m *member) { do(n, m.shape) })
}

func inspectAs(text []byte, s *shape, do func(*yaml.Node, *member)) error {
	m := &mistakes{}
	t := treeOf(text, s, m)
	if t == nil {
		return m.sorted()[0]
	}
	scalars(t.root, &member{shape: s}, do)
	return nil
}

func scalars(n *yaml.Node, m *member, do func(*yaml.Node, *member)) {
	switch s := m.shape; {
	case s.kind == scalarKind && n.Kind == yaml.ScalarNode && !null(n):
		do(n, m)
	case s.kind == listKind && n.Kind == yaml.SequenceNode:
		for _, item := range n.Content {
			scalars(item, &member{name: m.name, shape: s.item}, do)
		}
	case s.kind == namesKind && n.Kind == yaml.MappingNode:
		for i := 1; i < len(n.Content); i += 2 {
			scalars(n.Content[i], &member{name: m.name, shape: s.item}, do)
		}
	case s.kind == objectKind && n.Kind == yaml.MappingNode:
		for i := 1; i < len(n.Content); i += 2 {
			if below := s.member(n.Content[i-1].Value); below != nil {
				scalars(n.Content[i], below, do)
			}
		}
	}
}

// Collect makes a Document of a text: it asks file for each file that the text and its JSON Schemas name, and secret for each reference,
// file:NAME for ${file:NAME}. What is not there is left out, for Read to name; so is everything if the text is broken.
func Collect(text []byte, file func(name string) ([]byte, bool), secret func(name string) (string, bool)) Document {
	doc := Document{Text: text, Files: map[string][]byte{}, Secrets: map[string]string{}}
	references, err := References(text)
	if err != nil {
		return doc
	}
	for _, name := range references {
		if value, ok := secret(name); ok {
			doc.Secrets[name] = value
		}
	}
	names, schemas, err := filesNamed(text)
	if err != nil {
		return doc
	}
	get := func(name string) []byte {
		if _, have := doc.Files[name]; !have && len(doc.Files) < MaxFiles && localName(name) {
			if content, ok := file(name); ok {
				doc.Files[name] = content
			}
		}
		return doc.Files[name]
	}
	for _, name := range names {
		get(name)
	}
	for seen := map[string]bool{}; len(schemas) > 0; {
		name := schemas[0]
		schemas = schemas[1:]
		if seen[name] {
			continue
		}
		seen[name] = true
		schemas = append(schemas, schemaFiles(name, get(name))...)
	}
	return doc
}

// localName reports whether a name is that of a file beside or below the registry.
func localName(name string) bool {
	return name != "" && !path.IsAbs(name) && path.Clean(name) == name && name != ".." && !strings.HasPrefix(name, "../") && !strings.Contains(name, "\\")
}

// fill fills in what the text leaves out.
func (d *Defaults) fill() {
	d.Timeout = cmp.Or(d.Timeout, defaultTimeout)
	d.MaxBody = cmp.Or(d.MaxBody, defaultMaxBody)
	d.Auth = cmp.Or(d.Auth, AuthDefault)
}
