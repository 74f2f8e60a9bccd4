package upstream

import (
	"net/url"
	"strings"
)

// Inside translates the URL of a Location or Content-Location header that the upstream sent: if it points to one of the
// upstream's own addresses, or to none, Inside returns the path and what follows it as Request.Target would have them, for
// the caller to put where its clients find it. Otherwise it reports false: the URL is somewhere else, or is relative to
// that of the request.
func (p *Pool) Inside(location string) (target string, ok bool) {
	rest := location
	if !strings.HasPrefix(location, "/") || strings.HasPrefix(location, "//") {
		u, err := url.Parse(location)
		if err != nil || u.Host == "" {
			return "", false
		}
		_, rest, _ = strings.Cut(location, "//")
		if at := strings.IndexAny(rest, "/?#"); at < 0 {
			rest = "/"
		} else if rest = rest[at:]; rest[0] != '/' {
			rest = "/" + rest
		}
		return p.below(u, rest)
	}
	return p.below(nil, rest)
}

// below removes the path of the addresses that u is one of; nil: all of them.
func (p *Pool) below(u *url.URL, rest string) (string, bool) {
	for _, a := range p.addresses {
		if u != nil && (u.Scheme != "" && u.Scheme != a.scheme || !strings.EqualFold(u.Host, a.host)) {
			continue
		}
		below, ok := strings.CutPrefix(rest, a.base)
		switch {
		case !ok:
		case below == "" || below[0] == '?' || below[0] == '#':
			return "/" + below, true
		case below[0] == '/':
			return below, true
		}
	}
	return "", false
}
