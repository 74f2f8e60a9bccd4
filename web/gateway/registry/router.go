package registry

import (
	"errors"
	"fmt"
	"strings"
)

// Router finds the route of a request. It is immutable, so any number of goroutines may use it.
type Router struct {
	prefix   string            // with a slash at the end
	exact    map[string]*route // URIs without parts and wildcard
	tree     node              // the others
	versions map[string]bool
}

// route is one URI and what is served there: usually one service, several if they share it for different methods or versions.
type route struct {
	uri      string
	wildcard bool
	parts    []string // names in braces, in the URI's order
	serves   []candidate
}

type candidate struct {
	service *Service
	alias   *Alias // nil: the URI is the service's own
}

// node is a segment of URIs with parts or a wildcard.
type node struct {
	literal map[string]*node
	part    *node  // {name}
	ends    *route // the URI ends here
	all     *route // and so does one that ends in /*
}

// Compile makes a Router of a registry that Read returned.
func Compile(reg *Registry) (*Router, error) {
	r := &Router{prefix: strings.TrimRight(reg.Prefix, "/") + "/", exact: make(map[string]*route, len(reg.Services)), versions: map[string]bool{}}
	for i := range reg.Services {
		s := &reg.Services[i]
		if s.version(s.Default) == nil {
			return nil, fmt.Errorf("service %s: its default version %q is missing", s.Name, s.Default)
		}
		for j := range s.Versions {
			r.versions[s.Versions[j].Version] = true
		}
		if err := r.add(s, nil); err != nil {
			return nil, err
		}
		for j := range s.Aliases {
			if err := r.add(s, &s.Aliases[j]); err != nil {
				return nil, err
			}
		}
	}
	return r, nil
}

func (r *Router) add(s *Service, alias *Alias) error {
	uri := s.URI
	if alias != nil {
		uri = alias.URI
	}
	at := r.place(uri, s.Wildcard)
	if *at == nil {
		*at = &route{uri: uri, wildcard: s.Wildcard, parts: partsOf(uri)}
	}
	if len((*at).parts) > maxParts {
		return fmt.Errorf("service %s: %s has more than %d parts", s.Name, uri, maxParts)
	}
	(*at).serves = append((*at).serves, candidate{s, alias})
	if !s.Wildcard && len((*at).parts) == 0 {
		r.exact[uri] = *at
	}
	return nil
}

// place returns where the route of a URI is kept.
func (r *Router) place(uri string, wildcard bool) **route {
	if !wildcard && !strings.Contains(uri, "{") {
		known := r.exact[uri]
		return &known
	}
	n := &r.tree
	if uri != "" {
		for segment := range strings.SplitSeq(uri, "/") {
			n = n.below(segment)
		}
	}
	if wildcard {
		return &n.all
	}
	return &n.ends
}

func (n *node) below(segment string) *node {
	if partName(segment) != "" {
		if n.part == nil {
			n.part = &node{}
		}
		return n.part
	}
	if n.literal == nil {
		n.literal = map[string]*node{}
	}
	if n.literal[segment] == nil {
		n.literal[segment] = &node{}
	}
	return n.literal[segment]
}

// Errors of Find.
var ErrNotFound = errors.New("no service has this URI")

// PathError says that a path has a form that servers disagree about, so that no route may take it.
type PathError struct{ Detail string }

// Error says what is wrong with the path.
func (e *PathError) Error() string { return "the path " + e.Detail }

// Match is a request's route. Its strings share memory with the path.
type Match struct {
	route  *route
	method string
	// PathVersion is the version that the path names (/gateway/v2/…); empty: none.
	PathVersion string
	prefix      string
	rest        string // what a wildcard matched, escaped
	parts       [maxParts]string
}

// Find returns the route of a request, by its method and the path as url.URL.EscapedPath returns it, with the prefix. A URI that matches
// as a whole wins, one without parts before one with them, and then the longest that ends in /*. Comparison is of decoded
// segments, case by case. The error is ErrNotFound or a *PathError. The method decides nothing yet; see Match.Choose.
func (r *Router) Find(method, escapedPath string) (Match, error) {
	if detail := pathMistake(escapedPath); detail != "" {
		return Match{}, &PathError{detail}
	}
	escaped, ours := strings.CutPrefix(escapedPath, r.prefix)
	if !ours || escaped == "" {
		return Match{}, ErrNotFound
	}
	path := escaped
	if strings.IndexByte(path, '%') >= 0 {
		path = decode(path)
	}
	m := Match{method: method, prefix: r.prefix}
	if first, rest, more := strings.Cut(path, "/"); more && versionSegment(first, r.isVersion) {
		m.PathVersion = first[1:]
		path = rest
		_, escaped, _ = strings.Cut(escaped, "/")
	}
	m.route = r.exact[path]
	if m.route != nil {
		return m, nil
	}
	if path == "" {
		return Match{}, ErrNotFound
	}
	var f found
	if !r.tree.find(path, 0, &f) {
		if f.all == nil {
			return Match{}, ErrNotFound
		}
		m.route = f.all
		m.rest = after(escaped, f.depth)
	} else {
		m.route = f.ends
	}
	m.fill(escaped)
	return m, nil
}

func (r *Router) isVersion(name string) bool { return r.versions[name] }

// found is what a search in the tree has found so far.
type found struct {
	ends, all *route
	depth     int // segments before all's wildcard
}

// find searches for the URI that path matches as a whole, and notes the longest wildcard on the way. path is not empty.
func (n *node) find(path string, depth int, f *found) bool {
	if n.all != nil && (f.all == nil || depth > f.depth) {
		f.all, f.depth = n.all, depth
	}
	segment, rest, more := strings.Cut(path, "/")
	if more && rest == "" {
		return false // a slash at the end: only a wildcard above matches
	}
	if below := n.literal[segment]; below != nil && below.segment(rest, more, depth, f) {
		return true
	}
	return n.part != nil && n.part.segment(rest, more, depth, f)
}

func (n *node) segment(rest string, more bool, depth int, f *found) bool {
	if more {
		return n.find(rest, depth+1, f)
	}
	if n.ends == nil {
		return false
	}
	f.ends = n.ends
	return true
}

// fill notes the segments that the URI's parts matched.
func (m *Match) fill(escaped string) {
	if len(m.route.parts) == 0 {
		return
	}
	i, uri := 0, m.route.uri
	for uri != "" && i < maxParts {
		var want, got string
		want, uri, _ = strings.Cut(uri, "/")
		got, escaped, _ = strings.Cut(escaped, "/")
		if partName(want) != "" {
			m.parts[i] = got
			i++
		}
	}
}

// after returns what follows the first n segments of a path.
func after(path string, n int) string {
	for range n {
		_, path, _ = strings.Cut(path, "/")
	}
	return path
}

// decode replaces what is percent-encoded in a path that pathMistake found nothing wrong with.
func decode(path string) string {
	var b strings.Builder
	b.Grow(len(path))
	for i := 0; i < len(path); i++ {
		if path[i] == '%' {
			if c, ok := hexByte(path[i+1:]); ok {
				b.WriteByte(c)
				i += 2
				continue
			}
		}
		b.WriteByte(path[i])
	}
	return b.String()
}
