package hub

import (
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"unicode"
	"unicode/utf8"
)

// MaxTopicNameBytes is the longest name of a hosted topic.
const MaxTopicNameBytes = 512

// TopicNamer converts between topic URLs and topic names. A topic hosted by the hub, at <base>/topics/<name>, is
// known by its bare name, so that its identity does not depend on the hub's address. Any other topic is known by its
// normalised URL. Safe for concurrent use.
type TopicNamer struct {
	public string // the first of bases
	bare   bool
	// own reports whether the hub answers at a URL's host and port itself; nil: nothing but its bases is known.
	own func(*url.URL) bool

	known *atomic.Pointer[hubURLs]
}

// hubURLs are the URLs under which the hub is reached. It is immutable.
type hubURLs struct {
	configured []string // normalised, each ending in "/topics/"; the first is the public one
	bases      []string // configured, and those of other nodes
	urls       []string // bases without /topics/
	version    uint64
}

func newHubURLs(configured, bases []string, version uint64) *hubURLs {
	u := &hubURLs{configured: configured, bases: withLoopbackNames(bases), version: version}
	for _, b := range u.bases {
		u.urls = append(u.urls, strings.TrimSuffix(b, topicsPath))
	}
	return u
}

// TakeBareNames makes Name accept the bare name of a hosted topic. Call it before the namer is used.
func (n *TopicNamer) TakeBareNames() { n.bare = true }

// takingBareNames returns a copy of the namer that accepts bare names, as imports from other hubs require.
func (n *TopicNamer) takingBareNames() *TopicNamer {
	bare := *n
	bare.bare = true
	return &bare
}

// RecogniseOwn makes Name refuse URLs that lead to the hub itself but are none of its topics. own reports whether this
// process answers at a URL's host and port. Call it before the namer is used.
func (n *TopicNamer) RecogniseOwn(own func(*url.URL) bool) { n.own = own }

// NewTopicNamer returns a namer for the hub's public URL and other URLs under which it is reached. Where a URL names
// this machine (localhost, 127.0.0.1, ::1), it may also be reached by the other names. The error names the invalid
// URL.
func NewTopicNamer(publicURL string, aliases ...string) (*TopicNamer, error) {
	var configured []string
	for _, base := range append([]string{publicURL}, aliases...) {
		if _, err := ParseURL("public URL", base); err != nil {
			return nil, err
		}
		configured = append(configured, topicsBelow(base))
	}
	n := &TopicNamer{public: configured[0], known: new(atomic.Pointer[hubURLs])}
	n.known.Store(newHubURLs(configured, configured, 0))
	return n, nil
}

// SetMembers makes the URLs of other nodes, as public URLs or aliases, name the same hosted topics as this node's.
// Invalid ones are ignored. It must not be called concurrently with itself.
func (n *TopicNamer) SetMembers(urls []string) {
	old := n.known.Load()
	bases := slices.Clone(old.configured)
	for _, u := range urls {
		if _, err := ParseURL("", u); err == nil {
			bases = append(bases, topicsBelow(u))
		}
	}
	if u := newHubURLs(old.configured, bases, old.version+1); !slices.Equal(u.bases, old.bases) {
		n.known.Store(u)
	}
}

// Version changes whenever Name may return something else than before.
func (n *TopicNamer) Version() uint64 { return n.known.Load().version }

// Bases returns the URLs under which the hub is reached, each without a trailing slash: its own, its aliases, those of
// the other nodes, and for those on this machine its other names. The first is the public one. The list must not be
// changed.
func (n *TopicNamer) Bases() []string { return n.known.Load().urls }

const topicsPath = "/topics/"

func topicsBelow(base string) string { return strings.TrimSuffix(NormalizeURL(base), "/") + topicsPath }

// withLoopbackNames returns the bases, each once, with the other names of this machine for those that have one.
func withLoopbackNames(bases []string) (out []string) {
	for _, b := range bases {
		if !slices.Contains(out, b) {
			out = append(out, b)
		}
	}
	for _, b := range bases {
		scheme, rest, _ := strings.Cut(b, "://")
		for _, host := range loopbackNames() {
			tail, ok := strings.CutPrefix(rest, host)
			if !ok || tail[0] != ':' && tail[0] != '/' {
				continue
			}
			for _, other := range loopbackNames() {
				if alias := scheme + "://" + other + tail; !slices.Contains(out, alias) {
					out = append(out, alias)
				}
			}
		}
	}
	return out
}

func loopbackNames() [3]string { return [...]string{"127.0.0.1", "localhost", "[::1]"} }

