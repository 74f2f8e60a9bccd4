// Package negotiate decides in which format a route of the gateway answers, by what the client asks for, what the route
// produces and what the service sent.
package negotiate

import (
	"mime"
	"net/http"
	"slices"
	"strings"

	"quorumhub/web/problem"
)

// Format is a representation that the gateway produces.
type Format string

// Formats.
const (
	JSON Format = "json"
	XML  Format = "xml"
)

// Vary is the header that every answer of a route with more than one format carries.
const Vary = "Accept"

// Of returns the format of a media type, parameters included or not, and false if the gateway cannot convert it.
func Of(contentType string) (Format, bool) {
	kind, _, _ := strings.Cut(contentType, ";")
	kind = strings.ToLower(strings.TrimSpace(kind))
	switch {
	case kind == "application/json", kind == "text/json", strings.HasSuffix(kind, "+json"):
		return JSON, true
	case kind == "application/xml", kind == "text/xml", strings.HasSuffix(kind, "+xml"):
		return XML, true
	}
	return "", false
}

// ErrorForms are the forms of errors on a route that produces these formats, the default first, for problem.Prefer.
func ErrorForms(produces []Format) []problem.Form {
	if len(produces) > 0 && produces[0] == XML {
		return []problem.Form{problem.XML, problem.JSON, problem.Text}
	}
	return []problem.Form{problem.JSON, problem.XML, problem.Text}
}

// Choice is what a client wants of a route.
type Choice struct {
	accept   []string
	produces []Format
	chosen   Format // by ?format=; empty: the Accept header decides
}

// Choose reads what a client wants before its request is passed on: accept are the Accept headers, param the values of ?format=
// where the route allows it (it overrides Accept, since whoever writes it cannot set headers), produces the route's formats;
// none are all. The error is 406 if the route produces nothing that the client accepts, and 400 if ?format= is no format.
func Choose(accept, param []string, produces []Format) (Choice, error) {
	if len(produces) == 0 {
		produces = []Format{JSON, XML}
	}
	c := Choice{produces: produces}
	if strings.TrimSpace(strings.Join(accept, "")) != "" {
		c.accept = accept
	}
	if len(param) > 0 {
		c.chosen = Format(param[0])
		switch {
		case len(param) > 1:
			return c, &problem.Details{Status: http.StatusBadRequest, Code: "invalid", Param: "format", Detail: "is there more than once"}
		case c.chosen != JSON && c.chosen != XML:
			return c, &problem.Details{Status: http.StatusBadRequest, Code: "invalid", Param: "format",
				Detail: "is " + problem.Quote(param[0]) + "; expected json or xml"}
		case !slices.Contains(produces, c.chosen):
			return c, c.notAcceptable("format")
		}
		return c, nil
	}
	if !slices.ContainsFunc(produces, func(f Format) bool { return c.weight(f) > 0 }) {
		return c, c.notAcceptable("Accept")
	}
	return c, nil
}

// Answer is how to send what the service sent.
type Answer struct {
	Format      Format // the format to convert to; empty: send it as it is
	ContentType string // of what is sent
}

// Answer decides by the Content-Type of the service's answer: the format that the client wants most, and as the service sent
// it if the client wants that as much. What is neither JSON nor XML goes as it is to clients that accept it; the error is 406
// for others.
func (c Choice) Answer(contentType string) (Answer, error) {
	sent, known := Of(contentType)
	if !known {
		if c.chosen == "" && c.accepts(contentType) {
			return Answer{ContentType: contentType}, nil
		}
		return Answer{}, c.notAcceptable("Accept")
	}
	want := c.chosen
	if want == "" {
		for _, f := range c.produces {
			if w := c.weight(f); w > 0 && (want == "" || w > c.weight(want) || w == c.weight(want) && f == sent) {
				want = f
			}
		}
	}
	if want == sent {
		return Answer{ContentType: contentType}, nil
	}
	return Answer{Format: want, ContentType: c.mediaType(want)}, nil
}

// mediaType is the name under which a format is sent: text/xml only to those who ask for that name.
func (c Choice) mediaType(f Format) string {
	switch {
	case f == JSON:
		return "application/json"
	case c.accept != nil && problem.Weight(c.accept, "text/xml") > problem.Weight(c.accept, "application/xml", "application/*"):
		return "text/xml; charset=utf-8"
	}
	return "application/xml"
}

// weight is how much the client wants a format.
func (c Choice) weight(f Format) float64 {
	if c.accept == nil {
		return 1
	}
	if f == JSON {
		return problem.Weight(c.accept, "application/json", "application/*")
	}
	return max(problem.Weight(c.accept, "application/xml", "application/*"), problem.Weight(c.accept, "text/xml", "text/*"))
}

// accepts reports whether the client accepts a media type.
func (c Choice) accepts(contentType string) bool {
	if c.accept == nil {
		return true
	}
	kind, _, _ := strings.Cut(contentType, ";")
	kind = strings.ToLower(strings.TrimSpace(kind))
	class, _, _ := strings.Cut(kind, "/")
	return problem.Weight(c.accept, kind, class+"/*") > 0
}

func (c Choice) notAcceptable(param string) error {
	names := make([]string, len(c.produces))
	for i, f := range c.produces {
		names[i] = "application/" + string(f)
	}
	return &problem.Details{Status: http.StatusNotAcceptable, Code: "not_acceptable", Param: param,
		Detail: "names nothing that this route can answer with; expected " + strings.Join(names, " or ")}
}

// Version returns the version that a client asks for as a media type parameter (application/json; version=2): in the Accept
// header's heaviest range that has one, or else in the Content-Type of its request; "" if it does not.
func Version(accept []string, contentType string) string {
	version, most := "", 0.0
	for _, line := range accept {
		for _, item := range ranges(line) {
			_, params, err := mime.ParseMediaType(item)
			if err != nil || params["version"] == "" {
				continue
			}
			q := 1.0
			if given, ok := params["q"]; ok {
				q = problem.Quality("q=" + given)
			}
			if q > most {
				version, most = params["version"], q
			}
		}
	}
	if version == "" {
		if _, params, err := mime.ParseMediaType(contentType); err == nil {
			version = params["version"]
		}
	}
	return version
}

// ranges splits an Accept header at the commas that are not quoted.
func ranges(header string) []string {
	var out []string
	start, quoted := 0, false
	for i := 0; i < len(header); i++ {
		switch c := header[i]; {
		case c == '\\' && quoted:
			i++
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			out = append(out, header[start:i])
			start = i + 1
		}
	}
	return append(out, header[start:])
}
