package login

import (
	"net/url"
	"slices"
	"strings"
)

// maxReturn bounds where somebody is sent after logging in, which the context's cookie must hold.
const maxReturn = 1024

// ReturnPath reports whether somebody may be sent to a place after logging in: a path on this hub, with a query perhaps, that no
// browser takes for anything else. So it has no scheme and no host, no backslash (browsers read it as a slash), nothing that browsers
// drop (control characters), and no segment that they resolve or that could begin a host.
func ReturnPath(to string) bool {
	if len(to) > maxReturn || !strings.HasPrefix(to, "/") {
		return false
	}
	if strings.ContainsFunc(to, func(c rune) bool { return c <= ' ' || c >= 0x7f || c == '\\' }) {
		return false
	}
	u, err := url.Parse(to)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || u.Opaque != "" || !strings.HasPrefix(u.Path, "/") {
		return false
	}
	if strings.ContainsFunc(u.Path, func(c rune) bool { return c < ' ' || c == 0x7f || c == '\\' }) {
		return false
	}
	segments := strings.Split(u.Path, "/")[1:]
	return !slices.Contains(segments[:len(segments)-1], "") && !slices.Contains(segments, "..") && !slices.Contains(segments, ".")
}
