package convert_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"quorumhub/web/gateway/convert"
)

func TestXMLThatIsRefused(t *testing.T) {
	namespaces := convert.Options{Namespaces: true}
	for _, c := range []struct {
		name, xml, want string
		reason          convert.Reason
		options         convert.Options
	}{
		{"nothing", "", "no element", convert.Malformed, convert.Options{}},
		{"no XML", "{}", "text outside", convert.Malformed, convert.Options{}},
		{"an open element", "<a>\n<b>", "line 2, column 4: the document ends inside b", convert.Malformed, convert.Options{}},
		{"a wrong end", "<a><b></a>", "line 1, column 11: the end of a; expected that of b", convert.Malformed, convert.Options{}},
		{"a wrong prefix at the end", "<p:a></q:a>", "the end of a", convert.Malformed, convert.Options{}},
		{"two roots", "<a/><b/>", "second root element, b", convert.Malformed, convert.Options{}},
		{"text after the root", "<a/>x", "text outside", convert.Malformed, convert.Options{}},
		{"an attribute twice", `<a b="1" b="2"/>`, "b is there twice", convert.Malformed, convert.Options{}},
		{"an attribute twice once prefixes are dropped", `<a b="1" p:b="2"/>`, "two attributes", convert.Refused, convert.Options{}},
		{"a DTD", `<!DOCTYPE a [<!ENTITY b "x">]><a>&b;</a>`, "DTD", convert.Refused, convert.Options{}},
		{"a DTD inside", `<a><!ELEMENT a ANY></a>`, "DTD", convert.Refused, convert.Options{}},
		{"an external entity", `<a>&b;</a>`, "entity &b;", convert.Malformed, convert.Options{}},
		{"a character XML has not", `<a>&#0;</a>`, "", convert.Malformed, convert.Options{}},
		{"bytes that are no UTF-8", "<a>\xe9</a>", "UTF-8", convert.Malformed, convert.Options{}},
		{"an unknown encoding", `<?xml version="1.0" encoding="EBCDIC"?><a/>`, "ebcdic; expected UTF-8", convert.Refused, convert.Options{}},
		{"a declaration that is not the first", `<a><?xml version="1.0"?></a>`, "declaration", convert.Malformed, convert.Options{}},
		{"an encoding that is declared late", `<a><?xml version="1.0" encoding="ISO-8859-1"?></a>`, "declaration", convert.Malformed, convert.Options{}},
		{"bytes that are not in the encoding", "<?xml version='1.0' encoding='windows-1252'?><a>\x81</a>", "windows-1252", convert.Malformed, convert.Options{}},
		{"a prefix that is not declared", "<p:a/>", "p is not declared", convert.Malformed, namespaces},
		{"an unknown mark", `<a xmlns:j="urn:quorumhub:json" j:type="date"/>`, "not known", convert.Malformed, convert.Options{}},
		{"an empty array that is there", `<a xmlns:j="urn:quorumhub:json" j:empty="b"><b/></a>`, "is there", convert.Malformed, convert.Options{}},
		{"an array with text", `<a xmlns:j="urn:quorumhub:json" j:type="array">x</a>`, "array", convert.Malformed, convert.Options{}},
		{"too deep", strings.Repeat("<a>", 65) + strings.Repeat("</a>", 65), "line 1, column 196: nested deeper than 64", convert.Limit, convert.Options{}},
		{"many elements", "<a>" + strings.Repeat("<b/>", 10) + "</a>", "more than 10 elements", convert.Limit, convert.Options{Limits: convert.Limits{Elements: 10}}},
		{"many empty arrays", `<a xmlns:j="urn:quorumhub:json" j:empty="b c d"/>`, "more than 3 elements", convert.Limit, convert.Options{Limits: convert.Limits{Elements: 3}}},
		{"many attributes", `<a><b c="1" d="1"/><b c="1" d="1"/></a>`, "more than 3 attributes", convert.Limit, convert.Options{Limits: convert.Limits{Attributes: 3}}},
		{"many attributes of one element", "<a" + attributes(40) + "/>", "more than 3 attributes", convert.Limit, convert.Options{Limits: convert.Limits{Attributes: 3}}},
		{"many comments", "<a>" + strings.Repeat("<!---->", 100) + "</a>", "comments", convert.Limit, convert.Options{Limits: convert.Limits{Elements: 10, Attributes: 1}}},
		{"many bytes", "<a>" + strings.Repeat("x", 100) + "</a>", "too many bytes", convert.TooLarge, convert.Options{Limits: convert.Limits{Bytes: 100}}},
		{"large as JSON", "<a>" + strings.Repeat("\\", 90) + "</a>", "larger than 100 bytes", convert.Limit, convert.Options{Limits: convert.Limits{Bytes: 100, Output: 100}}},
	} {
		_, err := toJSON(t, c.xml, c.options)
		wantFault(t, c.name, err, c.reason, c.want)
	}
}

