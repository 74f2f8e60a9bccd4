// Package syntax says in one line what is wrong with a YAML text, where, and what is expected. It imports nothing of the project.
package syntax

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
)

// Error is one mistake in a YAML text. Line and Column count from 1; 0 means unknown.
type Error struct {
	Line, Column int
	Message      string
}

// Error returns "line 3, column 4: …".
func (f *Error) Error() string {
	switch {
	case f.Line == 0:
		return f.Message
	case f.Column == 0:
		return fmt.Sprintf("line %d: %s", f.Line, f.Message)
	}
	return fmt.Sprintf("line %d, column %d: %s", f.Line, f.Column, f.Message)
}

// Explain returns what is wrong with text, given the error of the YAML library for it.
func Explain(text []byte, err error) *Error {
	f := &Error{Message: err.Error()}
	if y := yaml.Error(nil); errors.As(err, &y) {
		f.Message = y.GetMessage()
		if t := y.GetToken(); t != nil && t.Position != nil {
			f.Line, f.Column = t.Position.Line, t.Position.Column
		}
	}
	f.Message, _, _ = strings.Cut(f.Message, "\n")
	if found := misplaced(string(text)); found != nil && (f.Line == 0 || found.Line-f.Line <= 1 && f.Line-found.Line <= 1) {
		return found // the library names the line before, or a consequence
	}
	f.Message = inWords(f.Message)
	return f
}

// inWords replaces the library's messages by what to do.
func inWords(message string) string {
	switch {
	case strings.HasPrefix(message, "mapping value is not allowed"):
		return "a second key in one line, expected one key a line; a value that contains \": \" needs quotes"
	case strings.HasPrefix(message, "value is not allowed"):
		return "this does not belong to the key above, expected a key and a value, such as data_dir: ./data"
	case strings.HasPrefix(message, "could not find end character of double-quoted"):
		return "a quoted text begins here and does not end, expected another \""
	case strings.HasPrefix(message, "could not find end character of single-quoted"):
		return "a quoted text begins here and does not end, expected another '"
	case strings.Contains(message, "or ']' must be specified"), strings.HasPrefix(message, "could not find end character ']'"):
		return "a list in brackets does not end, expected , or ]"
	case strings.Contains(message, "or '}' must be specified"), strings.HasPrefix(message, "could not find end character '}'"):
		return "a mapping in braces does not end, expected , or }"
	case strings.HasPrefix(message, "mapping key"):
		if key, where, ok := strings.Cut(strings.TrimPrefix(message, "mapping key "), " already defined at ["); ok {
			line, _, _ := strings.Cut(where, ":")
			return fmt.Sprintf("%s is given twice, first in line %s", strings.Trim(key, `"`), line)
		}
	case strings.HasPrefix(message, "unknown field"):
		return strings.Replace(message, "unknown field", "unknown key", 1)
	}
	return message
}

// misplaced returns the first line of a block whose indentation fits no line above, or nil. It does not judge texts in which lines may
// be indented freely: block scalars, quoted texts and brackets over several lines.
func misplaced(text string) *Error {
	type level struct{ indent, line int }
	levels := []level{{0, 0}}
	opens, scalar := true, -1 // whether the line above may have lines below it; the indentation of a block scalar's key
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimRight(line, "\r")
		body := strings.TrimLeft(line, " ")
		indent := len(line) - len(body)
		if body == "" || strings.TrimSpace(body) == "" {
			continue
		}
		if scalar >= 0 {
			if indent > scalar {
				continue
			}
			scalar = -1
		}
		if body[0] == '#' || body == "---" {
			continue
		}
		if body[0] == '\t' {
			return &Error{n + 1, indent + 1, "indented with a tab, expected spaces"}
		}
		top := levels[len(levels)-1]
		switch {
		case indent > top.indent && opens:
			levels = append(levels, level{indent, n + 1})
		case indent > top.indent:
			return &Error{n + 1, indent + 1, fmt.Sprintf("indented by %s, expected %d as in line %d", spaces(indent), top.indent, max(top.line, 1))}
		default:
			for len(levels) > 1 && levels[len(levels)-1].indent > indent {
				levels = levels[:len(levels)-1]
			}
			if under := levels[len(levels)-1]; under.indent != indent {
				return &Error{n + 1, indent + 1, fmt.Sprintf("indented by %s, expected %d or %d, as a line above", spaces(indent), under.indent, top.indent)}
			}
			levels[len(levels)-1].line = n + 1
		}
		for strings.HasPrefix(body, "- ") { // the item's keys are indented like what follows the dash
			rest := strings.TrimLeft(body[2:], " ")
			indent += len(body) - len(rest)
			body = rest
			levels = append(levels, level{indent, n + 1})
		}
		end := lineEnd(body)
		if end == open {
			return nil // brackets or quotes that go on below
		}
		if end == block {
			scalar = levels[len(levels)-1].indent
		}
		opens = end == section
	}
	return nil
}

func spaces(n int) string {
	if n == 1 {
		return "1 space"
	}
	return fmt.Sprintf("%d spaces", n)
}

// How a line of a block ends.
type ending int

const (
	complete ending = iota // with a value
	section                // with a colon or a dash: more may follow below it
	block                  // with a block scalar's sign
	open                   // within quotes or brackets
)

func lineEnd(body string) ending {
	depth, quote, last := 0, rune(0), ' '
	for i, c := range body {
		switch {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case (c == '"' || c == '\'') && (last == ' ' || last == '[' || last == '{' || last == ','):
			quote = c
		case (c == '[' || c == '{') && (last == ' ' || depth > 0):
			depth++
		case (c == ']' || c == '}') && depth > 0:
			depth--
		case c == '#' && last == ' ' && i > 0:
			body = body[:i]
		}
		if i >= len(body) {
			break
		}
		last = c
	}
	body = strings.TrimRight(body, " ")
	switch {
	case depth > 0 || quote != 0:
		return open
	case strings.HasSuffix(body, ":") || body == "-":
		return section
	}
	if sign, _ := utf8.DecodeRuneInString(body[strings.LastIndexByte(body, ' ')+1:]); sign == '|' || sign == '>' {
		return block
	}
	return complete
}
