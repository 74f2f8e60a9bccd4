package convert_test

import (
	"strings"
	"testing"

	"quorumhub/web/gateway/convert"
)

func toJSON(t testing.TB, doc string, o convert.Options) (string, error) {
	t.Helper()
	var out strings.Builder
	err := convert.XMLToJSON(&out, strings.NewReader(doc), o)
	if err != nil && out.Len() > 0 {
		t.Fatalf("wrote %q in spite of %v", out.String(), err)
	}
	return out.String(), err
}

func toXML(t testing.TB, doc string, o convert.Options) (string, error) {
	t.Helper()
	var out strings.Builder
	err := convert.JSONToXML(&out, strings.NewReader(doc), o)
	if err != nil && out.Len() > 0 {
		t.Fatalf("wrote %q in spite of %v", out.String(), err)
	}
	return strings.TrimPrefix(out.String(), `<?xml version="1.0" encoding="UTF-8"?>`+"\n"), err
}

func TestXMLToJSON(t *testing.T) {
	hints := convert.Options{Arrays: []string{"GetAddress/Line"}}
	namespaces := convert.Options{Namespaces: true}
	for _, c := range []struct {
		name, xml, want string
		options         convert.Options
	}{
		{"text", `<a>x</a>`, `"x"`, convert.Options{}},
		{"children", `<a><b>x</b><c>y</c></a>`, `{"b":"x","c":"y"}`, convert.Options{}},
		{"white space between elements", "<a>\n  <b>x</b>\n</a>\n", `{"b":"x"}`, convert.Options{}},
		{"white space in text", "<a> x </a>", `" x "`, convert.Options{}},
		{"attributes", `<a id="1" p:lang="de"><b/></a>`, `{"@id":"1","@lang":"de","b":null}`, convert.Options{}},
		{"text beside attributes", `<a id="1">x</a>`, `{"@id":"1","#text":"x"}`, convert.Options{}},
		{"text beside children", "<a>\n  x <b/> y\n</a>", `{"b":null,"#text":"x  y"}`, convert.Options{}},
		{"CDATA and entities", `<a><![CDATA[<b>&]]>&lt;&amp;&gt;&quot;&apos;&#x41;</a>`, `"<b>&<&>\"'A"`, convert.Options{}},
		{"repeated children", `<a><b>1</b><c/><b>2</b></a>`, `{"b":["1","2"],"c":null}`, convert.Options{}},
		{"array of strings", `<a><b>1</b><b/></a>`, `{"b":["1",""]}`, convert.Options{}},
		{"nil in an array of strings", `<a xmlns:i="http://www.w3.org/2001/XMLSchema-instance"><b>1</b><b i:nil="true"/></a>`, `{"b":["1",null]}`, convert.Options{}},
		{"array of objects", `<a><b><c/></b><b/></a>`, `{"b":[{"c":null},null]}`, convert.Options{}},
		{"a named array", `<R><GetAddress><Line>x</Line></GetAddress></R>`, `{"GetAddress":{"Line":["x"]}}`, hints},
		{"a named array, the root included", `<GetAddress><Line>x</Line><Line>y</Line></GetAddress>`, `{"Line":["x","y"]}`, hints},
		{"a named array in arrays", `<R><GetAddress><Line/></GetAddress><GetAddress><Line/></GetAddress></R>`, `{"GetAddress":[{"Line":[null]},{"Line":[null]}]}`, hints},
		{"empty", `<a/>`, `null`, convert.Options{}},
		{"an empty child", `<a><b></b></a>`, `{"b":null}`, convert.Options{}},
		{"prefixes", `<s:a xmlns:s="urn:s" xmlns="urn:d"><s:b>x</s:b><b>y</b></s:a>`, `{"b":["x","y"]}`, convert.Options{}},
		{"namespaces kept", `<s:a xmlns:s="urn:s" xmlns="urn:d"><s:b>x</s:b><c>y</c></s:a>`, `{"@xmlns":"urn:s","b":"x","c":{"@xmlns":"urn:d","#text":"y"}}`, namespaces},
		{"comments and instructions", `<?xml version="1.0"?><!-- a --><a><?php x?>x<!-- b -->y</a><!-- c -->`, `"xy"`, convert.Options{}},
		{"strip", `<a><internal id="1"><x>1</x><y/></internal><b secret="1"/><b><c/></b></a>`, `{"internal":{"@id":"1"},"b":[{},{}]}`,
			convert.Options{Strip: []string{"internal/x", "a/internal/y", "b/@secret", "/b/1/c"}}},
		{"strip all inside", `<a><internal><x>1</x><y/></internal><b>1</b></a>`, `{"internal":{},"b":"1"}`, convert.Options{Strip: []string{"internal/*"}}},
		{"types", `<a><n> 12 </n><big>123456789012345678901234567890</big><bad>1x</bad><b>true</b><i><p>1.5</p></i><i><p>0</p></i><s/></a>`,
			`{"n":12,"big":123456789012345678901234567890,"bad":"1x","b":true,"i":[{"p":1.5},{"p":0}],"s":""}`,
			convert.Options{Types: map[string]convert.Type{"/n": convert.Number, "/big": convert.Number, "/bad": convert.Number, "/b": convert.Boolean, "/i/*/p": convert.Number, "/s": convert.String}}},
		{"a byte order mark", "\xEF\xBB\xBF<a>\u00e9</a>", `"é"`, convert.Options{}},
		{"ISO-8859-1", "<?xml version='1.0' encoding='ISO-8859-1'?><a>\xe9</a>", `"é"`, convert.Options{}},
		{"UTF-16", "\xFF\xFE<\x00a\x00/\x00>\x00", `null`, convert.Options{}},
	} {
		got, err := toJSON(t, c.xml, c.options)
		if err != nil || got != c.want {
			t.Errorf("%s: got %s, %v, want %s", c.name, got, err, c.want)
		}
	}
}

