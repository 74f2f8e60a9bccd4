package console

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"mime"
	"strings"
	"unicode/utf8"
)

// maxShown bounds the content that a page shows, in bytes; maxHex bounds what is no text.
const (
	maxShown = 32 << 10
	maxHex   = 1 << 10
)

// shown is content as a page shows it: as text only, whatever it is. Topics carry other people's bytes.
type shown struct {
	Kind  string // what it was taken for: JSON, XML, text or bytes
	Text  string
	Size  int64
	Short bool // there is more than is shown
	// Hidden says why there is nothing to see; empty: there is.
	Hidden string
}

// show prepares content of some type for a page. body may be only the beginning of size bytes.
func showContent(contentType string, body []byte, size int64) shown {
	out := shown{Size: size, Short: int64(len(body)) < size}
	kind, _, _ := mime.ParseMediaType(contentType)
	switch {
	case !out.Short && (kind == "application/json" || strings.HasSuffix(kind, "+json")):
		var b bytes.Buffer
		if json.Indent(&b, body, "", "  ") == nil && utf8.Valid(b.Bytes()) {
			out.Kind, out.Text = "JSON", b.String()
		}
	case !out.Short && (strings.HasSuffix(kind, "/xml") || strings.HasSuffix(kind, "+xml")):
		if text, err := indentXML(body); err == nil {
			out.Kind, out.Text = "XML", text
		}
	}
	if out.Kind != "" && len(out.Text) <= 2*maxShown {
		return out
	}
	if text := wholeRunes(body); utf8.Valid(text) && !bytes.ContainsRune(text, 0) {
		if len(text) > maxShown {
			text, out.Short = wholeRunes(text[:maxShown]), true
		}
		out.Kind, out.Text = "text", string(text)
		return out
	}
	if len(body) > maxHex {
		body, out.Short = body[:maxHex], true
	}
	out.Kind, out.Text = "bytes", hex.Dump(body)
	return out
}

// wholeRunes cuts off the beginning of a character at the end of text that was cut.
func wholeRunes(b []byte) []byte {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		if utf8.RuneStart(b[len(b)-n]) {
			if !utf8.FullRune(b[len(b)-n:]) {
				return b[:len(b)-n]
			}
			break
		}
	}
	return b
}

var errDeepXML = errors.New("too deep")

// maxXMLDepth bounds how deep elements are nested that are indented.
const maxXMLDepth = 100

// indentXML puts each element on a line of its own. Namespaces, entities and comments stay as they are written.
func indentXML(body []byte) (string, error) {
	d := xml.NewDecoder(bytes.NewReader(body)) //nolint:gosec // raw tokens only: nothing is unmarshalled, and no entity is expanded
	d.CharsetReader = func(_ string, in io.Reader) (io.Reader, error) { return in, nil }
	var out strings.Builder
	depth, from, closed := 0, int64(0), true
	for {
		token, err := d.RawToken()
		if errors.Is(err, io.EOF) && depth == 0 {
			return strings.TrimLeft(out.String(), "\n"), nil
		}
		if err != nil {
			return "", err
		}
		to := d.InputOffset()
		raw := string(body[from:to])
		from = to
		switch token.(type) {
		case xml.StartElement:
			if depth++; depth > maxXMLDepth {
				return "", errDeepXML
			}
			out.WriteString("\n" + strings.Repeat("  ", depth-1) + raw)
			closed = false
		case xml.EndElement:
			if depth--; depth < 0 {
				return "", errDeepXML
			}
			if raw == "" { // of <element/>
				closed = true
				continue
			}
			if closed {
				out.WriteString("\n" + strings.Repeat("  ", depth))
			}
			out.WriteString(raw)
			closed = true
		case xml.CharData:
			if text := strings.TrimSpace(raw); text != "" {
				if closed {
					out.WriteString("\n" + strings.Repeat("  ", depth))
				}
				out.WriteString(text)
			}
		default:
			out.WriteString("\n" + strings.Repeat("  ", depth) + raw)
			closed = true
		}
		if out.Len() > 4*maxShown {
			return "", errDeepXML
		}
	}
}
