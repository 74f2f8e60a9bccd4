package convert

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"regexp"
	"strings"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

var (
	errDTD            = errors.New("a DTD (<!DOCTYPE or another declaration) is never accepted")
	errManyAttributes = errors.New("too many attributes")
)

// gate stands between a document and encoding/xml, which reads a whole start tag or declaration before it says anything. It
// ends the document where a declaration begins, and in the middle of a tag with too many attributes.
type gate struct {
	r          *bufio.Reader
	state      gateState
	quote      byte // inside an attribute's value; 0: not
	last       byte
	attributes int // how many more there may be
}

type gateState byte

const (
	gateBegin  gateState = iota // of a token
	gateOpen                    // after the < of a token
	gateBang                    // after <!
	gateTag                     // in a start tag
	gatePassed                  // in anything else
)

// begin says that the next byte begins a token. attributes is how many the document may still have.
func (g *gate) begin(attributes int) {
	g.state, g.quote, g.attributes = gateBegin, 0, attributes
	if g.last == '<' { // the end of text, which the decoder has read and kept
		g.state = gateOpen
	}
}

// ReadByte implements io.ByteReader, with which encoding/xml reads no further than it must.
func (g *gate) ReadByte() (byte, error) {
	b, err := g.r.ReadByte()
	if err != nil {
		return 0, err
	}
	g.last = b
	switch g.state {
	case gateBegin:
		g.state = gatePassed
		if b == '<' {
			g.state = gateOpen
		}
	case gateOpen:
		switch b {
		case '!':
			g.state = gateBang
		case '/', '?':
			g.state = gatePassed
		default:
			g.state = gateTag
		}
	case gateBang:
		if b != '-' && b != '[' {
			return 0, errDTD
		}
		g.state = gatePassed
	case gateTag:
		switch {
		case g.quote != 0:
			if b == g.quote {
				g.quote = 0
			}
		case b == '"' || b == '\'':
			g.quote = b
		case b == '=':
			if g.attributes--; g.attributes < 0 {
				return 0, errManyAttributes
			}
		}
	case gatePassed:
	}
	return b, nil
}

// Read implements io.Reader, as encoding/xml demands of what it takes a charset from.
func (g *gate) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	b, err := g.ReadByte()
	if err != nil {
		return 0, err
	}
	p[0] = b
	return 1, nil
}

var declaredEncoding = regexp.MustCompile(`^<\?xml[^>]*\sencoding\s*=\s*["']([A-Za-z0-9._-]*)["']`)

// encodings are those that old services write; everything else is refused.
var encodings = map[string]encoding.Encoding{
	"utf-8": nil, "us-ascii": nil, "ascii": nil,
	"iso-8859-1": charmap.ISO8859_1, "latin1": charmap.ISO8859_1,
	"iso-8859-15":  charmap.ISO8859_15,
	"windows-1252": charmap.Windows1252, "cp1252": charmap.Windows1252,
	"iso-8859-6": charmap.ISO8859_6, "windows-1256": charmap.Windows1256,
}

// toUTF8 returns a reader of the document in UTF-8, and the encoding it was in, "" for UTF-8. The byte order mark decides, or
// else the XML declaration (XML 1.0 appendix F).
func toUTF8(src io.Reader) (r *bufio.Reader, from string, err error) {
	br := bufio.NewReader(src)
	head, err := br.Peek(256)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, "", err
	}
	switch {
	case bytes.HasPrefix(head, []byte("\xEF\xBB\xBF")):
		_, err = br.Discard(3)
		return br, "", err
	case bytes.HasPrefix(head, []byte("\xFE\xFF")), bytes.HasPrefix(head, []byte("\xFF\xFE")):
		utf16 := unicode.UTF16(unicode.BigEndian, unicode.ExpectBOM)
		return bufio.NewReader(transform.NewReader(br, utf16.NewDecoder())), "utf-16", nil
	}
	m := declaredEncoding.FindSubmatch(head)
	if m == nil {
		return br, "", nil
	}
	name := strings.ToLower(string(m[1]))
	enc, known := encodings[name]
	switch {
	case !known:
		return nil, "", unknownEncoding(name)
	case enc == nil:
		return br, "", nil
	}
	return bufio.NewReader(transform.NewReader(br, enc.NewDecoder())), name, nil
}

func unknownEncoding(name string) error {
	return &Error{Reason: Refused, Line: 1, Column: 1, Detail: "the encoding is " + shorten(name) +
		"; expected UTF-8, UTF-16 with a byte order mark, ISO-8859-1, -6 or -15, Windows-1252 or -1256"}
}
