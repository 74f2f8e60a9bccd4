package gateway

import (
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"quorumhub/web/gateway/registry"
	"quorumhub/web/problem"
)

// param is a parameter with its pattern compiled.
type param struct {
	registry.Param
	pattern *regexp.Regexp // nil: any
}

// validateStage checks a request against what the registry says about its version.
type validateStage struct{}

func (validateStage) name() string { return "validate" }
func (validateStage) explain(v *version) string {
	var parts []string
	for _, p := range v.params {
		text := p.In + " " + p.Name
		if p.Required {
			text += " required"
		}
		if p.Pattern != "" {
			text += " " + p.Pattern
		}
		parts = append(parts, text)
	}
	if b := v.Body; b != nil {
		if len(b.Consumes) > 0 {
			parts = append(parts, fmt.Sprintf("body %v", b.Consumes))
		}
		if b.Schema != "" {
			parts = append(parts, "schema "+b.Schema)
		}
	}
	parts = append(parts, fmt.Sprintf("body of at most %d bytes", v.MaxBody))
	return strings.Join(parts, "; ")
}

func (validateStage) do(x *exchange) error {
	v := x.version
	x.query = withoutGeo(x.r.URL.RawQuery)
	if err := x.checkFormat(); err != nil {
		return err
	}
	if err := x.checkParams(); err != nil {
		return err
	}
	if !x.body.there {
		if v.Body != nil && v.schema != nil && x.r.Method != http.MethodGet && x.r.Method != http.MethodHead && x.r.Method != http.MethodDelete {
			return invalidBody([]problem.Place{{Pointer: "", Detail: "the body is missing"}})
		}
		return nil
	}
	if x.r.ContentLength > v.MaxBody {
		return tooLarge(v.MaxBody)
	}
	if p := v.protection; p != nil && (len(p.keys) > 0 || p.verify) {
		return nil // what is inside is checked once it is there
	}
	return x.checkContent()
}

// checkContent checks the body's format and, against the schema, its content.
func (x *exchange) checkContent() error {
	format, err := x.checkConsumes()
	if err != nil || x.version.schema == nil {
		return err
	}
	return x.checkSchema(format)
}

func tooLarge(limit int64) *problem.Details {
	d := fault(http.StatusRequestEntityTooLarge, codeTooLarge, "is larger than %d bytes, which this route accepts", limit)
	d.Param, d.HangUp = "body", true
	return d
}

// checkParams checks all parameters and reports all that is wrong with them.
func (x *exchange) checkParams() error {
	if len(x.version.params) == 0 {
		return nil
	}
	query, err := url.ParseQuery(x.query)
	if err != nil {
		return fault(http.StatusBadRequest, codeInvalid, "the query is malformed: expected name=value pairs between &, and two hexadecimal digits after each %%")
	}
	var faults []problem.Place
	for _, p := range x.version.params {
		var given []string
		switch p.In {
		case "query":
			given = query[p.Name]
		case "header":
			given = x.r.Header.Values(p.Name)
		case "path":
			if value := x.match.Part(p.Name); value != "" {
				given = []string{value}
			}
		}
		if detail := p.check(given); detail != "" {
			faults = append(faults, problem.Place{Pointer: "/" + p.In + "/" + p.Name, Detail: detail})
		}
	}
	if len(faults) == 0 {
		return nil
	}
	d := fault(http.StatusBadRequest, codeInvalid, "%s %s", strings.TrimPrefix(strings.Replace(faults[0].Pointer, "/", "", 1), "/"), faults[0].Detail)
	d.Places = faults
	return d
}

func (p *param) check(given []string) string {
	switch {
	case len(given) > 1:
		return fmt.Sprintf("is given %d times; expected once", len(given))
	case len(given) == 0 && p.Required:
		return "is missing"
	case len(given) == 0:
		return ""
	case p.MaxBytes > 0 && len(given[0]) > p.MaxBytes:
		return fmt.Sprintf("has %d bytes; at most %d are accepted", len(given[0]), p.MaxBytes)
	case p.pattern != nil && !p.pattern.MatchString(given[0]):
		return "is " + problem.Quote(given[0]) + "; expected to match " + p.Pattern
	}
	return ""
}

// checkConsumes returns the body's format, empty if it is neither JSON nor XML, and refuses what the version does not consume.
func (x *exchange) checkConsumes() (registry.Format, error) {
	given := x.r.Header["Content-Type"]
	if x.body.kind != "" {
		given = []string{x.body.kind}
	}
	if len(given) > 1 {
		return "", multiple("Content-Type", len(given))
	}
	format := registry.Format("")
	if len(given) == 1 {
		format = formatOf(given[0])
	}
	b := x.version.Body
	if b == nil || len(b.Consumes) == 0 || slices.Contains(b.Consumes, format) {
		return format, nil
	}
	what := "is missing"
	if len(given) == 1 {
		what = "is " + problem.Quote(given[0])
	}
	types := make([]string, len(b.Consumes))
	for i, f := range b.Consumes {
		types[i] = "application/" + string(f)
	}
	d := fault(http.StatusUnsupportedMediaType, codeUnsupported, "%s; expected %s", what, strings.Join(types, " or "))
	d.Param = "Content-Type"
	return "", d
}

// formatOf returns the format that a media type has, by its name or its structured syntax suffix (RFC 6839).
func formatOf(contentType string) registry.Format {
	kind, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return ""
	}
	if charset := params["charset"]; charset != "" && !strings.EqualFold(charset, "utf-8") && !strings.EqualFold(charset, "us-ascii") {
		return ""
	}
	switch {
	case kind == "application/json", kind == "text/json", strings.HasSuffix(kind, "+json"):
		return registry.FormatJSON
	case kind == "application/xml", kind == "text/xml", strings.HasSuffix(kind, "+xml"):
		return registry.FormatXML
	}
	return ""
}

func invalidBody(faults []problem.Place) *problem.Details {
	d := fault(http.StatusBadRequest, codeInvalid, "the body does not match the route's schema")
	for i, f := range faults { // they contain names and values of the body
		faults[i].Pointer, faults[i].Detail = problem.Clip(f.Pointer), problem.Clip(f.Detail)
	}
	if len(faults) > 0 {
		d.Detail += ": " + strings.TrimSpace(faults[0].Pointer+" "+faults[0].Detail)
	}
	d.Places = faults
	return d
}

func isGeoName(raw string) bool {
	name, err := url.QueryUnescape(raw)
	if err != nil {
		name = raw
	}
	return len(name) >= 4 && strings.EqualFold(name[:4], "geo-")
}

// unescapedWhole takes a query apart that was escaped as a whole, separators included.
func unescapedWhole(raw string) (string, bool) {
	whole, err := url.QueryUnescape(raw)
	if err != nil || !strings.Contains(whole, "&geo-signature=") {
		return "", false
	}
	pieces := strings.Split(whole, "&")
	for i, p := range pieces {
		name, value, _ := strings.Cut(p, "=")
		pieces[i] = url.QueryEscape(name) + "=" + url.QueryEscape(value)
	}
	return strings.Join(pieces, "&"), true
}
