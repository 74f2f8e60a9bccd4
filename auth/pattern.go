package auth

import (
	"fmt"
	"strings"
)

// checkPattern returns the names a topic pattern binds.
func checkPattern(pattern string) (map[string]bool, error) {
	bound := map[string]bool{}
	if pattern == "" {
		return nil, fmt.Errorf("is empty")
	}
	segments := strings.Split(pattern, "/")
	for i, s := range segments {
		name, rest, is := placeholder(s)
		switch {
		case is && !validVariable(name):
			return nil, fmt.Errorf("%q: expected lower-case letters and underscores in braces", s)
		case is && rest && name == ownerName:
			return nil, fmt.Errorf("%q: expected {owner}, which stands for the whole ID", s)
		case is && bound[name]:
			return nil, fmt.Errorf("duplicate {%s}", name)
		case (s == "**" || rest) && i < len(segments)-1:
			return nil, fmt.Errorf("%q is only allowed as the last segment", s)
		case !is && s != "*" && s != "**" && strings.ContainsAny(s, "*{}"):
			return nil, fmt.Errorf("%q: *, ** and {name} must be whole segments", s)
		}
		if is && name != ownerName {
			bound[name] = true
		}
	}
	return bound, nil
}

// placeholder parses {name} and {name...}; the latter sets rest.
func placeholder(segment string) (name string, rest, is bool) {
	if len(segment) < 2 || segment[0] != '{' || segment[len(segment)-1] != '}' {
		return "", false, false
	}
	name, rest = strings.CutSuffix(segment[1:len(segment)-1], "...")
	return name, rest, true
}

func validVariable(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz_") == ""
}

// ownerName is the name of the caller's ID in patterns.
const (
	ownerName    = "owner"
	ownerSegment = "{" + ownerName + "}"
)

// match compares a topic name with a pattern, segment by segment. owner is the caller's ID. Wildcards never match an empty segment, such as the one in
// https://; only an empty segment does.
func match(pattern, topic, owner string) (map[string]string, bool) {
	var bound map[string]string
	for pattern != "" || topic != "" {
		want, patternRest, morePattern := strings.Cut(pattern, "/")
		got, topicRest, moreTopic := strings.Cut(topic, "/")
		if want == ownerSegment {
			// Literally, and possibly over several segments: nothing in an ID is a wildcard.
			after, is := strings.CutPrefix(topic, owner)
			if owner == "" || !is || after != "" && after[0] != '/' {
				return nil, false
			}
			want, got, topicRest, moreTopic = "", "", strings.TrimPrefix(after, "/"), after != ""
		}
		name, rest, is := placeholder(want)
		if want == "**" || rest {
			if topic == "" {
				return nil, false
			}
			return bind(bound, name, topic), true
		}
		switch {
		case is || want == "*":
			if got == "" {
				return nil, false
			}
			if is {
				bound = bind(bound, name, got)
			}
		case want != got:
			return nil, false
		}
		if morePattern != moreTopic {
			return nil, false
		}
		if !morePattern {
			return bound, true
		}
		pattern, topic = patternRest, topicRest
		if pattern == "" && topic == "" {
			return bound, true // both end in a slash
		}
	}
	return nil, false
}

func bind(bound map[string]string, name, value string) map[string]string {
	if name == "" {
		return bound
	}
	if bound == nil {
		bound = map[string]string{}
	}
	bound[name] = value
	return bound
}

// placeholders returns the names in braces in a text.
func placeholders(s string) []string {
	var out []string
	for {
		_, after, ok := strings.Cut(s, "{")
		if !ok {
			return out
		}
		name, rest, ok := strings.Cut(after, "}")
		if !ok {
			return append(out, after)
		}
		out, s = append(out, name), rest
	}
}

// expand replaces the names in braces by what was bound. Replacements are not expanded in turn. It reports whether every name
// was bound.
func expand(s string, bound map[string]string) (_ string, whole bool) {
	whole = true
	var b strings.Builder
	for {
		before, after, ok := strings.Cut(s, "{")
		b.WriteString(before)
		if !ok {
			return b.String(), whole
		}
		name, rest, _ := strings.Cut(after, "}")
		value, ok := bound[name]
		whole = whole && ok
		b.WriteString(value)
		s = rest
	}
}

// checkResourcePattern returns the names a pattern for resources binds.
func checkResourcePattern(pattern string) (map[string]bool, error) {
	if strings.Contains(pattern, "/") {
		return nil, fmt.Errorf("contains a slash; the segments of a resource stand between dots, as in hr.address")
	}
	for s := range strings.SplitSeq(pattern, ".") {
		switch s {
		case "":
			return nil, fmt.Errorf("has an empty segment; expected a name such as hr.address")
		case ownerSegment:
			return nil, fmt.Errorf("%s stands for the caller's ID in topics only", ownerSegment)
		}
	}
	return checkPattern(resourcePath(pattern))
}

// resourcePath writes a resource, or a pattern for resources, as topics are written. {name...} keeps its dots.
func resourcePath(resource string) string {
	if head, name, ok := strings.Cut(resource, "{"); ok && strings.HasSuffix(name, "...}") && !strings.Contains(name, "{") {
		return strings.ReplaceAll(head, ".", "/") + "{" + name
	}
	return strings.ReplaceAll(resource, ".", "/")
}
