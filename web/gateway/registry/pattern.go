package registry

import (
	"errors"
	"fmt"
	"strings"
)

// Pattern is a pattern of topic names: segments between slashes, of which any may be *, which stands for one, and the last may be **, which
// stands for one or more. Neither matches an empty segment, such as the one in https://.
type Pattern struct{ text string }

// ParsePattern reads a pattern.
func ParsePattern(text string) (Pattern, error) {
	if text == "" {
		return Pattern{}, errors.New("is empty, expected a topic name; a segment may be *, and the last **")
	}
	segments := strings.Split(text, "/")
	for i, s := range segments {
		switch {
		case s == "**" && i < len(segments)-1:
			return Pattern{}, errors.New("has ** in the middle, expected it only as the last segment")
		case s != "*" && s != "**" && strings.Contains(s, "*"):
			return Pattern{}, fmt.Errorf("has a segment %q, expected * and ** as whole segments", clip(s))
		case strings.ContainsAny(s, "{}"):
			return Pattern{}, fmt.Errorf("has a segment %q, expected no braces: policies apply to everybody alike", clip(s))
		}
	}
	return Pattern{text}, nil
}

// String returns the pattern as written.
func (p Pattern) String() string { return p.text }

// Match reports whether the pattern matches a topic. It does not allocate.
func (p Pattern) Match(topic string) bool {
	pattern := p.text
	if pattern == "" {
		return false
	}
	for {
		want, patternRest, morePattern := strings.Cut(pattern, "/")
		if want == "**" {
			return topic != ""
		}
		got, topicRest, moreTopic := strings.Cut(topic, "/")
		switch {
		case want == "*":
			if got == "" {
				return false
			}
		case want != got:
			return false
		}
		if morePattern != moreTopic {
			return false
		}
		if !morePattern {
			return true
		}
		pattern, topic = patternRest, topicRest
	}
}

// covers reports whether p matches every topic that q matches.
func (p Pattern) covers(q Pattern) bool {
	a, b := p.text, q.text
	for {
		want, aRest, moreA := strings.Cut(a, "/")
		if want == "**" {
			return b != "" // what is left of q matches at least something
		}
		got, bRest, moreB := strings.Cut(b, "/")
		switch {
		case got == "**":
			return false
		case want == "*":
			if got == "" {
				return false
			}
		case want != got:
			return false
		}
		if moreA != moreB {
			return false
		}
		if !moreA {
			return true
		}
		a, b = aRest, bRest
	}
}
