package convert

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"slices"
)

// soapSpaces are the namespaces of SOAP 1.1 and 1.2.
var soapSpaces = []string{"http://schemas.xmlsoap.org/soap/envelope/", "http://www.w3.org/2003/05/soap-envelope"}

// Unwrap returns the XML document that is the single text node of doc, or of the Body if doc is a SOAP envelope, and true; doc
// itself and false if there is no such text, or it is no XML. The text may be CDATA or escaped; white space between elements
// does not count. It is parsed once: what is wrapped inside it stays as it is. An XML declaration in it is dropped, since the
// text has been decoded with that of doc.
//
// Text that is XML, but is refused or over the limits, is an *Error, and so is a doc that is no XML.
func Unwrap(doc []byte, limits Limits) ([]byte, bool, error) {
	inner, err := singleText(doc, limits.orDefault())
	if err != nil || !bytes.HasPrefix(inner, []byte("<")) {
		return doc, false, err
	}
	if bytes.HasPrefix(inner, []byte("<?xml ")) {
		_, rest, found := bytes.Cut(inner, []byte("?>"))
		if !found {
			return doc, false, nil
		}
		inner = bytes.TrimLeft(rest, " \t\r\n")
	}
	err = scan(inner, limits.orDefault(), func(xml.Token) bool { return true })
	var fault *Error
	switch {
	case err == nil:
		return inner, true, nil
	case errors.As(err, &fault) && fault.Reason == Malformed:
		return doc, false, nil
	}
	return doc, false, err
}

// singleText returns the only text of a document that is more than white space, trimmed; nil if there is none or another. In a
// SOAP envelope it looks into the Body only.
func singleText(doc []byte, limits Limits) ([]byte, error) {
	var text, single []byte
	found, depth, soap, inBody := 0, 0, false, false
	flush := func() {
		if text = bytes.Trim(text, " \t\r\n"); len(text) > 0 && (!soap || inBody) {
			found++
			single = text
		}
		text = nil
	}
	err := scan(doc, limits, func(t xml.Token) bool {
		switch t := t.(type) {
		case xml.StartElement:
			flush()
			depth++
			switch {
			case depth == 1 && t.Name.Local == "Envelope":
				soap = slices.ContainsFunc(t.Attr, func(a xml.Attr) bool { return slices.Contains(soapSpaces, a.Value) })
			case depth == 2 && soap:
				inBody = t.Name.Local == "Body"
			}
		case xml.EndElement:
			flush()
			if depth--; depth == 1 {
				inBody = false
			}
		case xml.CharData:
			text = append(text, t...)
		}
		return found <= 1
	})
	if found != 1 {
		single = nil
	}
	return single, err
}

// scan reads a document and shows its tokens, until show has seen enough.
func scan(doc []byte, limits Limits, show func(xml.Token) bool) error {
	s, err := newScanner(bytes.NewReader(doc), limits)
	if err != nil {
		return err
	}
	for {
		t, err := s.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if !show(t) {
			return nil
		}
	}
}
