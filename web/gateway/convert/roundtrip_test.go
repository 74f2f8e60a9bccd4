package convert_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"quorumhub/web/gateway/convert"
)

var (
	keys  = rapid.SampledFrom([]string{"a", "b", "Line", "item", "A-b.c_1", "xmlns", "nil", "type", "é", "متن"})
	texts = rapid.OneOf(
		rapid.SampledFrom([]string{"", "x", " ", "\n", " x\t", "\r\n", "<&>\"']]>", "true", "12", "1e5", "\u2028", "é𝄞", "<!--", "&#0;"}),
		rapid.StringOf(rapid.Rune().Filter(func(c rune) bool {
			return c >= ' ' && c != '\uFFFE' && c != '\uFFFF'
		})))
	numbers = rapid.SampledFrom([]json.Number{"0", "-1", "1.50", "1e400", "123456789012345678901234567890"})
)

// values makes JSON values as encoding/json decodes them. namespaces allows "@xmlns".
func values(depth int, namespaces bool) *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any {
		kinds := 7
		if depth == 0 {
			kinds = 4
		}
		switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
		case 0:
			return nil
		case 1:
			return rapid.Bool().Draw(t, "bool")
		case 2:
			return numbers.Draw(t, "number")
		case 3:
			return texts.Draw(t, "text")
		case 4:
			return rapid.SliceOfN(values(depth-1, namespaces), 0, 4).Draw(t, "array")
		case 5: // of strings and nulls
			return rapid.SliceOfN(rapid.OneOf(rapid.Map(texts, func(s string) any { return s }), rapid.Just[any](nil)), 0, 4).Draw(t, "strings")
		}
		object := rapid.MapOfN(keys, values(depth-1, namespaces), 0, 4).Draw(t, "object")
		if rapid.IntRange(0, 3).Draw(t, "attributes") == 0 {
			for _, key := range rapid.SliceOfNDistinct(keys, 1, 2, rapid.ID).Draw(t, "attribute") {
				if key != "xmlns" || namespaces {
					object["@"+key] = texts.Draw(t, "attribute text")
				}
			}
		}
		if !hasChildren(object) && rapid.IntRange(0, 3).Draw(t, "text beside") == 0 { // with children, it would be mixed content
			object["#text"] = texts.Draw(t, "text")
		}
		return object
	})
}

func hasChildren(object map[string]any) bool {
	for key := range object {
		if !strings.HasPrefix(key, "@") {
			return true
		}
	}
	return false
}

// asText is what is promised to come back: numbers and booleans are strings.
func asText(v any) any {
	switch v := v.(type) {
	case bool:
		return fmt.Sprint(v)
	case json.Number:
		return v.String()
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = asText(v[i])
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for key := range v {
			out[key] = asText(v[key])
		}
		return out
	}
	return v
}

func decode(t rapid.TB, doc []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", doc, err)
	}
	return v
}

// thereAndBack converts JSON to XML and back.
func thereAndBack(t rapid.TB, doc []byte, o convert.Options) (back any, xml string) {
	t.Helper()
	var out, again bytes.Buffer
	if err := convert.JSONToXML(&out, bytes.NewReader(doc), o); err != nil {
		t.Fatalf("%s: %v", doc, err)
	}
	xml = out.String()
	if err := convert.XMLToJSON(&again, &out, o); err != nil {
		t.Fatalf("%s, of %s: %v", xml, doc, err)
	}
	return decode(t, again.Bytes()), xml
}

// TestRoundTrip: JSON that becomes XML and is read again is the same JSON, with numbers and booleans as strings.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := convert.Options{Namespaces: rapid.Bool().Draw(t, "namespaces"), Root: keys.Draw(t, "root"),
			Arrays: rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "a/b", "item", "*/a", "Line/Line"}), 0, 3).Draw(t, "arrays"),
			Types:  map[string]convert.Type{"/a/*": convert.String, "/b": convert.String}}
		v := hinted(values(4, o.Namespaces).Draw(t, "value"), o)
		doc, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		back, xml := thereAndBack(t, doc, o)
		if want := asText(decode(t, doc)); !reflect.DeepEqual(back, want) {
			t.Fatalf("%s became %s became %v", doc, xml, back)
		}
	})
}

// hinted returns v if it is what the hints say: whatever a path in Arrays names must be an array, or reading it makes it one.
func hinted(v any, o convert.Options) any {
	if len(o.Arrays) == 0 {
		return v
	}
	switch v := v.(type) {
	case map[string]any:
		for key, part := range v {
			part = hinted(part, o)
			if _, isArray := part.([]any); !isArray && !strings.HasPrefix(key, "@") && key != "#text" {
				part = []any{part}
			}
			v[key] = part
		}
	case []any:
		for i := range v {
			v[i] = hinted(v[i], o)
		}
	}
	return v
}

// TestRoundTripWithTypes: with a schema, numbers and booleans come back as they were.
func TestRoundTripWithTypes(t *testing.T) {
	doc := []byte(`{"n":1e400,"list":[1.50,2],"rows":[{"ok":true},{"ok":false}],"name":"12"}`)
	back, xml := thereAndBack(t, doc, convert.Options{Types: map[string]convert.Type{"/n": convert.Number, "/list/*": convert.Number, "/rows/*/ok": convert.Boolean}})
	if want := decode(t, doc); !reflect.DeepEqual(back, want) {
		t.Errorf("%s became %s became %v", doc, xml, back)
	}
}

