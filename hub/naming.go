package hub

import (
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxTopicNameBytes is the longest name of a hosted topic.
const MaxTopicNameBytes = 512

// TopicNamer translates between topic URLs and topic names. A topic hosted by the hub, at
// <base>/topics/<name>, goes by its bare name, so that its identity does not depend on the hub's address; any
// other topic goes by its normalised URL.
type TopicNamer struct {
	bases []string // normalised, each ending in "/topics/"; the first one is the public one
	bare  bool
}

// TakeBareNames makes Name take the name of a hosted topic for what it is. It must be called before the namer is used.
func (n *TopicNamer) TakeBareNames() { n.bare = true }

// takingBareNames is a namer that does, as other hubs' names need it.
func (n *TopicNamer) takingBareNames() *TopicNamer {
	bare := *n
	bare.bare = true
	return &bare
}

// NewTopicNamer takes the hub's public URL and further URLs it is reached at, such as those of other
// nodes. Errors name the URL that is none.
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

// Name is the name of the topic a client calls raw in the parameter param. Errors are *Error naming param.
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
			return "", ParamErrorf(param, "%s: a topic hosted by this hub takes no query", quoteURL(raw))
		}
		name, err := url.PathUnescape(rest)
		if err != nil {
			return "", ParamErrorf(param, "%s is not a URL (%v)", quoteURL(raw), urlProblem(raw, err))
		}
		return n.HostedName(param, name)
	}
	return normal, nil
}

// HostedName checks the (unescaped) name of a topic under /topics/. A name that is itself an http or https
// URL names that topic. Errors are *Error naming param.
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
	for _, seg := range strings.Split(name, "/") {
		if seg == "." || seg == ".." {
			return "", ParamErrorf(param, "the topic's name must not contain . or .. as a segment")
		}
	}
	if strings.ContainsFunc(name, unicode.IsControl) {
		return "", ParamErrorf(param, "the topic's name contains a control character")
	}
	return name, nil
}

// URL is the canonical URL of a topic, as rel=self names it.
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

// Hosted tells whether the topic of that name is hosted by the hub.
func (n *TopicNamer) Hosted(name string) bool { return !isURLName(name) }

// looksLikeURL tells whether a client meant an http or https URL; schemes are not case-sensitive.
func looksLikeURL(s string) bool {
	scheme, _, ok := strings.Cut(s, "://")
	return ok && (strings.EqualFold(scheme, "http") || strings.EqualFold(scheme, "https"))
}

// isURLName tells whether a name is that of a topic elsewhere; names are in their normal form.
func isURLName(name string) bool {
	return strings.HasPrefix(name, "http://") || strings.HasPrefix(name, "https://")
}