// Name returns the name of the topic that a client calls raw in the parameter param. Errors are *Error and name
// param.
func (n *TopicNamer) Name(param, raw string) (string, error) {
	if raw != "" && !looksLikeURL(raw) {
		name, err := n.HostedName(param, raw)
		switch {
		case n.bare:
			return name, err
		case err == nil && !strings.Contains(raw, ":/"):
			return "", ParamErrorf(param, "%s is not an absolute http or https URL; this hub's topic of that name is %s", quote(raw), n.URL(name))
		}
	}
	u, err := ParseURL(param, raw)
	if err != nil {
		return "", err
	}
	normal := NormalizeURL(raw)
	for _, base := range n.known.Load().bases {
		rest, ok := strings.CutPrefix(normal, base)
		if !ok {
			continue
		}
		if strings.Contains(rest, "?") {
			return "", ParamErrorf(param, "%s: the URL of a topic hosted by this hub must not have a query", quoteURL(raw))
		}
		name, err := url.PathUnescape(rest)
		if err != nil {
			return "", ParamErrorf(param, "%s is not a URL (%v)", quoteURL(raw), urlProblem(raw, err))
		}
		return n.HostedName(param, name)
	}
	if n.own != nil && n.own(u) {
		return "", n.misaddressed(param, raw, normal)
	}
	return normal, nil
}

// CheckHost returns an error if raw calls a topic of this hub by the host and port at which a client has reached the
// hub, though these are none that its URLs have: the hub would take it for a foreign topic.
func (n *TopicNamer) CheckHost(param, raw, host string) error {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok || len(host) == 0 || len(rest) <= len(host) || !strings.EqualFold(rest[:len(host)], host) || !strings.HasPrefix(rest[len(host):], topicsPath) {
		return nil
	}
	if name, err := n.Name(param, raw); err != nil || n.Hosted(name) {
		return err
	}
	return n.misaddressed(param, raw, NormalizeURL(scheme+"://"+rest))
}

// misaddressed returns the error for the URL of a foreign topic that leads to this hub.
func (n *TopicNamer) misaddressed(param, raw, normal string) error {
	_, rest, _ := strings.Cut(normal, "://")
	base, name, ok := strings.Cut(rest, topicsPath)
	if name, err := url.PathUnescape(name); ok && err == nil && !strings.Contains(base, "/") {
		if name, err = n.HostedName(param, name); err == nil {
			return ParamErrorf(param, "%s leads to this hub, where the topic's URL is %s; use that one, or list the other address in http.alias_urls",
				quoteURL(raw), n.URL(name))
		}
	}
	return ParamErrorf(param, "%s leads to this hub, whose topics have URLs such as %s", quoteURL(raw), n.URL("news"))
}

// HostedName validates the (unescaped) name of a topic under /topics/. A name that is itself an http or https URL
// refers to that topic. Errors are *Error and name param.
func (n *TopicNamer) HostedName(param, name string) (string, error) {
	switch {
	case name == "":
		return "", ParamErrorf(param, "the topic's name is empty; expected <hub>/topics/<name>")
	case len(name) > MaxTopicNameBytes && !looksLikeURL(name):
		return "", ParamErrorf(param, "the topic's name is %d bytes long; at most %d are accepted", len(name), MaxTopicNameBytes)
	case !utf8.ValidString(name):
		return "", ParamErrorf(param, "the topic's name is not valid UTF-8")
	case looksLikeURL(name):
		return n.Name(param, name)
	case strings.HasPrefix(name, "/") || strings.HasSuffix(name, "/") || strings.Contains(name, "//"):
		return "", ParamErrorf(param, "the topic's name must not begin or end with / nor contain //")
	}
	if hasDotSegment(name) {
		return "", ParamErrorf(param, "the topic's name must not contain . or .. as a segment, however encoded")
	}
	if strings.ContainsFunc(name, unicode.IsControl) {
		return "", ParamErrorf(param, "the topic's name contains a control character")
	}
	return name, nil
}

// URL returns the canonical URL of a topic, which rel=self carries.
func (n *TopicNamer) URL(name string) string {
	if isURLName(name) {
		return name
	}
	segments := strings.Split(name, "/")
	for i, s := range segments {
		segments[i] = url.PathEscape(s)
	}
	return n.public + strings.Join(segments, "/")
}

// Hosted reports whether the topic of that name is hosted by the hub.
func (n *TopicNamer) Hosted(name string) bool { return !isURLName(name) }

// looksLikeURL reports whether s is meant as an http or https URL; schemes are case-insensitive.
func looksLikeURL(s string) bool {
	scheme, _, ok := strings.Cut(s, "://")
	return ok && (strings.EqualFold(scheme, "http") || strings.EqualFold(scheme, "https"))
}

// isURLName reports whether a (normalised) name is that of a foreign topic.
func isURLName(name string) bool {
	return strings.HasPrefix(name, "http://") || strings.HasPrefix(name, "https://")
}
