package hubtest

import (
	"net/url"
	"strings"
)

// Param is a decoded name and value.
type Param struct{ Name, Value string }

// Form encodes alternating names and values as application/x-www-form-urlencoded, in that order.
func Form(namesAndValues ...string) string {
	if len(namesAndValues)%2 != 0 {
		panic("hubtest.Form needs names and values in pairs")
	}
	var parts []string
	for i := 0; i < len(namesAndValues); i += 2 {
		parts = append(parts, url.QueryEscape(namesAndValues[i])+"="+url.QueryEscape(namesAndValues[i+1]))
	}
	return strings.Join(parts, "&")
}

// Params parses a query or form and keeps the order. Names and values that cannot be decoded are kept as they
// are.
func Params(encoded string) []Param {
	var out []Param
	for part := range strings.SplitSeq(encoded, "&") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		out = append(out, Param{unescape(name), unescape(value)})
	}
	return out
}

func unescape(s string) string {
	if out, err := url.QueryUnescape(s); err == nil {
		return out
	}
	return s
}
