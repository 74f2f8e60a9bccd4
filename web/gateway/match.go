package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"quorumhub/web/gateway/negotiate"
	"quorumhub/web/gateway/registry"
	"quorumhub/web/problem"
)

const versionHeader = "Api-Version"

// matchStage finds the service and the version. What it learns about them is told only to callers who have proven who they are.
type matchStage struct{}

func (matchStage) name() string { return "match" }
func (matchStage) explain(v *version) string {
	return fmt.Sprintf("%s, version %s (%s): by path, else %s, else the media type's parameter version, else %s; %s",
		v.service.Name, v.Version.Version, v.Status, versionHeader, orNone(v.service.Default), strings.Join(v.Methods, ", "))
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func (matchStage) do(x *exchange) error {
	if x.at == nil {
		return unknownRoute()
	}
	if x.r.URL.EscapedPath() == x.at.registry.Prefix+"/openapi.json" {
		x.version = x.at.itself
		if v := x.version; !slices.Contains(v.Methods, x.r.Method) {
			x.choice = notAllowed(x.r.Method, strings.Join(v.Methods, ", "))
		}
		return nil
	}
	m, err := x.at.router.Find(x.r.Method, x.r.URL.EscapedPath())
	var shape *registry.PathError
	switch {
	case errors.As(err, &shape):
		return fault(http.StatusBadRequest, codeInvalid, "%s", shape.Error())
	case err != nil:
		return unknownRoute()
	}
	header := ""
	switch given := x.r.Header[versionHeader]; {
	case len(given) > 1:
		x.choice = multiple(versionHeader, len(given))
	case len(given) == 1:
		header = strings.TrimSpace(given[0])
	}
	choice := m.Choose(header, negotiate.Version(x.r.Header["Accept"], x.r.Header.Get("Content-Type")))
	x.match, x.alias, x.version = m, choice.Alias, x.at.versions[choice.Version]
	v := x.version
	switch {
	case x.decided():
	case choice.Outcome == registry.UnknownVersion:
		x.choice = fault(http.StatusNotFound, codeUnknownRoute, "this version does not exist; there are %s", strings.Join(m.Versions(), ", "))
		x.unknown = true
	case v.Status == registry.StatusRetired:
		x.choice = x.retired()
	case choice.Alias != nil && choice.Alias.Status != 0:
		x.move = m.Location(choice.Service) // whatever the method
	case choice.Outcome == registry.MethodNotAllowed:
		x.choice = notAllowed(x.r.Method, strings.Join(m.Allowed(v.Version.Version), ", "))
	}
	return nil
}

// decided reports whether the answer is no call of the target.
func (x *exchange) decided() bool { return x.choice != nil }

func notAllowed(method, allow string) *problem.Details {
	d := fault(http.StatusMethodNotAllowed, codeMethod, "is %s; this route accepts %s", problem.Quote(method), allow)
	d.Param, d.Allow = "method", allow
	return d
}

// retired is the answer for a version whose life is over.
func (x *exchange) retired() *problem.Details {
	v := x.version
	detail := "version " + v.Version.Version + " is retired"
	if v.Successor != "" {
		detail += "; use version " + v.Successor + " at " + x.match.VersionLocation(v.service.Service, v.Successor)
	}
	return fault(http.StatusGone, codeRetired, "%s", detail)
}

// lifeHeaders tell callers where a version is in its life: Deprecation (RFC 9745), Sunset (RFC 8594) and the successor.
func (v *version) lifeHeaders(x *exchange, h http.Header) {
	deprecated := v.DeprecatedAt
	var links []string
	if x.alias != nil {
		if deprecated.IsZero() {
			deprecated = x.at.active.AppliedAt
		}
		links = append(links, "<"+x.match.Location(v.service.Service)+`>; rel="canonical"`)
	}
	if v.Status == registry.StatusDeprecated && deprecated.IsZero() {
		deprecated = x.at.active.AppliedAt
	}
	if !deprecated.IsZero() {
		h.Set("Deprecation", "@"+strconv.FormatInt(deprecated.Unix(), 10))
	}
	if !v.SunsetAt.IsZero() {
		h.Set("Sunset", v.SunsetAt.UTC().Format(http.TimeFormat))
	}
	if v.Successor != "" {
		links = append(links, "<"+x.match.VersionLocation(v.service.Service, v.Successor)+`>; rel="successor-version"`)
	}
	for _, l := range links {
		h.Add("Link", l)
	}
}
