package registry

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strconv"
	"unicode/utf8"

	goccy "github.com/goccy/go-yaml/parser"
	"go.yaml.in/yaml/v3"

	"quorumhub/configs/syntax"
)

// tree is a text as nodes.
type tree struct {
	root  *yaml.Node
	plain bool // all scalars are text; see walk
}

// treeOf reads a text in YAML, JSON or XML. It returns nil if the notation itself is broken.
func treeOf(text []byte, s *shape, m *mistakes) *tree {
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	switch {
	case len(text) > MaxText:
		m.add(Position{}, nil, "%d bytes, expected at most %d", len(text), MaxText)
		return nil
	case !utf8.Valid(text):
		line, column := positionIn(text, invalidAt(text))
		m.add(Position{line, column}, nil, "not UTF-8, expected text in UTF-8")
		return nil
	}
	if start := bytes.TrimLeft(text, " \t\r\n"); len(start) > 0 && start[0] == '<' {
		root := readXML(text, s, m)
		if root == nil {
			return nil
		}
		return &tree{root: root, plain: true}
	}
	root := readJSON(text)
	if root == nil {
		root = readYAML(text, m)
	}
	if root == nil {
		return nil
	}
	return &tree{root: root}
}

func invalidAt(text []byte) int {
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return len(text)
}

// positionIn returns the line and column (in characters) of an offset.
func positionIn(text []byte, offset int) (line, column int) {
	before := text[:min(offset, len(text))]
	line = bytes.Count(before, []byte{'\n'}) + 1
	return line, utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1
}

// readYAML reads the only document of a text. yaml/v3 is three times as fast as goccy's parser, which matters with 10,000 services, and
// bounds nesting; goccy's is asked for words when a text is broken.
func readYAML(text []byte, m *mistakes) *yaml.Node {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var doc, second yaml.Node
	err := decoder.Decode(&doc)
	if err == nil {
		switch more := decoder.Decode(&second); {
		case more == nil:
			m.add(positionOf(&second), nil, "a second document starts here, expected only one")
			return nil
		case !errors.Is(more, io.EOF):
			err = more
		}
	}
	switch {
	case errors.Is(err, io.EOF):
		m.add(Position{1, 1}, nil, "is empty, expected a registry that begins with version: 1")
		return nil
	case err != nil:
		m.broken(text, err)
		return nil
	case len(doc.Content) != 1:
		m.add(Position{1, 1}, nil, "is empty, expected a registry that begins with version: 1")
		return nil
	}
	return doc.Content[0]
}

// errorLine finds the line in an error of yaml/v3.
var errorLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)`)

func (m *mistakes) broken(text []byte, err error) {
	const readable = 1 << 20 // more than this is not parsed again for better words
	if len(text) <= readable && shallow(text) {
		if _, err := goccy.ParseBytes(text, 0); err != nil {
			f := syntax.Explain(text, err)
			m.add(Position{f.Line, f.Column}, nil, "not valid YAML: %s", f.Message)
			return
		}
	}
	at, message := Position{}, err.Error()
	if found := errorLine.FindStringSubmatch(message); found != nil {
		if line, err := strconv.Atoi(found[1]); err == nil {
			at = Position{line, 1}
		}
		message = found[2]
	}
	m.add(at, nil, "not valid YAML: %s", message)
}

// shallow reports whether nothing in a text can be nested deeply, since goccy's parser does not bound its depth.
func shallow(text []byte) bool {
	const most = 1000
	return bytes.Count(text, []byte("[")) < most && bytes.Count(text, []byte("{")) < most && bytes.Count(text, []byte("- -")) < most && bytes.Count(text, []byte("? ")) < most
}
