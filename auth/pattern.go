package auth

import (
	"fmt"
	"strings"
)

// checkPattern tells the names that a topic pattern binds.
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
			return nil, fmt.Errorf("%q: a name in braces is made of lower-case letters", s)
		case is && bound[name]:
			return nil, fmt.Errorf("binds {%s} twice", name)
		case (s == "**" || rest) && i < len(segments)-1:
			return nil, fmt.Errorf("%q can only be the last segment", s)
		case !is && s != "*" && s != "**" && strings.ContainsAny(s, "*{}"):
			return nil, fmt.Errorf("%q: *, ** and {name} stand for whole segments", s)
		}
		if is {
			bound[name] = true
		}
	}
	return bound, nil
}

// placeholder takes {name} and {name...} apart.
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

// match compares a topic name with a pattern, segment by segment. No segment matches an empty one but the same empty
// one (that of https://, for instance).
func match(pattern, topic string) (map[string]string, bool) {
	var bound map[string]string
	for pattern != "" || topic != "" {
		want, morePattern, patternGoesOn := strings.Cut(pattern, "/")
		got, moreTopic, topicGoesOn := strings.Cut(topic, "/")
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
		if patternGoesOn != topicGoesOn {
			return nil, false
		}
		if !patternGoesOn {
			return bound, true
		}
		pattern, topic = morePattern, moreTopic
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

// placeholders are the names in braces in a text.
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

// expand puts what was bound in place of the names in braces, once: what is put in is not looked at again. It is
// whole when every name was bound.
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
