package registry

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// partName returns the name in a segment {name}, or "".
func partName(segment string) string {
	if len(segment) < 3 || segment[0] != '{' || segment[len(segment)-1] != '}' {
		return ""
	}
	name := segment[1 : len(segment)-1]
	if len(name) > 32 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" {
		return ""
	}
	return name
}

// partsOf returns the names in braces of a URI, in its order.
func partsOf(uri string) []string {
	if !strings.Contains(uri, "{") {
		return nil
	}
	var out []string
	for segment := range strings.SplitSeq(uri, "/") {
		if name := partName(segment); name != "" {
			out = append(out, name)
		}
	}
	return out
}

// sameParts compares two lists of names without regard to order.
func sameParts(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}

func braces(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return "{" + strings.Join(names, "}, {") + "}"
}

// shapeOf returns a URI without the names of its parts: two URIs of one shape match the same requests.
func shapeOf(uri string) string {
	if !strings.Contains(uri, "{") {
		return uri
	}
	segments := strings.Split(uri, "/")
	for i, s := range segments {
		if partName(s) != "" {
			segments[i] = "{}"
		}
	}
	return strings.Join(segments, "/")
}

// versionSegment reports whether a path's first segment chooses a version: v and a digit, or v and the name of a version.
func versionSegment(s string, isVersion func(string) bool) bool {
	if len(s) < 2 || s[0] != 'v' {
		return false
	}
	return s[1] >= '0' && s[1] <= '9' || isVersion(s[1:])
}

// pathMistake says what is wrong with an escaped path, or "". It is what no path of a request and none of an upstream may have, since
// servers disagree on what it means: empty and dot segments, also percent-encoded, encoded slashes, backslashes and percent signs,
// control characters, and percent signs that encode nothing.
func pathMistake(p string) string {
	segment := 0 // where it begins
	for i := 0; i <= len(p); i++ {
		if i == len(p) || p[i] == '/' {
			if detail := segmentMistake(p[segment:i], segment > 0 && i < len(p)); detail != "" {
				return detail
			}
			segment = i + 1
			continue
		}
		switch c := p[i]; {
		case c <= ' ' || c == 0x7f || c >= 0x80:
			return "has a control character, a space or a byte that is not percent-encoded"
		case c == '\\', c == '?', c == '#':
			return fmt.Sprintf("has %q", c)
		case c == '%':
			value, ok := hexByte(p[i+1:])
			switch {
			case !ok:
				return "has a percent sign that encodes nothing"
			case value == '/' || value == '\\' || value == '%' || value < ' ' || value == 0x7f:
				return fmt.Sprintf("has %s, an encoded slash, backslash, percent sign or control character", strings.ToUpper(p[i:i+3]))
			}
		}
	}
	return ""
}

// segmentMistake judges one segment; middle says that it stands between two slashes.
func segmentMistake(s string, middle bool) string {
	if s == "" {
		if middle {
			return "has an empty segment (//)"
		}
		return ""
	}
	if s[0] != '.' && s[0] != '%' {
		return ""
	}
	// A dot may be encoded, and what follows a semicolon is not part of the name for some servers.
	dots := 0
	for len(s) > 0 {
		switch {
		case s[0] == '.':
			s = s[1:]
		case len(s) >= 3 && s[0] == '%' && s[1] == '2' && (s[2] == 'E' || s[2] == 'e'):
			s = s[3:]
		case s[0] == ';', len(s) >= 3 && s[0] == '%' && s[1] == '3' && (s[2] == 'B' || s[2] == 'b'):
			s = ""
			continue
		default:
			return ""
		}
		dots++
	}
	if dots == 1 || dots == 2 {
		return "has a dot segment (. or ..)"
	}
	return ""
}

// hexByte returns the byte that two hexadecimal digits at the start of s stand for.
func hexByte(s string) (byte, bool) {
	if len(s) < 2 {
		return 0, false
	}
	high, ok := hexDigit(s[0])
	low, also := hexDigit(s[1])
	return high<<4 | low, ok && also
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// day returns a date as the registry writes it.
func day(t time.Time) string {
	if t.Hour() == 0 && t.Minute() == 0 && t.Second() == 0 {
		return t.Format(time.DateOnly)
	}
	return t.Format(time.RFC3339)
}