func TestJSONThatIsRefused(t *testing.T) {
	for _, c := range []struct {
		name, json, want string
		reason           convert.Reason
		options          convert.Options
	}{
		{"nothing", "", "empty", convert.Malformed, convert.Options{}},
		{"no JSON", "<a/>", "invalid", convert.Malformed, convert.Options{}},
		{"an open object", `{"a":`, "ends too early", convert.Malformed, convert.Options{}},
		{"two values", `{} {}`, "second", convert.Malformed, convert.Options{}},
		{"a key twice", `{"a":{"b":1,"b":2}}`, "/a/b: the key is there twice", convert.Malformed, convert.Options{}},
		{"bytes that are no UTF-8", "{\"a\":\"\xff\"}", "/a: ", convert.Malformed, convert.Options{}},
		{"half a surrogate pair", `{"a":"\ud800"}`, "/a: ", convert.Malformed, convert.Options{}},
		{"a control character", `{"a":[1,"\u0007"]}`, "/a/1: holds the character U+0007", convert.Refused, convert.Options{}},
		{"a character XML has not", `"\uffff"`, "U+FFFF", convert.Refused, convert.Options{}},
		{"a key with a space", `{"a":{"b c":1}}`, "/a/b c: the key", convert.Refused, convert.Options{}},
		{"a key with a colon", `{"a:b":1}`, "/a:b: the key", convert.Refused, convert.Options{}},
		{"a key that begins with a digit", `{"1a":1}`, "/1a: the key", convert.Refused, convert.Options{}},
		{"an empty key", `{"":1}`, "the key", convert.Refused, convert.Options{}},
		{"a key with markup", `{"a><b":1}`, "the key", convert.Refused, convert.Options{}},
		{"a key that no name begins with", "{\"\u00b7a\":1}", "the key", convert.Refused, convert.Options{}},
		{"an attribute without a name", `{"@":1}`, "/@: the key", convert.Refused, convert.Options{}},
		{"an attribute that is an object", `{"@a":{}}`, "/@a: becomes text", convert.Refused, convert.Options{}},
		{"an attribute that is null", `{"@a":null}`, "/@a: becomes text", convert.Refused, convert.Options{}},
		{"text that is an array", `{"a":{"#text":["x"]}}`, "/a/#text: becomes text", convert.Refused, convert.Options{}},
		{"a namespace", `{"@xmlns":"urn:x"}`, "/@xmlns: is a namespace", convert.Refused, convert.Options{}},
		{"too deep", strings.Repeat(`{"a":`, 64) + "1" + strings.Repeat("}", 64), "nested deeper than 64", convert.Limit, convert.Options{}},
		{"arrays too deep", strings.Repeat("[", 70) + strings.Repeat("]", 70), "nested deeper than 64", convert.Limit, convert.Options{}},
		{"many values", "[" + strings.Repeat("1,", 10) + "1]", "more than 10 values", convert.Limit, convert.Options{Limits: convert.Limits{Elements: 10}}},
		{"many attributes", `[{"@a":1},{"@a":1}]`, "more than 1 attributes", convert.Limit, convert.Options{Limits: convert.Limits{Attributes: 1}}},
		{"many bytes", `"` + strings.Repeat("x", 100) + `"`, "too many bytes", convert.TooLarge, convert.Options{Limits: convert.Limits{Bytes: 100}}},
		{"large as XML", `{"` + strings.Repeat("a", 1000) + `":[` + strings.Repeat("1,", 1000) + `1]}`, "larger than", convert.Limit, convert.Options{Limits: convert.Limits{Bytes: 10_000}}},
	} {
		_, err := toXML(t, c.json, c.options)
		wantFault(t, c.name, err, c.reason, c.want)
	}
}

func wantFault(t *testing.T, name string, err error, reason convert.Reason, want string) {
	t.Helper()
	var fault *convert.Error
	if !errors.As(err, &fault) || fault.Reason != reason || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%s: got %v, want reason %d and %q", name, err, reason, want)
	}
}

func attributes(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, ` a%d=""`, i)
	}
	return b.String()
}

// counter counts what has been read of a document.
type counter struct {
	io.Reader
	read int
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.read += n
	return n, err
}

// TestBombsAreRefusedEarly: documents that are made to cost time or memory are given up after a small part of them.
func TestBombsAreRefusedEarly(t *testing.T) {
	const size = 7 << 20
	limits := convert.Options{Limits: convert.Limits{Bytes: size + 100}}
	fill := func(piece string) string { return strings.Repeat(piece, size/len(piece)) }
	for _, c := range []struct {
		name, doc string
		convert   func(io.Writer, io.Reader, convert.Options) error
		most      int // bytes read
	}{
		{"nested tags", fill("<a>"), convert.XMLToJSON, 8 << 10},
		{"sibling tags", "<a>" + fill("<a/>"), convert.XMLToJSON, 420 << 10},
		{"attributes of one tag", "<a " + fill(`a="" `), convert.XMLToJSON, 64 << 10},
		{"a DTD of entities", "<!DOCTYPE a [" + fill(`<!ENTITY a "&b;&b;">`), convert.XMLToJSON, 8 << 10},
		{"comments", "<a>" + fill("<!---->"), convert.XMLToJSON, 3 << 20},
		{"pieces of text", "<a>" + fill("<![CDATA[x]]>"), convert.XMLToJSON, 6 << 20},
		{"nested arrays", fill("["), convert.JSONToXML, 128 << 10},
		{"nested objects", fill(`{"a":`), convert.JSONToXML, 128 << 10},
		{"values", "[" + fill("1,"), convert.JSONToXML, 1 << 20},
	} {
		src := &counter{Reader: strings.NewReader(c.doc)}
		start := time.Now()
		err := c.convert(io.Discard, src, limits)
		took := time.Since(start)
		var fault *convert.Error
		if !errors.As(err, &fault) || fault.Reason != convert.Limit && fault.Reason != convert.Refused {
			t.Errorf("%s: got %v, want a limit", c.name, err)
		}
		if src.read > c.most {
			t.Errorf("%s: read %d bytes, want at most %d", c.name, src.read, c.most)
		}
		if took > 2*time.Second { // without limits, 7 MB of nested tags take several seconds and more for each further one
			t.Errorf("%s: took %v", c.name, took)
		}
	}
}

