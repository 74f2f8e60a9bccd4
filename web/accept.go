package web

import (
	"strconv"
	"strings"
)

// prefersJSON tells whether a client would rather read problem details than plain text (RFC 9110 section 12.5.1). Without
// a preference it is plain text, which WebSub 5.1.2 asks for.
func prefersJSON(accept []string) bool {
	text, problem := 0.0, 0.0
	textRank, problemRank := -1, -1
	for _, line := range accept {
		for item := range strings.SplitSeq(line, ",") {
			kind, params, _ := strings.Cut(item, ";")
			kind = strings.ToLower(strings.TrimSpace(kind))
			q := quality(params)
			consider(kind, q, &text, &textRank, "text/plain", "text/*")
			consider(kind, q, &problem, &problemRank, "application/problem+json", "application/json", "application/*")
		}
	}
	return problem > text
}

// consider applies one range of an Accept header to a type that goes by the given names: the most specific range
// counts, and the first name is more specific than the later ones.
func consider(kind string, q float64, best *float64, rank *int, names ...string) {
	specific := -1
	if kind == "*/*" {
		specific = 0
	}
	for i, name := range names {
		if kind == name {
			specific = len(names) - i
			break
		}
	}
	if specific > *rank || specific == *rank && specific >= 0 && q > *best {
		*rank, *best = specific, q
	}
}

func quality(params string) float64 {
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
