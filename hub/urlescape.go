package hub

import (
	"strings"
)

const upperHex = "0123456789ABCDEF"

// EscapeURL returns the URL as it goes on the wire: what may stand in a URL (RFC 3986 sections 2.2 and 2.3) is as
// given, byte for byte; anything else is percent-encoded; nothing is decoded. url.Parse keeps the path of such a URL
// as it is, whereas it rewrites all of a path that holds one character out of place.
func EscapeURL(raw string) string {
	bad := 0
	for i := range len(raw) {
		if !urlByte(raw[i]) {
			bad++
		}
	}
	if bad == 0 {
		return raw
	}
	out := make([]byte, 0, len(raw)+2*bad)
	for i := range len(raw) {
		if c := raw[i]; urlByte(c) {
			out = append(out, c)
		} else {
			out = append(out, '%', upperHex[c>>4], upperHex[c&15])
		}
	}
	return string(out)
}

// urlByte reports whether c may stand in a URL: an unreserved or reserved character, or the % of an escape. The
// brackets count although only hosts may hold them, because encoding a reserved character changes what a URL means.
func urlByte(c byte) bool {
	return isUnreserved(c) || strings.IndexByte(":/?#[]@!$&'()*+,;=%", c) >= 0
}

// hasDotSegment reports whether a path has a segment that some server takes for "." or "..", and so whether it may
// lead elsewhere than its beginning says: with its dots or slashes percent-encoded, any number of times, with
// backslashes, with parameters (..;x), with control characters or spaces, in overlong UTF-8 or in compatibility
// characters.
func hasDotSegment(path string) bool {
	plain := true
	for i := range len(path) {
		if path[i] == '%' || path[i] < ' ' || path[i] >= 0x7f {
			plain = false
			break
		}
	}
	if !plain {
		path = flattened(path)
	}
	for more := true; more; {
		segment := path
		if i := strings.IndexAny(path, `/\`); i >= 0 {
			segment, path = path[:i], path[i+1:]
		} else {
			more = false
		}
		segment, _, _ = strings.Cut(segment, ";")
		if segment = strings.Trim(segment, " "); segment == "." || segment == ".." {
			return true
		}
	}
	return false
}

// flattened decodes a path until there is nothing left to decode, drops its control characters, and replaces the
// spellings of dots and slashes that are not ASCII.
func flattened(path string) string {
	out := make([]byte, 0, len(path))
	for i := range len(path) {
		out = append(out, path[i])
		for n := len(out); n >= 3 && out[n-3] == '%' && isHex(out[n-2]) && isHex(out[n-1]); n = len(out) {
			out = append(out[:n-3], unhex(out[n-2])<<4|unhex(out[n-1]))
		}
		if c := out[len(out)-1]; c < ' ' || c == 0x7f {
			out = out[:len(out)-1]
		}
	}
	return strings.NewReplacer(
		"\xc0\xae", ".", "\xe0\x80\xae", ".", "\xc0\xaf", "/", "\xe0\x80\xaf", "/", "\xc1\x9c", `\`, "\xe0\x81\x9c", `\`,
		"\u2024", ".", "\u2025", "..", "\ufe52", ".", "\uff0e", ".", "\uff0f", "/", "\uff3c", `\`,
	).Replace(string(out))
}
