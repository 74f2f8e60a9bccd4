package registry

import (
	"net/url"
	"slices"
	"strings"
)

// Outcome is what came of choosing a version.
type Outcome int

// Outcomes of Match.Choose.
const (
	Chosen Outcome = iota
	// UnknownVersion: the request names a version that is not served at this URI.
	UnknownVersion
	// MethodNotAllowed: the version is served, but not with the request's method.
	MethodNotAllowed
)

// Choice is the version that a request reaches.
type Choice struct {
	Outcome Outcome
	Service *Service
	// Version is never nil. Unless the Outcome is Chosen it is the one whose authentication the caller must pass before it learns more:
	// the one with the name asked for, else the default.
	Version *Version
	// Alias is not nil if the request came by another URI of the service.
	Alias *Alias
	// Named says that the request named the version, in whichever way.
	Named bool
}

// Choose returns the version of a request: the one that its path names, else header (of Api-Version), else mediaType (the parameter
// version of its media type), else the service's default. Versions that are retired are chosen like others.
func (m *Match) Choose(header, mediaType string) Choice {
	name := m.PathVersion
	if name == "" {
		name = header
	}
	if name == "" {
		name = mediaType
	}
	fallback := Choice{Outcome: MethodNotAllowed, Named: name != ""}
	for i := range m.route.serves {
		c := &m.route.serves[i]
		want := name
		if want == "" {
			want = c.service.Default
		}
		v := c.service.version(want)
		if v == nil {
			continue
		}
		if v.serves(m.method) {
			return Choice{Outcome: Chosen, Service: c.service, Version: v, Alias: c.alias, Named: name != ""}
		}
		if fallback.Version == nil {
			fallback.Service, fallback.Version, fallback.Alias = c.service, v, c.alias
		}
	}
	if fallback.Version != nil {
		return fallback
	}
	first := m.route.serves[0]
	return Choice{Outcome: UnknownVersion, Service: first.service, Version: first.service.version(first.service.Default), Alias: first.alias, Named: true}
}

// serves reports whether a version has a method. A retired one without methods answers all.
func (v *Version) serves(method string) bool {
	return len(v.Methods) == 0 || slices.Contains(v.Methods, method)
}

// Versions returns the names of the versions at this URI, in the order of the registry.
func (m *Match) Versions() []string {
	var out []string
	for _, c := range m.route.serves {
		for i := range c.service.Versions {
			if name := c.service.Versions[i].Version; !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	return out
}

// Allowed returns the methods with which a version is served at this URI, sorted.
func (m *Match) Allowed(version string) []string {
	var out []string
	for _, c := range m.route.serves {
		if v := c.service.version(version); v != nil {
			out = append(out, v.Methods...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Route returns the URI that matched, as in the registry.
func (m *Match) Route() string {
	return m.route.serves[0].service.FullURI(m.route.uri)
}

// Part returns what matched {name} in the URI, decoded; "" if the URI has no such part.
func (m *Match) Part(name string) string {
	decoded, err := url.PathUnescape(m.part(name))
	if err != nil {
		return ""
	}
	return decoded
}

// part returns it as it came.
func (m *Match) part(name string) string {
	if i := slices.Index(m.route.parts, name); i >= 0 && i < len(m.parts) {
		return m.parts[i]
	}
	return ""
}

// UpstreamPath returns the escaped path at the upstream: the target's, with each {name} replaced by the segment that matched it, as it
// came, and what the wildcard matched appended.
func (m *Match) UpstreamPath(t Target) string {
	path := strings.TrimSuffix(t.Path, "/*")
	if strings.Contains(path, "{") {
		path = m.replaceParts(path, func(s string) string { return s })
	}
	if !m.route.wildcard {
		return path
	}
	return strings.TrimSuffix(path, "/") + "/" + m.rest
}

// Location returns the escaped path of this request at the service's own URI, with the version that the path named: where an alias with
// a status redirects to. The query is the caller's to append.
func (m *Match) Location(s *Service) string {
	var b strings.Builder
	b.WriteString(m.prefix)
	if m.PathVersion != "" {
		b.WriteString("v" + url.PathEscape(m.PathVersion) + "/")
	}
	b.WriteString(m.replaceParts(s.URI, url.PathEscape))
	if s.Wildcard {
		if s.URI != "" {
			b.WriteByte('/')
		}
		b.WriteString(m.rest)
	}
	return b.String()
}

// VersionLocation is Location with another version: where a successor is.
func (m *Match) VersionLocation(s *Service, version string) string {
	other := *m
	other.PathVersion = version
	return other.Location(s)
}

func (m *Match) replaceParts(path string, escape func(string) string) string {
	segments := strings.Split(path, "/")
	for i, s := range segments {
		if name := partName(s); name != "" {
			segments[i] = m.part(name)
		} else {
			segments[i] = escape(s)
		}
	}
	return strings.Join(segments, "/")
}

// FullURI returns the service's URI, or that of one of its aliases, as the registry's text has it.
func (s *Service) FullURI(uri string) string {
	if !s.Wildcard {
		return uri
	}
	return strings.TrimPrefix(uri+"/*", "/")
}

// Parts returns the names in braces of the service's URI, in its order.
func (s *Service) Parts() []string { return partsOf(s.URI) }
