package auth

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// geoClaim is what a request claims. Nothing in it is proven yet.
type geoClaim struct {
	fields    map[string]string // without the signature
	signature string
	signed    string // the exact text that was signed
	withBody  bool   // followed by the body
}

var geoFields = [...]string{"geo-username", "geo-key-id", "geo-source-system-name", "geo-target-system-name", "geo-expires-by", "geo-nonce", "geo-signature"}

// geoNeeded are the mandatory fields.
var geoNeeded = [...]string{"geo-key-id", "geo-expires-by", "geo-nonce"}

// maxGEOBytes bounds the text to parse.
const maxGEOBytes = 16 << 10

func geoClaimOf(r *Request) (*geoClaim, error) {
	header, there, err := geoHeader(r.HTTP.Header)
	if err != nil {
		return nil, err
	}
	query := r.HTTP.URL.RawQuery
	inQuery := strings.Contains(query, "geo-signature")
	switch {
	case !there && !inQuery:
		return nil, ErrNotMine
	case there && inQuery:
		return nil, refuse(MethodGEO, "signed in the header and in the query")
	case len(header) > maxGEOBytes || len(query) > maxGEOBytes:
		return nil, refuse(MethodGEO, "header or query exceeds %d bytes", maxGEOBytes)
	case inQuery && r.HTTP.Method != http.MethodGet && r.HTTP.Method != http.MethodHead:
		return nil, refuse(MethodGEO, "signed in the query, but the method is %s", r.HTTP.Method)
	case inQuery:
		return geoQuery(query)
	case query != "":
		return nil, refuse(MethodGEO, "signed in the header, which does not cover the query")
	}
	return geoBody(header)
}

func geoHeader(h http.Header) (value string, there bool, err error) {
	var found []string
	found = append(found, h["Geo-Auth"]...)
	for _, v := range h["Authorization"] {
		if scheme, rest, _ := strings.Cut(v, " "); strings.EqualFold(scheme, "GEO-Auth") {
			found = append(found, strings.TrimLeft(rest, " "))
		}
	}
	if len(found) > 1 {
		return "", true, refuse(MethodGEO, "more than one GEO-Auth header")
	}
	if len(found) == 0 {
		return "", false, nil
	}
	return found[0], true, nil
}

// geoBody parses a signed POST. The signed text is the header up to the signature, verbatim, followed by the body.
func geoBody(header string) (*geoClaim, error) {
	const mark = ",geo-signature="
	at := strings.LastIndex(header, mark)
	if at < 0 {
		return nil, refuse(MethodGEO, "the header does not end in %s...", mark)
	}
	c := &geoClaim{fields: map[string]string{}, signature: strings.TrimSpace(header[at+len(mark):])}
	last := ""
	for part := range strings.SplitSeq(header[:at], ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok {
			return nil, refuse(MethodGEO, "%q in the header is not name=value", clip(part))
		}
		if err := c.put(name, value); err != nil {
			return nil, err
		}
		last = name
	}
	// Nothing separates header and body in the signed text. The nonce has a fixed length, so as the last field it keeps the
	// boundary where the signer put it.
	if last != "geo-nonce" {
		return nil, refuse(MethodGEO, "the last field before the signature is %q, expected geo-nonce", clip(last))
	}
	if header[at-1] == ' ' || header[at-1] == '\t' {
		return nil, refuse(MethodGEO, "whitespace between geo-nonce and the signature")
	}
	c.signed, c.withBody = header[:at], true
	return c, c.complete()
}

// geoQuery parses a signed GET. The signed text is the decoded query up to the signature, in its original order.
func geoQuery(raw string) (*geoClaim, error) {
	if !strings.Contains(raw, "&") {
		// Some callers encode the query as a whole, separators included.
		whole, err := url.QueryUnescape(raw)
		if err == nil && strings.Contains(whole, "&geo-signature=") {
			raw = escapePieces(whole)
		}
	}
	c := &geoClaim{fields: map[string]string{}}
	var signed []string
	pieces := strings.Split(raw, "&")
	for i, piece := range pieces {
		rawName, rawValue, ok := strings.Cut(piece, "=")
		name, err1 := url.QueryUnescape(rawName)
		value, err2 := url.QueryUnescape(rawValue)
		switch {
		case !ok || err1 != nil || err2 != nil:
			return nil, refuse(MethodGEO, "%q in the query is not an encoded name=value", clip(piece))
		case name == "geo-signature":
			if i != len(pieces)-1 {
				return nil, refuse(MethodGEO, "geo-signature is not the last parameter")
			}
			c.signature = strings.ReplaceAll(value, " ", "+") // unescaped base64
			continue
		case strings.ContainsAny(name, "&=") || strings.Contains(value, "&"):
			// The signature covers the decoded text, where this would be ambiguous.
			return nil, refuse(MethodGEO, "encoded & or = in %q", clip(name))
		case strings.HasPrefix(strings.ToLower(name), "geo-"):
			if err := c.put(name, value); err != nil {
				return nil, err
			}
		}
		signed = append(signed, name+"="+value)
	}
	c.signed = strings.Join(signed, "&")
	return c, c.complete()
}

// escapePieces encodes names and values but not the separators.
func escapePieces(query string) string {
	pieces := strings.Split(query, "&")
	for i, p := range pieces {
		name, value, _ := strings.Cut(p, "=")
		pieces[i] = url.QueryEscape(name) + "=" + url.QueryEscape(value)
	}
	return strings.Join(pieces, "&")
}

func (c *geoClaim) put(name, value string) error {
	switch _, twice := c.fields[name]; {
	case !slices.Contains(geoFields[:], name) || name == "geo-signature":
		return refuse(MethodGEO, "unknown field %q", clip(name))
	case twice:
		return refuse(MethodGEO, "duplicate field %s", name)
	}
	c.fields[name] = value
	return nil
}

func (c *geoClaim) complete() error {
	for _, n := range geoNeeded {
		if c.fields[n] == "" {
			return refuse(MethodGEO, "%s is missing", n)
		}
	}
	if c.signature == "" {
		return refuse(MethodGEO, "geo-signature is missing")
	}
	return nil
}
