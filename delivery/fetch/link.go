package fetch

import (
	"net/url"
	"strings"
)

// link is one link of a Link header (RFC 8288).
type link struct {
	target string
	rels   []string // lower case
}

// parseLinks parses Link header values. It omits what it cannot parse.
func parseLinks(values []string) []link {
	var out []link
	for _, v := range values {
		for {
			start := strings.IndexByte(v, '<')
			if start < 0 {
				break
			}
			end := strings.IndexByte(v[start:], '>')
			if end < 0 {
				break
			}
			l := link{target: strings.TrimSpace(v[start+1 : start+end])}
			v = v[start+end+1:]
			var anchored bool
			l.rels, anchored, v = parseLinkParams(v)
			if !anchored {
				out = append(out, l)
			}
		}
	}
	return out
}

// parseLinkParams parses ;name=value pairs up to the comma that ends the link, and returns the rest. A link with an
// anchor is about another resource. The first of several rel parameters counts.
func parseLinkParams(v string) (rels []string, anchored bool, rest string) {
	seen := false
	for {
		v = strings.TrimLeft(v, " \t")
		if v == "" {
			return rels, anchored, ""
		}
		if v[0] == ',' {
			return rels, anchored, v[1:]
		}
		if v[0] != ';' {
			// Malformed: continue after the next separator.
			i := strings.IndexAny(v, ",;")
			if i < 0 {
				return rels, anchored, ""
			}
			v = v[i:]
			continue
		}
		v = strings.TrimLeft(v[1:], " \t")
		i := strings.IndexAny(v, "=;,")
		if i < 0 || v[i] != '=' {
			if i < 0 {
				return rels, anchored, ""
			}
			v = v[i:]
			continue
		}
		name := strings.ToLower(strings.TrimRight(v[:i], " \t"))
		var value string
		value, v = linkValue(strings.TrimLeft(v[i+1:], " \t"))
		switch {
		case name == "rel" && !seen:
			seen = true
			rels = strings.Fields(strings.ToLower(value))
		case name == "anchor":
			anchored = true
		}
	}
}

// linkValue parses a token or a quoted string.
func linkValue(v string) (value, rest string) {
	if v == "" || v[0] != '"' {
		i := strings.IndexAny(v, ";,")
		if i < 0 {
			return strings.TrimSpace(v), ""
		}
		return strings.TrimSpace(v[:i]), v[i:]
	}
	var b strings.Builder
	for i := 1; i < len(v); i++ {
		switch v[i] {
		case '"':
			return b.String(), v[i+1:]
		case '\\':
			if i++; i < len(v) {
				b.WriteByte(v[i])
			}
		default:
			b.WriteByte(v[i])
		}
	}
	return b.String(), ""
}

// discover returns the absolute http(s) targets of rel=hub and of the first rel=self, resolved against base (WebSub
// section 4).
func discover(values []string, base *url.URL) (hubs []string, self string) {
	for _, l := range parseLinks(values) {
		u, err := base.Parse(l.target)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			continue
		}
		for _, rel := range l.rels {
			switch {
			case rel == "hub":
				hubs = append(hubs, u.String())
			case rel == "self" && self == "":
				self = u.String()
			}
		}
	}
	return hubs, self
}