func TestErrorsOfTheSourceStay(t *testing.T) {
	broken := errors.New("connection reset")
	for name, err := range map[string]error{
		"XML":  convert.XMLToJSON(io.Discard, io.MultiReader(strings.NewReader("<a>"), iotest.ErrReader(broken)), convert.Options{}),
		"JSON": convert.JSONToXML(io.Discard, io.MultiReader(strings.NewReader(`{"a":`), iotest.ErrReader(broken)), convert.Options{}),
	} {
		var fault *convert.Error
		if !errors.Is(err, broken) || errors.As(err, &fault) {
			t.Errorf("%s: got %v, want the source's error", name, err)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for want, o := range map[string]convert.Options{
		`root: is "a b"`:          {Root: "a b"},
		`arrays[1]: is "a//b"`:    {Arrays: []string{"a", "a//b"}},
		`arrays[0]: is "/a/b"`:    {Arrays: []string{"/a/b"}},
		`strip[0]: is ""`:         {Strip: []string{""}},
		`types: is "a"; expected`: {Types: map[string]convert.Type{"a": convert.Number}},
	} {
		if err := o.Check(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestUnwrap(t *testing.T) {
	const soap = `<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Header><id>7</id></s:Header><s:Body>%s</s:Body></s:Envelope>`
	for _, c := range []struct{ name, doc, want string }{
		{"CDATA", `<r><![CDATA[<a><b>1</b></a>]]></r>`, `<a><b>1</b></a>`},
		{"escaped text", `<r>&lt;a&gt;&amp;lt;&lt;/a&gt;</r>`, `<a>&lt;</a>`},
		{"white space around", "<r>\n  <x><![CDATA[\n<?xml version='1.0' encoding='ISO-8859-1'?>\n<a>\u00e9</a>]]>\n</x></r>", "<a>\u00e9</a>"},
		{"pieces", `<r><![CDATA[<a>]]>x<!-- c --><![CDATA[</a>]]></r>`, `<a>x</a>`},
		{"once only", `<r><![CDATA[<a>&lt;b/&gt;</a>]]></r>`, `<a>&lt;b/&gt;</a>`},
		{"SOAP", fmt.Sprintf(soap, `<getResponse><return><![CDATA[<a/>]]></return><more/></getResponse>`), `<a/>`},
		{"SOAP with an element", fmt.Sprintf(soap, `<a><b>1</b></a>`), ""},
		{"text in the header of SOAP only", strings.Replace(fmt.Sprintf(soap, `<a/>`), "7", "&lt;a/&gt;", 1), ""},
		{"two texts", `<r><x>&lt;a/&gt;</x><y>&lt;a/&gt;</y></r>`, ""},
		{"text that is no XML", `<r>&lt;a&gt;</r>`, ""},
		{"two documents", `<r>&lt;a/&gt;&lt;a/&gt;</r>`, ""},
		{"plain text", `<r>x</r>`, ""},
		{"elements", `<r><a/></r>`, ""},
	} {
		got, ok, err := convert.Unwrap([]byte(c.doc), convert.Limits{})
		if err != nil || ok != (c.want != "") || ok && string(got) != c.want || !ok && string(got) != c.doc {
			t.Errorf("%s: got %q, %v, %v, want %q", c.name, got, ok, err, c.want)
		}
	}
	for _, c := range []struct {
		name, doc string
		reason    convert.Reason
	}{
		{"a DTD inside", `<r><![CDATA[<!DOCTYPE a []><a/>]]></r>`, convert.Refused},
		{"too deep inside", "<r><![CDATA[" + strings.Repeat("<a>", 65) + strings.Repeat("</a>", 65) + "]]></r>", convert.Limit},
		{"a DTD outside", `<!DOCTYPE a []><a/>`, convert.Refused},
		{"no XML", `{}`, convert.Malformed},
	} {
		_, ok, err := convert.Unwrap([]byte(c.doc), convert.Limits{})
		if ok {
			t.Errorf("%s: unwrapped", c.name)
		}
		wantFault(t, c.name, err, c.reason, "")
	}
}
