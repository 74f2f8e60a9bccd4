package hub

import (
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxTopicNameBytes is the longest name of a hosted topic.
const MaxTopicNameBytes = 512

// TopicNamer converts between topic URLs and topic names. A topic hosted by the hub, at <base>/topics/<name>, is
// known by its bare name, so that its identity does not depend on the hub's address. Any other topic is known by its
// normalised URL.
type TopicNamer struct {
	bases []string // normalised, each ending in "/topics/"; the first is the public one
	bare  bool
}

// TakeBareNames makes Name accept the bare name of a hosted topic. Call it before the namer is used.
func (n *TopicNamer) TakeBareNames() { n.bare = true }

// takingBareNames returns a copy of the namer that accepts bare names, as imports from other hubs require.
func (n *TopicNamer) takingBareNames() *TopicNamer {
	bare := *n
	bare.bare = true
	return &bare
}

// NewTopicNamer returns a namer for the hub's public URL and other URLs under which it is reached, such as those of
// other nodes. The error names the invalid URL.
func NewTopicNamer(publicURL string, aliases ...string) (*TopicNamer, error) {
	n := &TopicNamer{}
	for _, base := range append([]string{publicURL}, aliases...) {
		if _, err := ParseURL("public URL", base); err != nil {
			return nil, err
		}
		n.bases = append(n.bases, strings.TrimSuffix(NormalizeURL(base), "/")+"/topics/")
	}
	return n, nil
}

// Name returns the name of the topic that a client calls raw in the parameter param. Errors are *Error and name
// param.
func (n *TopicNamer) Name(param, raw string) (string, error) {
	if n.bare && raw != "" && !looksLikeURL(raw) {
		return n.HostedName(param, raw)
	}
	if _, err := ParseURL(param, raw); err != nil {
		return "", err
	}
	normal := NormalizeURL(raw)
	for _, base := range n.bases {
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
	return normal, nil
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
	return n.bases[0] + strings.Join(segments, "/")
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
