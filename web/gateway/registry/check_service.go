package registry

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// routeKey is what must be there once: a method of a version at a URI.
type routeKey struct{ uri, version, method string }

// route1 is where it is.
type route1 struct {
	service int
	line    int
	uri     string // as written
	all     bool   // a retired version without methods, which answers every one
}

func (c *checker) services() {
	c.versions = map[string]bool{}
	c.routes = make(map[routeKey]*route1, len(c.reg.Services)*4)
	names := make(map[string]int, len(c.reg.Services))
	for i := range c.reg.Services {
		for j := range c.reg.Services[i].Versions {
			c.versions[c.reg.Services[i].Versions[j].Version] = true
		}
	}
	for i := range c.reg.Services {
		s := &c.reg.Services[i]
		if first, is := names[s.Name]; is && s.Name != "" {
			c.failf(in("services", i, "name"), "%s is also the name of services[%d] (line %d), expected each name once", s.Name, first, c.reg.Services[first].Position.Line)
		} else {
			names[s.Name] = i
		}
		c.service(i, s)
	}
}

func (c *checker) service(i int, s *Service) {
	path := in("services", i)
	c.uri(s.URI, s.Wildcard, below(path, "uri"))
	c.claim(i, s, s.URI, below(path, "uri"))
	given := map[string]bool{s.URI: true}
	for j, a := range s.Aliases {
		at := below(path, "aliases", j, "uri")
		if given[a.URI] {
			c.failf(at, "%s is given twice, expected each URI of a service once", s.FullURI(a.URI))
		}
		given[a.URI] = true
		if n, _ := find(c.root, at); n != nil {
			if _, wildcard := cutWildcard(n.Value); wildcard != s.Wildcard {
				c.failf(at, "got %q, expected an alias to end in /* if and only if the service's URI does", clip(n.Value))
			}
		}
		c.uri(a.URI, s.Wildcard, at)
		if got, want := partsOf(a.URI), partsOf(s.URI); !sameParts(got, want) {
			c.failf(at, "has the parts %s, expected those of the service's URI: %s", braces(got), braces(want))
		}
		c.claim(i, s, a.URI, at)
	}
	seen := map[string]int{}
	for j := range s.Versions {
		v := &s.Versions[j]
		if first, is := seen[v.Version]; is && v.Version != "" {
			c.failf(below(path, "versions", j, "version"), "version %s is given twice, first in versions[%d]; expected each once, with all its methods", v.Version, first)
		} else {
			seen[v.Version] = j
		}
	}
	c.defaultVersion(s, path)
	for j := range s.Versions {
		c.version(s, &s.Versions[j], below(path, "versions", j))
	}
}

// uri checks a URI's segments.
func (c *checker) uri(uri string, wildcard bool, path []any) {
	if uri == "" {
		return // everything, or an error of the form
	}
	segments := strings.Split(uri, "/")
	if len(segments) > maxSegments {
		c.failf(path, "%d segments, expected at most %d", len(segments), maxSegments)
	}
	for i, s := range segments {
		switch {
		case s == "." || s == ".." || strings.HasPrefix(s, "..;") || strings.HasPrefix(s, ".;"):
			c.failf(path, "has a segment %q, which no request reaches", s)
		case strings.Contains(s, "*"):
			c.failf(path, "has a segment %q, expected * only as the last one, for all below it", clip(s))
		case strings.ContainsAny(s, "{}") && partName(s) == "":
			c.failf(path, "has a segment %q, expected {name} as a whole segment, of letters, digits and underscores", clip(s))
		case i == 0 && partName(s) != "" && len(segments) == 1 && !wildcard:
			// One part alone takes any single segment: allowed, and found last.
		case i == 0 && c.versionSegment(s):
			c.failf(path, "begins with %q, which in a path chooses the version; expected another first segment", clip(s))
		}
	}
	parts := partsOf(uri)
	if len(parts) > maxParts {
		c.failf(path, "%d parts in braces, expected at most %d", len(parts), maxParts)
	}
	slices.Sort(parts)
	if len(slices.Compact(parts)) != len(partsOf(uri)) {
		c.fail("has a part in braces twice, expected each name once", path...)
	}
}

// versionSegment reports whether a path's first segment chooses a version: v and a digit, or v and the name of a version.
func (c *checker) versionSegment(s string) bool {
	return versionSegment(s, func(v string) bool { return c.versions[v] })
}

