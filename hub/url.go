package hub

import (
	"errors"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxURLBytes is the longest topic or callback URL accepted.
const MaxURLBytes = 2048

// ParseURL validates a URL that a client gave as the parameter param: an absolute http or https URL with a host,
// without user info or fragment, at most MaxURLBytes long. It returns the parsed form; errors are *Error and name the
// parameter. Towards the callback the hub uses the raw string (WebSub 5.1.1).
func ParseURL(param, raw string) (*url.URL, error) {
	const expected = "expected an absolute http or https URL such as https://example.com/path"
	switch {
	case raw == "":
		return nil, ParamErrorf(param, "is missing or empty; %s", expected)
	case len(raw) > MaxURLBytes:
		return nil, ParamErrorf(param, "is %d bytes long; at most %d are accepted", len(raw), MaxURLBytes)
	}
	if !utf8.ValidString(raw) {
		return nil, ParamErrorf(param, "is not valid UTF-8; %s", expected)
	}
	for i := range len(raw) {
		if raw[i] <= ' ' || raw[i] == 0x7f || raw[i] == '"' || raw[i] == '<' || raw[i] == '>' || raw[i] == '\\' {
			return nil, ParamErrorf(param, "contains the character %q at byte %d, which must be percent-encoded in a URL", raw[i], i+1)
		}
	}
	if n := len(EscapeURL(raw)); n > MaxURLBytes {
		return nil, ParamErrorf(param, "is %d bytes long with what may not stand in a URL percent-encoded; at most %d are accepted", n, MaxURLBytes)
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, ParamErrorf(param, "%s is not a URL (%v); %s", quoteURL(raw), urlProblem(raw, err), expected)
	}
	switch {
	case u.Scheme == "":
		return nil, ParamErrorf(param, "%s is relative; %s", quoteURL(raw), expected)
	case !strings.EqualFold(u.Scheme, "http") && !strings.EqualFold(u.Scheme, "https"):
		return nil, ParamErrorf(param, "%s has the scheme %q; only http and https are accepted", quoteURL(raw), u.Scheme)
	case u.Opaque != "" || u.Hostname() == "":
		return nil, ParamErrorf(param, "%s has no host; %s", quoteURL(raw), expected)
	case u.User != nil:
		return nil, ParamErrorf(param, "must not contain a user name or password; use a secret path or query parameter instead")
	case u.Fragment != "" || strings.Contains(raw, "#"):
		return nil, ParamErrorf(param, "%s has a fragment (#...); remove it", quoteURL(raw))
	}
	if problem := hostProblem(u); problem != "" {
		return nil, ParamErrorf(param, "%s: %s", quoteURL(raw), problem)
	}
	if !validEscapes(raw) {
		return nil, ParamErrorf(param, "%s has a %% that is not followed by two hexadecimal digits", quoteURL(raw))
	}
	if hasDotSegment(rawPath(raw)) {
		return nil, ParamErrorf(param, "%s has . or .. as a segment of its path, however encoded; give the URL that it leads to", quoteURL(raw))
	}
	return u, nil
}

// rawPath returns the path of an absolute URL as it was given.
func rawPath(raw string) string {
	_, rest, _ := strings.Cut(raw, "://")
	rest, _, _ = strings.Cut(rest, "?")
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		return rest[i:]
	}
	return ""
}

// hostProblem rejects hosts that different programs read differently: octal, hexadecimal or single-number addresses,
// zone IDs, ports out of range.
func hostProblem(u *url.URL) string {
	host := u.Hostname()
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return "the port must be between 1 and 65535"
		}
	}
	if strings.HasPrefix(u.Host, "[") {
		if a, err := netip.ParseAddr(host); err != nil || a.Zone() != "" {
			return "the IPv6 address is not valid here (zone IDs are not accepted)"
		}
		return ""
	}
	if len(host) > 253 {
		return "the host name is too long"
	}
	for i := range len(host) {
		c := host[i]
		if c >= 0x80 {
			return "the host name must be in ASCII; write it in its xn-- form"
		}
		if !isAlnum(c) && c != '-' && c != '.' && c != '_' {
			return "the host name has a character that is not allowed"
		}
	}
	last := host
	if i := strings.LastIndexByte(strings.TrimSuffix(host, "."), '.'); i >= 0 {
		last = strings.TrimSuffix(host, ".")[i+1:]
	}
	if last == "" || strings.Contains(host, "..") || strings.HasPrefix(host, ".") {
		return "the host name has an empty label"
	}
	if c := last[0]; c >= '0' && c <= '9' {
		a, err := netip.ParseAddr(host)
		if err != nil || !a.Is4() {
			return "a host that ends in a number must be an IPv4 address in the form 192.0.2.1"
		}
	}
	return ""
}

// NormalizeURL returns the form of a URL that identifies it: scheme and host in lower case, no default port, "/" for
// an empty path, percent-encoded unreserved characters decoded, other escapes in upper case, bytes outside ASCII
// percent-encoded (RFC 3986 sections 6.2.2 and 6.2.3, WebSub 5.1.1). raw must have passed ParseURL.
func NormalizeURL(raw string) string {
	scheme, rest, _ := strings.Cut(raw, "://")
	scheme = strings.ToLower(scheme)
	authority, tail := rest, ""
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		authority, tail = rest[:i], rest[i:]
	}
	authority = strings.ToLower(authority)
	if scheme == "http" {
		authority = strings.TrimSuffix(authority, ":80")
	} else {
		authority = strings.TrimSuffix(authority, ":443")
	}
	authority = strings.TrimSuffix(authority, ":")
	if tail == "" || tail[0] == '?' {
		tail = "/" + tail
	}
	return scheme + "://" + authority + normalizeEscapes(tail)
}

func normalizeEscapes(s string) string {
	clean := true
	for i := range len(s) {
		if s[i] == '%' || s[i] >= 0x80 {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	out := make([]byte, 0, len(s)+8)
	for i := 0; i < len(s); i++ {
		c := s[i]
		escaped := false
		if c == '%' && i+2 < len(s) {
			c = unhex(s[i+1])<<4 | unhex(s[i+2])
			escaped = true
			i += 2
		}
		switch {
		case escaped && !isUnreserved(c), c >= 0x80:
			out = append(out, '%', upperHex[c>>4], upperHex[c&15])
		default:
			out = append(out, c)
		}
	}
	return string(out)
}

func validEscapes(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && (i+2 >= len(s) || !isHex(s[i+1]) || !isHex(s[i+2])) {
			return false
		}
	}
	return true
}

func isAlnum(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

func isUnreserved(c byte) bool { return isAlnum(c) || c == '-' || c == '.' || c == '_' || c == '~' }

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func unhex(c byte) byte {
	switch {
	case c >= 'a':
		return c - 'a' + 10
	case c >= 'A':
		return c - 'A' + 10
	}
	return c - '0'
}

func quote(s string) string {
	if len(s) > 80 {
		s = s[:77] + "..."
	}
	return "\"" + strings.ToValidUTF8(s, "?") + "\""
}

// quoteURL quotes a URL without what may be a user name and password.
func quoteURL(raw string) string {
	if i := strings.LastIndexByte(raw, '@'); i >= 0 {
		raw = "..." + raw[i:]
	}
	return quote(raw)
}

// urlProblem returns the parser's error unless it might reveal a password.
func urlProblem(raw string, err error) error {
	if strings.Contains(raw, "@") {
		return errors.New("it cannot be read; user names and passwords are not accepted")
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}
