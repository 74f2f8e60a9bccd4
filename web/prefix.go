package web

import (
	"cmp"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"

	"quorumhub/hub"
)

// prefixes are the paths below which the hub is reached by the URLs that are known for it, such as /ws for https://example.org/ws.
type prefixes struct {
	namer *hub.TopicNamer
	known atomic.Pointer[knownPrefixes]
}

type knownPrefixes struct {
	version uint64
	list    []string // escaped, the longest first; without the empty one
}

// now returns the prefixes, as long as the hub's URLs stay the same.
func (p *prefixes) now() []string {
	version := p.namer.Version()
	if k := p.known.Load(); k != nil && k.version == version {
		return k.list
	}
	k := &knownPrefixes{version: version}
	for _, base := range p.namer.Bases() {
		if prefix := prefixOf(base); prefix != "" && !slices.Contains(k.list, prefix) {
			k.list = append(k.list, prefix)
		}
	}
	slices.SortFunc(k.list, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
	p.known.Store(k)
	return k.list
}

// prefixOf returns the escaped path of a base URL without a trailing slash.
func prefixOf(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(u.EscapedPath(), "/")
}

// withoutPrefix returns the request as routes see it. What a proxy has not stripped from the path is stripped here; the routes answer
// without the prefix, too, for proxies that do and for health checks.
func (s *Server) withoutPrefix(r *http.Request) *http.Request {
	list := s.prefixes.now()
	if len(list) == 0 {
		return r
	}
	escaped := r.URL.EscapedPath()
	for _, prefix := range list {
		rest, ok := strings.CutPrefix(escaped, prefix)
		if !ok || rest != "" && rest[0] != '/' {
			continue
		}
		path, err := url.PathUnescape(rest)
		if err != nil {
			return r
		}
		short := *r
		u := *r.URL
		u.Path = cmp.Or(path, "/")
		if u.RawPath != "" {
			u.RawPath = cmp.Or(rest, "/")
		}
		short.URL = &u
		return &short
	}
	return r
}
