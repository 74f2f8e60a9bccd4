package protect

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Release returns what the pointers let through of a JSON document; the rest is left out, so that a member that is not named
// shows neither its value nor that it is there. A pointer (RFC 6901) lets through everything at and below its place; "*" stands
// for any one step, and alone for the whole document. Items of arrays that have nothing to show are left out too. If nothing
// passes, the result is an empty object or array, or null for a scalar.
//
// Values that pass are copied as they are written. Repeated keys, anywhere, are refused: another reader could see the other
// value. Errors are an *Error.
func Release(doc []byte, pointers []string) ([]byte, error) {
	var root passage
	for _, p := range pointers {
		if err := root.add(p); err != nil {
			return nil, err
		}
	}
	d := jsontext.NewDecoder(bytes.NewReader(doc))
	r := &release{decoder: d, out: make([]byte, 0, len(doc))}
	kind := d.PeekKind()
	passed, err := r.value([]*passage{&root})
	if err != nil {
		return nil, unreadable(err)
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, unreadable(err)
	}
	if !passed {
		switch kind {
		case '{':
			return []byte("{}"), nil
		case '[':
			return []byte("[]"), nil
		default:
			return []byte("null"), nil
		}
	}
	return r.out, nil
}

// CheckPointers returns the first of the pointers that Release would refuse.
func CheckPointers(pointers []string) error {
	var root passage
	for _, p := range pointers {
		if err := root.add(p); err != nil {
			return err
		}
	}
	return nil
}

func unreadable(err error) error {
	switch {
	case err == nil:
		return refuse("the payload has more than one JSON value")
	case errors.Is(err, jsontext.ErrDuplicateName):
		return refuseBecause(err, "the payload has a key twice")
	}
	return refuseBecause(err, "the payload is no JSON")
}

// passage is one step of all pointers with the same beginning.
type passage struct {
	all  bool // everything from here on
	next map[string]*passage
	any  *passage
}

func (p *passage) add(pointer string) error {
	if pointer == "*" || pointer == "" {
		p.all = true
		return nil
	}
	rest, ok := strings.CutPrefix(pointer, "/")
	if !ok {
		return refuse("%s is no JSON pointer; expected one such as /address/city, or *", quote(pointer))
	}
	unescape := strings.NewReplacer("~1", "/", "~0", "~")
	for step := range strings.SplitSeq(rest, "/") {
		if step == "*" {
			if p.any == nil {
				p.any = &passage{}
			}
			p = p.any
			continue
		}
		step = unescape.Replace(step)
		if p.next[step] == nil {
			if p.next == nil {
				p.next = map[string]*passage{}
			}
			p.next[step] = &passage{}
		}
		p = p.next[step]
	}
	p.all = true
	return nil
}

type release struct {
	decoder *jsontext.Decoder
	out     []byte
}

// value copies what passes of the next value, and reports whether anything did. It goes no deeper than the pointers.
func (r *release) value(at []*passage) (passed bool, err error) {
	for _, p := range at {
		if p.all {
			v, err := r.decoder.ReadValue()
			r.out = append(r.out, v...)
			return err == nil, err
		}
	}
	kind := r.decoder.PeekKind()
	if len(at) == 0 || kind != '{' && kind != '[' {
		return false, r.decoder.SkipValue()
	}
	if _, err := r.decoder.ReadToken(); err != nil {
		return false, err
	}
	start := len(r.out)
	r.out = append(r.out, byte(kind))
	end := byte(kind) + 2 // } after { and ] after [ in ASCII
	for i := 0; ; i++ {
		if next := r.decoder.PeekKind(); next == '}' || next == ']' {
			break
		}
		before := len(r.out)
		if passed {
			r.out = append(r.out, ',')
		}
		step := strconv.Itoa(i)
		if kind == '{' {
			name, err := r.decoder.ReadToken()
			if err != nil {
				return false, err
			}
			step = name.String()
			if r.out, err = jsontext.AppendQuote(r.out, step); err != nil {
				return false, err
			}
			r.out = append(r.out, ':')
		}
		inside, err := r.value(down(at, step))
		if err != nil {
			return false, err
		}
		if !inside {
			r.out = r.out[:before]
		}
		passed = passed || inside
	}
	_, err = r.decoder.ReadToken()
	if r.out = append(r.out, end); !passed {
		r.out = r.out[:start]
	}
	return passed, err
}

func down(at []*passage, step string) []*passage {
	var out []*passage
	for _, p := range at {
		if next := p.next[step]; next != nil {
			out = append(out, next)
		}
		if p.any != nil {
			out = append(out, p.any)
		}
	}
	return out
}
