package problem

import (
	"strconv"
	"strings"
)

// Form is what an error looks like to a client.
type Form int

// The forms of an error.
const (
	Text Form = iota // one line
	JSON             // application/problem+json
	XML              // application/problem+xml
)

// mediaRanges are the ranges of Accept that match a form, the most specific first.
func (f Form) mediaRanges() []string {
	switch f {
	case JSON:
		return []string{"application/problem+json", "application/json", "application/*"}
	case XML:
		return []string{"application/problem+xml", "application/xml", "text/xml", "application/*"}
	default:
		return []string{"text/plain", "text/*"}
	}
}

// Prefer returns the form that a client wants most by its Accept headers (RFC 9110 section 12.5.1), and the first of several
// that it wants as much. A client that wants none of them gets the first too: an error is always told.
func Prefer(accept []string, forms ...Form) Form {
	best, most := forms[0], Weight(accept, forms[0].mediaRanges()...)
	for _, f := range forms[1:] {
		if w := Weight(accept, f.mediaRanges()...); w > most {
			best, most = f, w
		}
	}
	return best
}

// Weight returns how much a client wants a media type by its Accept headers: from 0, not at all, to 1. ranges are those that
// match the type besides */*, the most specific first; only the most specific that the client names counts. Parameters other
// than q are ignored. Without an Accept header the weight is 0, although the client accepts everything.
func Weight(accept []string, ranges ...string) float64 {
	var c choice
	for _, line := range accept {
		for item := range strings.SplitSeq(line, ",") {
			kind, params, _ := strings.Cut(item, ";")
			c.consider(strings.ToLower(strings.TrimSpace(kind)), Quality(params), ranges...)
		}
	}
	return c.quality
}

// choice is how much a client wants one media type.
type choice struct {
	quality  float64
	specific int // how specific the range is that set the quality; 0: none yet
}

// consider applies one range of an Accept header. names are the ranges that match the type, the most specific first; a more
// specific range overrides a less specific one.
func (c *choice) consider(kind string, q float64, names ...string) {
	specific := 0
	if kind == "*/*" {
		specific = 1
	}
	for i, name := range names {
		if kind == name {
			specific = len(names) - i + 1
			break
		}
	}
	if specific > c.specific || specific == c.specific && specific > 0 && q > c.quality {
		c.specific, c.quality = specific, q
	}
}

// Quality returns the weight q in the parameters of an Accept range (RFC 9110 section 12.4.2): 1 if absent, 0 if malformed.
func Quality(params string) float64 {
	for param := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(param, "=")
		if strings.EqualFold(strings.TrimSpace(name), "q") {
			q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil || q < 0 || q > 1 {
				return 0
			}
			return q
		}
	}
	return 1
}