// claim notes methods and versions that are already served at a URI.
func (c *checker) claim(i int, s *Service, uri string, path []any) {
	shape := shapeOf(uri)
	if s.Wildcard {
		shape += "/*"
	}
	told := false
	for j := range s.Versions {
		v := &s.Versions[j]
		// The entry without a method is the first version of this name here, whatever its methods.
		whole := routeKey{uri: shape, version: v.Version}
		here := &route1{service: i, line: s.Position.Line, uri: uri, all: len(v.Methods) == 0}
		first := c.routes[whole]
		if first == nil {
			c.routes[whole] = here
		} else if !first.all && !here.all {
			first = nil // only the same method is a mistake
		}
		for _, method := range v.Methods {
			key := routeKey{shape, v.Version, method}
			if c.routes[key] == nil {
				c.routes[key] = here
			} else if first == nil {
				first = c.routes[key]
			}
		}
		if first != nil && !told && (first.service != i || first.uri != uri) {
			told = true
			c.failf(path, "%s %s in version %s is also served by services[%d] (%s, line %d); expected each method, URI and version once",
				cmp.Or(strings.Join(v.Methods, ","), "any method of"), uri, v.Version, first.service, c.reg.Services[first.service].Name, first.line)
		}
	}
	key := routeKey{uri: shape}
	first := c.routes[key]
	if first == nil {
		c.routes[key] = &route1{service: i, line: s.Position.Line, uri: uri}
	} else if first.uri != uri && !told {
		c.failf(path, "%s and %s (line %d) differ only in the names of their parts, expected the same names", uri, first.uri, first.line)
	}
}

func (c *checker) defaultVersion(s *Service, path []any) {
	at := below(path, "default")
	if s.Default == "" {
		if len(s.Versions) > 1 {
			c.failf(at, "is missing, expected the version of requests that name none: %s", strings.Join(versionNames(s), ", "))
		}
		return
	}
	v := s.version(s.Default)
	switch {
	case v == nil && len(s.Versions) > 0:
		c.failf(at, "unknown version %q, expected one of %s", clip(s.Default), strings.Join(versionNames(s), ", "))
	case v != nil && v.Status == StatusRetired && slices.ContainsFunc(s.Versions, func(v Version) bool { return v.Status != StatusRetired }):
		c.failf(at, "version %s is retired, expected one that is served", s.Default)
	}
}

func (s *Service) version(name string) *Version {
	for i := range s.Versions {
		if s.Versions[i].Version == name {
			return &s.Versions[i]
		}
	}
	return nil
}

func versionNames(s *Service) []string {
	var out []string
	for i := range s.Versions {
		out = append(out, s.Versions[i].Version)
	}
	return out
}

func (c *checker) version(s *Service, v *Version, path []any) {
	c.life(s, v, path)
	c.timeout(v.Timeout, below(path, "timeout"))
	c.maxBody(v.MaxBody, below(path, "max_body"))
	c.auth(v.Auth, below(path, "auth"))
	unique(c, v.Methods, below(path, "methods"))
	unique(c, v.Produces, below(path, "produces"))
	retired := v.Status == StatusRetired
	if len(v.Methods) == 0 && !retired {
		c.fail("is missing: without a method no request matches; expected some such as [GET, POST]", below(path, "methods")...)
	}
	switch {
	case v.Target.Kind == "" && !retired:
		c.fail("is missing, expected <upstream>:<path>, topic:<name> or hub:<operation>", below(path, "target")...)
	case v.Target.Kind != "":
		c.target(s, v, below(path, "target"))
	}
	c.onlyForTopics(v, path)
	c.params(s, v, path)
	if v.Verifier != "" {
		if _, is := c.reg.Verifiers[v.Verifier]; !is {
			c.failf(below(path, "verifier"), "unknown verifier %q, expected one of: %s", clip(v.Verifier), known(c.reg.Verifiers))
		}
	}
	if v.Body != nil {
		c.file(v.Body.Schema, below(path, "body", "schema"))
		unique(c, v.Body.Consumes, below(path, "body", "consumes"))
	}
	c.file(v.Response.Schema, below(path, "response", "schema"))
	if v.Protect != nil {
		c.protect(v.Protect, below(path, "protect"))
	}
}

// life checks a version's status, dates and successor.
func (c *checker) life(s *Service, v *Version, path []any) {
	switch {
	case v.Status == StatusDeprecated && v.DeprecatedAt.IsZero():
		c.fail("is missing: the version is deprecated; expected since when", below(path, "deprecated_at")...)
	case v.Status == StatusRetired && v.SunsetAt.IsZero():
		c.fail("is missing: the version is retired; expected since when", below(path, "sunset_at")...)
	}
	if !v.SunsetAt.IsZero() && v.SunsetAt.Before(v.DeprecatedAt) {
		c.failf(below(path, "sunset_at"), "%s is before deprecated_at (%s), expected a later date", day(v.SunsetAt), day(v.DeprecatedAt))
	}
	if v.Successor == "" {
		return
	}
	at := below(path, "successor")
	next := s.version(v.Successor)
	switch {
	case v.Successor == v.Version:
		c.fail("is the version itself, expected another one", at...)
	case next == nil:
		c.failf(at, "unknown version %q, expected one of %s", clip(v.Successor), strings.Join(versionNames(s), ", "))
	case next.Status == StatusRetired:
		c.failf(at, "version %s is retired, expected one that is served", v.Successor)
	default:
		for steps := 0; next != nil && next.Successor != ""; steps++ {
			if next == v || steps > len(s.Versions) {
				c.fail("leads back to the version itself, expected no circle", at...)
				return
			}
			next = s.version(next.Successor)
		}
	}
}

