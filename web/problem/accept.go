package problem

import (
	"strconv"
	"strings"
)

// prefersJSON reports whether a client prefers problem details to plain text (RFC 9110 section 12.5.1). Without a preference
// it gets plain text.
func prefersJSON(accept []string) bool {
	var text, details choice
	for _, line := range accept {
		for item := range strings.SplitSeq(line, ",") {
			kind, params, _ := strings.Cut(item, ";")
			kind = strings.ToLower(strings.TrimSpace(kind))
			q := Quality(params)
			text.consider(kind, q, "text/plain", "text/*")
			details.consider(kind, q, "application/problem+json", "application/json", "application/*")
		}
	}
	return details.quality > text.quality
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
