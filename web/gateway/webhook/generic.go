package webhook

import (
	"encoding/base64"
	"hash"
	"net/http"
	"slices"
	"strings"
	"time"

	"quorumhub/web/problem"
)

// generic is a sender that the configuration describes.
type generic struct {
	keys                         [][]byte
	algorithm                    func() hash.Hash
	size                         int // of a signature, in bytes
	header, prefix, encoding     string
	timestamp, format, id, event string
	signed                       []string // placeholders and the text between them
	tolerance                    time.Duration
}

func (v *generic) Verify(h http.Header, body []byte, now time.Time) (Delivery, error) {
	header, err := once(h, v.header)
	if err != nil {
		return Delivery{}, err
	}
	var d Delivery
	var timestamp string
	if v.timestamp != "" {
		if timestamp, err = once(h, v.timestamp); err != nil {
			return Delivery{}, err
		}
		if d.SentAt, err = v.time(timestamp); err != nil {
			return Delivery{}, err
		}
		if err := fresh(d.SentAt, now, v.tolerance); err != nil {
			return Delivery{}, err
		}
		d.ClaimUntil = d.SentAt.Add(v.tolerance)
	}
	if d.ID, err = v.optional(h, v.id, v.separator()); err != nil {
		return Delivery{}, err
	}
	if d.Event, err = v.optional(h, v.event, ""); err != nil {
		return Delivery{}, err
	}
	signature, ok := v.decode(header)
	if !ok {
		return Delivery{}, refused("%s is malformed; expected %q and a signature of %d bytes in %s", v.header, v.prefix, v.size, v.encoding)
	}
	var parts [][]byte
	for _, p := range v.signed {
		switch p {
		case "{body}":
			parts = append(parts, body)
		case "{timestamp}":
			parts = append(parts, []byte(timestamp))
		case "{id}":
			parts = append(parts, []byte(d.ID))
		default:
			parts = append(parts, []byte(p))
		}
	}
	if !signs(v.algorithm, v.keys, [][]byte{signature}, parts...) {
		return Delivery{}, wrongSignature()
	}
	d.Claim = hashOf(parts...)
	if slices.Contains(v.signed, "{id}") {
		d.Claim = claimOf(d.ID)
	}
	return d, nil
}

// separator is what an id must not contain: the characters that set it apart in the signed text.
func (v *generic) separator() (not string) {
	at := slices.Index(v.signed, "{id}")
	if at > 0 && v.signed[at-1][0] != '{' {
		before := v.signed[at-1]
		not = before[len(before)-1:]
	}
	if at >= 0 && at+1 < len(v.signed) {
		not += v.signed[at+1][:1]
	}
	return not
}

// optional returns the header that the configuration names, which must then be there, once.
func (v *generic) optional(h http.Header, name, not string) (string, error) {
	if name == "" {
		return "", nil
	}
	value, err := once(h, name)
	if err == nil && !plain(value, not) {
		err = refused("%s is %s; expected at most %d characters of visible ASCII%s", name, problem.Quote(value), maxID, without(not))
	}
	return value, err
}

func without(not string) string {
	if not == "" {
		return ""
	}
	return " without " + problem.Quote(not)
}

// time reads a timestamp in the configured format. Each ends where it ends, so that nothing can be taken from what
// follows it in the signed text.
func (v *generic) time(s string) (time.Time, error) {
	digits := strings.Trim(s, "0123456789") == ""
	switch v.format {
	case "unix":
		if digits && len(s) == 10 {
			return seconds(s)
		}
	case "unix_ms":
		if digits && len(s) == 13 {
			t, err := seconds(s[:10])
			var ms time.Duration
			for _, c := range s[10:] {
				ms = 10*ms + time.Duration(c-'0')*time.Millisecond
			}
			return t.Add(ms), err
		}
	case "rfc3339":
		if t, err := time.Parse(time.RFC3339, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, refused("%s is %s; expected a time as %s", v.timestamp, problem.Quote(s), v.format)
}

func (v *generic) decode(header string) ([]byte, bool) {
	text, ok := strings.CutPrefix(header, v.prefix)
	if !ok {
		return nil, false
	}
	if v.encoding == "hex" {
		return unhex(text, v.size)
	}
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	return b, err == nil && len(b) == v.size
}