func TestJSONToXML(t *testing.T) {
	const j = ` xmlns:j="urn:quorumhub:json"`
	for _, c := range []struct {
		json, want string
		options    convert.Options
	}{
		{`"x"`, `<a>x</a>`, convert.Options{}},
		{`{"b":"x","c":1,"d":true,"e":null}`, `<a><b>x</b><c>1</c><d>true</d><e/></a>`, convert.Options{}},
		{`{"b":["x","",2]}`, `<a><b>x</b><b/><b>2</b></a>`, convert.Options{}},
		{`{"b":{"c":1},"@id":"<\"1\">","#text":"t"}`, `<a id="&lt;&#34;1&#34;&gt;">t<b><c>1</c></b></a>`, convert.Options{}},
		{`{"b":["x"]}`, `<a><b>x</b></a>`, convert.Options{Arrays: []string{"b"}}},
		{`{"b":[["x"]]}`, `<a` + j + `><b j:item="true" j:type="array"><item>x</item></b></a>`, convert.Options{Arrays: []string{"b"}}},
		{`{"b":["x"],"c":[]}`, `<a` + j + ` j:empty="c"><b j:item="true">x</b></a>`, convert.Options{}},
		{`{"b":"","c":{}}`, `<a` + j + `><b j:type="string"/><c j:type="object"/></a>`, convert.Options{}},
		{`[1,[]]`, `<a` + j + ` j:type="array"><item>1</item><item j:type="array"/></a>`, convert.Options{}},
		{`{"b":["x",null]}`, `<a xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><b>x</b><b xsi:nil="true"/></a>`, convert.Options{}},
		{`{"@xmlns":"urn:x","b":"x"}`, `<a xmlns="urn:x"><b>x</b></a>`, convert.Options{Namespaces: true}},
		{`{"internal":{"x":1},"b":[{"c":1,"d":2},{"c":3}]}`, `<a><b><d>2</d></b><b><c>3</c></b></a>`, convert.Options{Strip: []string{"internal", "/b/0/c"}}},
		{`{"n":123456789012345678901234567890.10E+5}`, `<a><n>123456789012345678901234567890.10E+5</n></a>`, convert.Options{}},
		{`{"متن":"x"}`, `<a><متن>x</متن></a>`, convert.Options{}},
	} {
		c.options.Root = "a"
		got, err := toXML(t, c.json, c.options)
		if err != nil || got != c.want {
			t.Errorf("%s: got %s, %v, want %s", c.json, got, err, c.want)
		}
	}
}

func TestStripKeepsTheFormat(t *testing.T) {
	o := convert.Options{Strip: []string{"internal/*", "/list/*/secret", "/n/@id"}}
	var out strings.Builder
	if err := convert.StripJSON(&out, strings.NewReader(`{"internal":{"a":1},"list":[{"secret":1,"b:b":2.50}],"n":{"@id":1}}`), o); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), `{"internal":{},"list":[{"b:b":2.50}],"n":{}}`; got != want {
		t.Errorf("JSON: got %s, want %s", got, want)
	}
	out.Reset()
	err := convert.StripXML(&out, strings.NewReader(`<s:r xmlns:s="urn:s"><internal><a>1</a></internal> <list><secret><a/></secret><s:b k="&amp;">x</s:b></list><list><secret/></list><n id="1"/></s:r>`), o)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), `<s:r xmlns:s="urn:s"><internal/> <list><s:b k="&amp;">x</s:b></list><list/><n/></s:r>`; !strings.HasSuffix(got, want) {
		t.Errorf("XML: got %s, want %s", got, want)
	}
}
