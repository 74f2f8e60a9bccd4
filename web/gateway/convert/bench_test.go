package convert_test

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"

	"quorumhub/web/gateway/convert"
)

// BenchmarkConvert converts an answer of about 100 KiB with 1,000 rows.
func BenchmarkConvert(b *testing.B) {
	var doc strings.Builder
	doc.WriteString("<addresses>")
	for i := range 1000 {
		fmt.Fprintf(&doc, `<address id="%d"><street>Main Street %d</street><city>Abu Dhabi</city><floor/></address>`, i, i)
	}
	doc.WriteString("</addresses>")
	xml := doc.String()
	json, err := toJSON(b, xml, convert.Options{})
	if err != nil {
		b.Fatal(err)
	}
	o := convert.Options{Arrays: []string{"address"}, Strip: []string{"address/internal"}, Types: map[string]convert.Type{"/address/*/floor": convert.Number}}
	for name, run := range map[string]func() error{
		"XMLToJSON": func() error { return convert.XMLToJSON(io.Discard, strings.NewReader(xml), o) },
		"JSONToXML": func() error { return convert.JSONToXML(io.Discard, strings.NewReader(json), o) },
		"StripXML":  func() error { return convert.StripXML(io.Discard, strings.NewReader(xml), o) },
		"StripJSON": func() error { return convert.StripJSON(io.Discard, strings.NewReader(json), o) },
		"Unwrap": func() error {
			_, _, err := convert.Unwrap([]byte(xml), convert.Limits{})
			return err
		},
	} {
		b.Run(name, func(b *testing.B) {
			size := len(xml)
			if strings.HasSuffix(name, "JSON") && name != "XMLToJSON" || name == "JSONToXML" {
				size = len(json)
			}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if err := run(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkSmall converts a request of a few members.
func BenchmarkSmall(b *testing.B) {
	json := []byte(`{"ID":"121","name":"A. Person","lines":["a","b"]}`)
	var xml bytes.Buffer
	for b.Loop() {
		xml.Reset()
		if err := convert.JSONToXML(&xml, bytes.NewReader(json), convert.Options{}); err != nil {
			b.Fatal(err)
		}
		if err := convert.XMLToJSON(io.Discard, &xml, convert.Options{}); err != nil {
			b.Fatal(err)
		}
	}
}
