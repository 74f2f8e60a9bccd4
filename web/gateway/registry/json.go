package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// maxJSONDepth is deeper than any registry.
const maxJSONDepth = 1000

// readJSON reads a text that is JSON, or returns nil. The YAML parser knows most of JSON, but not the escapes \/ and \ud83d\ude00.
func readJSON(text []byte) *yaml.Node {
	if start := bytes.TrimLeft(text, " \t\r\n"); len(start) == 0 || start[0] != '{' {
		return nil
	}
	r := &jsonReader{text: text, decoder: json.NewDecoder(bytes.NewReader(text)), line: 1, column: 1}
	r.decoder.UseNumber()
	root, err := r.value(0)
	if err != nil {
		return nil // the YAML parser says why
	}
	if _, err := r.decoder.Token(); !errors.Is(err, io.EOF) {
		return nil
	}
	return root
}

type jsonReader struct {
	text    []byte
	decoder *json.Decoder
	// line and column are those of offset, the last one asked for.
	offset, line, column int
}

// token returns the next token as a node without content, or a delimiter.
func (r *jsonReader) token() (n *yaml.Node, delimiter json.Delim, _ error) {
	at := int(r.decoder.InputOffset())
	token, err := r.decoder.Token()
	if err != nil {
		return nil, 0, err
	}
	for at < len(r.text) && strings.IndexByte(" \t\r\n,:", r.text[at]) >= 0 {
		at++
	}
	for ; r.offset < at; r.offset++ {
		switch c := r.text[r.offset]; {
		case c == '\n':
			r.line, r.column = r.line+1, 1
		case utf8.RuneStart(c):
			r.column++
		}
	}
	n = &yaml.Node{Kind: yaml.ScalarNode, Line: r.line, Column: r.column}
	switch t := token.(type) {
	case json.Delim:
		delimiter = t
	case string:
		n.Tag, n.Value, n.Style = "!!str", t, yaml.DoubleQuotedStyle
	case json.Number:
		n.Tag, n.Value = "!!int", t.String()
		if strings.ContainsAny(n.Value, ".eE") {
			n.Tag = "!!float"
		}
	case bool:
		n.Tag, n.Value = "!!bool", "false"
		if t {
			n.Value = "true"
		}
	default:
		n.Tag, n.Value = "!!null", "null"
	}
	return n, delimiter, nil
}

var errTooDeep = errors.New("nested too deep")

func (r *jsonReader) value(depth int) (*yaml.Node, error) {
	n, delimiter, err := r.token()
	if err != nil || delimiter == 0 {
		return n, err
	}
	if depth > maxJSONDepth {
		return nil, errTooDeep
	}
	n.Kind, n.Tag = yaml.SequenceNode, "!!seq"
	if delimiter == '{' {
		n.Kind, n.Tag = yaml.MappingNode, "!!map"
	}
	for r.decoder.More() { // keys are values, too
		item, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		n.Content = append(n.Content, item)
	}
	_, _, err = r.token()
	return n, err
}