func (c *checker) target(s *Service, v *Version, path []any) {
	t := v.Target
	switch t.Kind {
	case TargetTopic:
		c.topicName(t.Name, path)
		for _, m := range v.Methods {
			if m != "POST" && m != "PUT" {
				c.failf(path, "a topic takes messages, but the version serves %s; expected only POST or PUT", m)
				return
			}
		}
	case TargetHub:
		if t.Name == "" {
			c.fail("has no operation, expected hub:<operation>", path...)
		} else if c.env != nil {
			if err := c.env.Operation(t.Name); err != nil {
				c.failf(path, "unknown operation %q; %s", clip(t.Name), err)
			}
		}
	default:
		_, is := c.reg.Upstreams[t.Name]
		if !is && (t.Name == "http" || t.Name == "https") {
			c.failf(path, "is a URL; expected <upstream>:<path>, with the URL below upstreams")
			return
		}
		if !is {
			c.failf(path, "unknown upstream %q, expected one of: %s", clip(t.Name), known(c.reg.Upstreams))
		}
		c.targetPath(s, t.Path, path)
	}
}

func (c *checker) targetPath(s *Service, p string, path []any) {
	if !strings.HasPrefix(p, "/") {
		c.failf(path, "got the path %q, expected one that begins with /", clip(p))
		return
	}
	p, _ = strings.CutSuffix(p, "/*")
	var parts []string
	for _, segment := range strings.Split(p, "/") {
		switch name := partName(segment); {
		case name != "":
			parts = append(parts, name)
		case strings.ContainsAny(segment, "{}*"):
			c.failf(path, "has a segment %q, expected {name} of the URI as a whole segment", clip(segment))
			return
		}
	}
	for _, name := range parts {
		if !slices.Contains(partsOf(s.URI), name) {
			c.failf(path, "has {%s}, which the URI %q does not have", clip(name), clip(s.URI))
		}
	}
	plain := p
	if len(parts) > 0 {
		plain = strings.NewReplacer("{", "", "}", "").Replace(p)
	}
	if detail := pathMistake(plain); detail != "" && p != "" {
		c.fail(detail, path...)
	}
}

// onlyForTopics notes what has no meaning for the version's target.
func (c *checker) onlyForTopics(v *Version, path []any) {
	if v.Target.Kind != TargetTopic && v.Target.Kind != "" {
		if v.Key != "" {
			c.fail("is only for topic: targets", below(path, "key")...)
		}
		if len(v.CarryHeaders) > 0 {
			c.fail("is only for topic: targets", below(path, "carry_headers")...)
		}
	}
	for i, name := range v.CarryHeaders {
		if secretHeader(name) {
			c.failf(below(path, "carry_headers", i), "%s carries a credential, which must not be stored; expected another header", clip(name))
		}
	}
}

func (c *checker) params(s *Service, v *Version, path []any) {
	type place struct{ in, name string }
	seen := map[place]bool{}
	for i, p := range v.Params {
		at := below(path, "params", i)
		name := p.Name
		if p.In == "header" {
			name = strings.ToLower(name)
			if strings.ContainsAny(name, " \t:;,/()<>@[]{}?=\"\\") {
				c.failf(below(at, "name"), "got %q, expected the name of a header", clip(p.Name))
			}
		}
		if key := (place{p.In, name}); seen[key] {
			c.failf(below(at, "name"), "%s is given twice", p.Name)
		} else {
			seen[key] = true
		}
		if p.In == "path" && !slices.Contains(partsOf(s.URI), p.Name) {
			c.failf(below(at, "name"), "the URI has no {%s}, expected one of: %s", clip(p.Name), braces(partsOf(s.URI)))
		}
		if p.Pattern != "" {
			c.regexp(p.Pattern, below(at, "pattern"))
		}
	}
}

func (c *checker) protect(p *Protect, path []any) {
	if p.Decrypt != "" {
		if _, is := c.reg.Keys[p.Decrypt]; !is {
			c.failf(below(path, "decrypt"), "unknown key %q, expected one of: %s", clip(p.Decrypt), known(c.reg.Keys))
		}
	}
	if p.Verify != nil {
		if _, is := c.reg.Trust[p.Verify.Trust]; !is && p.Verify.Trust != "" {
			c.failf(below(path, "verify", "trust"), "unknown authorities %q, expected one of: %s", clip(p.Verify.Trust), known(c.reg.Trust))
		}
		if !p.Verify.JWS {
			c.fail("verifies nothing, expected jws: true", below(path, "verify")...)
		}
	}
	for name, pointers := range p.Release {
		unique(c, pointers, below(path, "release", name))
	}
}

// known lists the names of a map for a message.
func known[T any](m map[string]T) string {
	if len(m) == 0 {
		return "none is defined"
	}
	var names []string
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	if len(names) > 10 {
		return strings.Join(names[:10], ", ") + fmt.Sprintf(" and %d more", len(names)-10)
	}
	return strings.Join(names, ", ")
}