// TestRoundTripAtTheLimits: what is just within the limits one way is within them on the way back.
func TestRoundTripAtTheLimits(t *testing.T) {
	o := convert.Options{Limits: convert.Limits{Depth: 5, Elements: 9, Attributes: 2}}
	for _, doc := range []string{
		`{"a":{"b":{"c":{"d":1}}}}`, `[[[["x"]]]]`, `{"a":[[["x"]]],"b":[{"c":""}]}`,
		`{"a":[],"b":[],"c":[],"d":[],"e":[],"f":[],"g":[],"h":[]}`, `["","","","","","","",""]`,
		`{"@a":1,"b":{"@c":1,"#text":"x"},"d":[[1],[2]]}`, `[[],[],[],[],[],[],[],[]]`,
	} {
		if back, xml := thereAndBack(t, []byte(doc), o); !reflect.DeepEqual(back, asText(decode(t, []byte(doc)))) {
			t.Errorf("%s became %s became %v", doc, xml, back)
		}
	}
}

// TestNamespacesSurvive: XML with prefixes that becomes JSON and XML again has the same names in the same namespaces.
func TestNamespacesSurvive(t *testing.T) {
	o := convert.Options{Namespaces: true, Root: "r"}
	first, err := toJSON(t, `<p:r xmlns:p="urn:p" xmlns="urn:d"><p:a>1</p:a><b xmlns=""><p:c/></b></p:r>`, o)
	if err != nil {
		t.Fatal(err)
	}
	xml, err := toXML(t, first, o)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := toJSON(t, xml, o); err != nil || second != first {
		t.Errorf("%s became %s became %s, %v", first, xml, second, err)
	}
}

func FuzzXMLToJSON(f *testing.F) {
	for _, doc := range []string{`<a b="1">x<c/><c>y</c></a>`, `<p:a xmlns:p="urn:p" xmlns="urn:d"><b/></p:a>`, `<a><![CDATA[<b/>]]></a>`,
		`<a xmlns:j="urn:quorumhub:json" j:type="array"><b j:item="true"/></a>`, `<?xml version="1.0" encoding="ISO-8859-1"?><a>é</a>`,
		`<!DOCTYPE a><a/>`, `<a xmlns:j="urn:quorumhub:json" j:empty="x y" j:type="text"> </a>`} {
		f.Add([]byte(doc), false)
		f.Add([]byte(doc), true)
	}
	f.Fuzz(func(t *testing.T, doc []byte, namespaces bool) {
		o := convert.Options{Namespaces: namespaces, Arrays: []string{"a/b"}, Strip: []string{"/c/*/d"}}
		var first, xml, second bytes.Buffer
		if err := convert.XMLToJSON(&first, bytes.NewReader(doc), o); err != nil {
			wantOurs(t, doc, err)
			if _, ok, _ := convert.Unwrap(doc, convert.Limits{}); ok {
				t.Fatalf("%q is refused (%v) but unwrapped", doc, err)
			}
			return
		}
		if _, _, err := convert.Unwrap(doc, convert.Limits{}); err != nil {
			wantOurs(t, doc, err)
		}
		if err := convert.StripXML(&xml, bytes.NewReader(doc), o); err != nil {
			t.Fatalf("%q converts but does not copy: %v", doc, err)
		}
		if !json.Valid(first.Bytes()) {
			t.Fatalf("%q became %q", doc, first.Bytes())
		}
		// What XML became goes to XML and back unchanged, apart from text beside children.
		xml.Reset()
		if err := convert.JSONToXML(&xml, bytes.NewReader(first.Bytes()), o); err != nil {
			t.Fatalf("%q became %s, which is refused: %v", doc, first.Bytes(), err)
		}
		if err := convert.XMLToJSON(&second, bytes.NewReader(xml.Bytes()), o); err != nil {
			t.Fatalf("%q became %s became %s: %v", doc, first.Bytes(), xml.Bytes(), err)
		}
		if a, b := decode(t, first.Bytes()), decode(t, second.Bytes()); !reflect.DeepEqual(a, b) {
			t.Fatalf("%q became %s became %s became %s", doc, first.Bytes(), xml.Bytes(), second.Bytes())
		}
	})
}

func FuzzJSONToXML(f *testing.F) {
	for _, doc := range []string{`{"a":[1,{"b":null},[]],"@c":"d","#text":"e"}`, `""`, `[["",null]]`, `{"a":{},"b":[""]}`, `{"é":"\u0001"}`, `{"a":1,"a":2}`, "\"\xff\""} {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		var xml, back bytes.Buffer
		if err := convert.JSONToXML(&xml, bytes.NewReader(doc), convert.Options{}); err != nil {
			wantOurs(t, doc, err)
			return
		}
		if err := convert.XMLToJSON(&back, bytes.NewReader(xml.Bytes()), convert.Options{}); err != nil {
			t.Fatalf("%q became %s: %v", doc, xml.Bytes(), err)
		}
		if a, b := asText(decode(t, doc)), decode(t, back.Bytes()); !reflect.DeepEqual(a, b) {
			t.Fatalf("%q became %s became %s", doc, xml.Bytes(), back.Bytes())
		}
	})
}

func wantOurs(t *testing.T, doc []byte, err error) {
	t.Helper()
	var fault *convert.Error
	if !errors.As(err, &fault) || fault.Reason == 0 || fault.Detail == "" || strings.Contains(err.Error(), "\n") {
		t.Fatalf("%q: got %v, want an error of one line with a reason", doc, err)
	}
}
