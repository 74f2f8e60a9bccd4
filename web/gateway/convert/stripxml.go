package convert

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
)

// StripXML copies an XML document without what Options.Strip names, comments and processing instructions. Names, prefixes and
// order stay; the copy is UTF-8. XML does not know which elements are arrays: an index in a JSON pointer, or a * before other
// steps, stands for every element of the name before it, so that rather more than less is left out.
func StripXML(dst io.Writer, src io.Reader, o Options) error {
	r, err := o.compile()
	if err != nil {
		return err
	}
	s, err := newScanner(src, r.Limits)
	if err != nil {
		return err
	}
	w := &xmlCopy{output: output{limit: r.Limits.Output}, rules: r}
	w.buf = append(w.buf, xml.Header...)
	for {
		t, err := s.next()
		if errors.Is(err, io.EOF) && s.src.err == nil {
			_, err = dst.Write(w.buf)
			return err
		}
		if err == nil {
			err = w.token(t)
		}
		if err != nil {
			return err
		}
	}
}

type xmlCopy struct {
	output
	rules   *rules
	around  []places
	skipped int  // how many elements deep in what is left out
	tagOpen bool // the last start tag has no > yet
}

func (w *xmlCopy) token(t xml.Token) error {
	switch t := t.(type) {
	case xml.StartElement:
		at := w.enter(t.Name.Local)
		if w.skipped > 0 || len(w.around) > 1 && at.isStripped() {
			w.skipped++
			return nil
		}
		w.closeTag()
		w.buf = append(append(w.buf, '<'), qualified(t.Name)...)
		for _, a := range t.Attr {
			if a.Name.Space != "xmlns" && at.below("@"+a.Name.Local).isStripped() {
				continue
			}
			w.buf = append(append(append(w.buf, ' '), qualified(a.Name)...), `="`...)
			w.escape(a.Value)
			w.buf = append(w.buf, '"')
		}
		w.tagOpen = true
	case xml.EndElement:
		w.around = w.around[:len(w.around)-1]
		if w.skipped > 0 {
			w.skipped--
			return nil
		}
		if w.tagOpen {
			w.tagOpen = false
			return w.add("/>")
		}
		w.buf = append(append(append(w.buf, "</"...), qualified(t.Name)...), '>')
	case xml.CharData:
		if w.skipped > 0 || w.around[len(w.around)-1].below(textKey).isStripped() {
			return nil
		}
		w.closeTag()
		w.escape(string(t))
	}
	return w.add("")
}

func (w *xmlCopy) enter(name string) places {
	at := w.rules.start(name)
	if len(w.around) > 0 {
		at = w.around[len(w.around)-1].below(name)
	}
	w.around = append(w.around, at)
	return at
}

// below goes down to a member that may be an array.
func (p places) below(name string) places {
	p = p.member(name)
	for _, s := range p.pointer {
		if s.any != nil && (s.any.any != nil || s.any.next != nil) {
			p.pointer = append(p.pointer, s.any)
		}
		for key, child := range s.next {
			if key[:1] >= "0" && key[:1] <= "9" {
				p.pointer = append(p.pointer, child)
			}
		}
	}
	return p
}

func (w *xmlCopy) closeTag() {
	if w.tagOpen {
		w.tagOpen = false
		w.buf = append(w.buf, '>')
	}
}

func (w *xmlCopy) escape(text string) { w.buf = appendEscaped(w.buf, text) }

func qualified(n xml.Name) string {
	if n.Space == "" {
		return n.Local
	}
	return n.Space + ":" + n.Local
}

// appendEscaped appends text so that it reads back the same in an attribute and between tags.
func appendEscaped(buf []byte, text string) []byte {
	if !strings.ContainsAny(text, "\"'&<>\t\n\r") {
		return append(buf, text...)
	}
	b := bytes.NewBuffer(buf)
	_ = xml.EscapeText(b, []byte(text)) // a bytes.Buffer takes everything
	return b.Bytes()
}
