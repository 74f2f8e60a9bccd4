package auth

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// geoClaim is what a request says of itself. Nothing of it is proven.
type geoClaim struct {
	fields    map[string]string // without the signature
	signature string
	signed    string // the text that was signed, exactly
}

var geoFields = [...]string{"geo-username", "geo-key-id", "geo-source-system-name", "geo-target-system-name", "geo-expires-by", "geo-nonce", "geo-signature"}

// geoNeeded are the fields without which there is nothing to check.
var geoNeeded = [...]string{"geo-key-id", "geo-expires-by", "geo-nonce"}

// maxGEOBytes bounds the text that is taken apart.
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
		return nil, refuse(MethodGEO, "more than %d bytes to take apart", maxGEOBytes)
	case inQuery && r.HTTP.Method != http.MethodGet && r.HTTP.Method != http.MethodHead:
		return nil, refuse(MethodGEO, "signed in the query, but the method is %s", r.HTTP.Method)
	case inQuery:
		return geoQuery(query)
	case query != "":
		return nil, refuse(MethodGEO, "signed in the header, which does not cover the query")
	}
	body, err := r.Body()
	if err != nil {
		return nil, err
	}
	return geoBody(header, body)
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

// geoBody takes a signed POST: the header up to the signature, verbatim, and then the body.
func geoBody(header string, body []byte) (*geoClaim, error) {
	const mark = ",geo-signature="
	at := strings.LastIndex(header, mark)
	if at < 0 {
		return nil, refuse(MethodGEO, "the header does not end in %s…", mark)
	}
	c := &geoClaim{fields: map[string]string{}, signature: strings.TrimSpace(header[at+len(mark):])}
	last := ""
	for part := range strings.SplitSeq(header[:at], ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok {
			return nil, refuse(MethodGEO, "%q in the header is no name=value", clip(part))
		}
		if err := c.put(name, value); err != nil {
			return nil, err
		}
		last = name
	}
	// Header and body follow one another without a mark between them. The nonce has a fixed length, so as the last
	// field it keeps the border where the signer drew it.
	if last != "geo-nonce" {
		return nil, refuse(MethodGEO, "the last field before the signature is %q, expected geo-nonce", clip(last))
	}
	if header[at-1] == ' ' || header[at-1] == '\t' {
		return nil, refuse(MethodGEO, "space between geo-nonce and the signature")
	}
	c.signed = header[:at] + string(body)
	return c, c.complete()
}

// geoQuery takes a signed GET: the decoded query up to the signature, in the order in which it came.
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
			return nil, refuse(MethodGEO, "%q in the query is no encoded name=value", clip(piece))
		case name == "geo-signature":
			if i != len(pieces)-1 {
				return nil, refuse(MethodGEO, "geo-signature is not the last parameter")
			}
			c.signature = strings.ReplaceAll(value, " ", "+") // base64 that nobody encoded
			continue
		case strings.ContainsAny(name, "&=") || strings.Contains(value, "&"):
			// The signature covers the decoded text, in which this could be read in two ways.
			return nil, refuse(MethodGEO, "a decoded & or = in %q", clip(name))
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

// escapePieces encodes names and values and keeps the separators.
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
		return refuse(MethodGEO, "field %q is not known here", clip(name))
	case twice:
		return refuse(MethodGEO, "field %s is given twice", name)
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
