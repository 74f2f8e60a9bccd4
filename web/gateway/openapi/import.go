package openapi

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"go.yaml.in/yaml/v3"
)

// Options say what an OpenAPI document leaves open.
type Options struct {
	// Upstream is the upstream's name in the registry; default: upstream.
	Upstream string
	// URL is the upstream's address; default: the document's first server.
	URL string
	// Today is since when operations are deprecated that the document calls so.
	Today time.Time
}

// Imported is a registry made of an OpenAPI document.
type Imported struct {
	Text []byte // YAML
	// Files are the JSON Schemas that the text names.
	Files map[string][]byte
	// Notes say what a registry cannot say, or what the document leaves open.
	Notes []string
}

// MaxDocument is how many bytes an OpenAPI document may have.
const MaxDocument = 16 << 20

// Import makes a registry of an OpenAPI 3 document in YAML or JSON: a service for each operation, with its path, parameters and body. It
// reads no other files. Errors say what the document lacks.
func Import(document []byte, o Options) (*Imported, error) {
	if len(document) > MaxDocument {
		return nil, fmt.Errorf("%d bytes, expected at most %d", len(document), MaxDocument)
	}
	loader := openapi3.NewLoader()
	loader.ReadFromURIFunc = func(_ *openapi3.Loader, location *url.URL) ([]byte, error) {
		return nil, fmt.Errorf("refers to %s, expected one document without references to others", location)
	}
	doc, err := loader.LoadFromData(document)
	if err != nil {
		return nil, fmt.Errorf("not an OpenAPI 3 document: %s", firstLine(err))
	}
	if err := doc.Validate(context.Background(), openapi3.DisableExamplesValidation(), openapi3.DisableSchemaPatternValidation()); err != nil {
		return nil, fmt.Errorf("not a valid OpenAPI 3 document: %s", firstLine(err))
	}
	if doc.Paths.Len() == 0 {
		return nil, errors.New("has no paths, expected some")
	}
	i := &importer{doc: doc, upstream: cmp.Or(o.Upstream, "upstream"), today: o.Today.UTC().Format(time.DateOnly), files: map[string][]byte{}, byKey: map[string]*service{}, names: map[string]bool{}}
	address, err := i.address(o.URL)
	if err != nil {
		return nil, err
	}
	paths := doc.Paths.Map()
	for _, path := range slices.Sorted(maps.Keys(paths)) {
		operations := paths[path].Operations()
		for _, method := range sortedMethods(slices.Collect(maps.Keys(operations))) {
			i.operation(path, method, paths[path], operations[method])
		}
	}
	return i.result(address)
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

type importer struct {
	doc      *openapi3.T
	upstream string
	today    string
	files    map[string][]byte
	notes    []string
	services []*service
	byKey    map[string]*service
	names    map[string]bool
}

// The registry's text.
type (
	file struct {
		Version   int                 `yaml:"version"`
		Upstreams map[string]upstream `yaml:"upstreams"`
		Services  []*service          `yaml:"services"`
	}
	upstream struct {
		URLs []string `yaml:"urls,flow"`
	}
	service struct {
		Name     string     `yaml:"name"`
		URI      string     `yaml:"uri"`
		Aliases  []alias    `yaml:"aliases,omitempty"`
		Default  string     `yaml:"default,omitempty"`
		Versions []*version `yaml:"versions"`
	}
	version struct {
		Version      string   `yaml:"version"`
		Status       string   `yaml:"status,omitempty"`
		DeprecatedAt string   `yaml:"deprecated_at,omitempty"`
		SunsetAt     string   `yaml:"sunset_at,omitempty"`
		Successor    string   `yaml:"successor,omitempty"`
		Target       string   `yaml:"target"`
		Methods      []string `yaml:"methods,flow"`
		Auth         string   `yaml:"auth,omitempty"`
		Params       []param  `yaml:"params,omitempty"`
		Body         *body    `yaml:"body,omitempty"`
		Produces     []string `yaml:"produces,flow,omitempty"`
		FormatParam  bool     `yaml:"format_param,omitempty"`
	}
	param struct {
		Name     string `yaml:"name"`
		In       string `yaml:"in"`
		Required bool   `yaml:"required,omitempty"`
		Pattern  string `yaml:"pattern,omitempty"`
		MaxBytes int    `yaml:"max_bytes,omitempty"`
	}
	body struct {
		Schema   string   `yaml:"schema,omitempty"`
		Consumes []string `yaml:"consumes,flow,omitempty"`
	}
)

func (i *importer) note(format string, args ...any) {
	i.notes = append(i.notes, fmt.Sprintf(format, args...))
}

// address returns the upstream's URL.
func (i *importer) address(given string) (string, error) {
	address := given
	if address == "" && len(i.doc.Servers) > 0 {
		address = i.doc.Servers[0].URL
		for name, variable := range i.doc.Servers[0].Variables {
			address = strings.ReplaceAll(address, "{"+name+"}", variable.Default)
		}
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return "", fmt.Errorf("the server %q is not an http(s) URL, expected one; give the upstream's address with --url", address)
	}
	u.RawQuery, u.Fragment = "", ""
	return strings.TrimRight(u.String(), "/"), nil
}

// operation adds a method of a path.
func (i *importer) operation(path, method string, item *openapi3.PathItem, op *openapi3.Operation) {
	where := method + " " + path
	if !slices.Contains([]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}, method) {
		i.note("%s: left out, the gateway does not serve this method", where)
		return
	}
	from := originIn(op)
	uri, target, name, detail := i.uri(path, from)
	if detail != "" {
		i.note("%s: left out, %s", where, detail)
		return
	}
	from.Version = cmp.Or(from.Version, name, i.version())
	v := &version{Version: from.Version, Target: i.upstream + ":" + target, Methods: []string{method}, Produces: from.Produces, DeprecatedAt: from.DeprecatedAt, SunsetAt: from.SunsetAt, Successor: from.Successor}
	if op.Deprecated {
		v.Status, v.DeprecatedAt = "deprecated", cmp.Or(v.DeprecatedAt, i.today)
	}
	v.Auth = i.auth(op, from, where)
	i.params(v, item, op, uri, where)
	i.body(v, op, where)
	if len(v.Produces) == 0 {
		v.Produces = produces(op)
	}
	i.add(where, from, uri, op.OperationID, v)
}

// originIn returns what Describe noted of an operation.
func originIn(op *openapi3.Operation) origin {
	var o origin
	if noted := op.Extensions[extension]; noted != nil {
		if text, err := json.Marshal(noted); err != nil || json.Unmarshal(text, &o) != nil {
			return origin{}
		}
	}
	return o
}

// version is the document's, as far as it is the name of one: the part before the first dot.
func (i *importer) version() string {
	major, _, _ := strings.Cut(strings.TrimPrefix(i.doc.Info.Version, "v"), ".")
	if major == "" || len(major) > 8 || strings.Trim(major, "0123456789") != "" || major == "0" {
		return "1"
	}
	return major
}

// uri returns a path's URI in a registry, its path at the upstream, and the version that it begins with, or what no registry can have.
func (i *importer) uri(path string, from origin) (uri, target, version, detail string) {
	path = strings.TrimPrefix(path, "/")
	if from.Wildcard {
		path = strings.TrimSuffix(path, "{"+below+"}") + "*"
	}
	segments := strings.Split(path, "/")
	renamed := make([]string, 0, len(segments))
	for n, s := range segments {
		switch {
		case s == "" && n == len(segments)-1 && n > 0:
			return "", "", "", "it ends in a slash"
		case s == "":
			return "", "", "", "it has an empty segment"
		case s == "*" && from.Wildcard && n == len(segments)-1:
		case strings.HasPrefix(s, "{") && strings.HasSuffix(s, "}") && strings.Count(s, "{") == 1:
			s = "{" + partName(s[1:len(s)-1]) + "}"
		case strings.ContainsAny(s, "{}*%\\?# "):
			return "", "", "", fmt.Sprintf("the segment %q is no whole parameter", s)
		}
		renamed = append(renamed, s)
	}
	target = "/" + strings.Join(renamed, "/")
	if first := renamed[0]; len(renamed) > 1 && len(first) > 1 && first[0] == 'v' && strings.Trim(first[1:], "0123456789.") == "" {
		version, renamed = first[1:], renamed[1:]
	} else if from.Version != "" && !from.Default && first == "v"+from.Version && len(renamed) > 1 {
		renamed = renamed[1:]
	}
	return strings.Join(renamed, "/"), target, version, ""
}

// partName makes a name that stands in braces.
func partName(s string) string {
	s = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' {
			return r
		}
		return '_'
	}, s)
	return s[:min(len(s), 32)]
}

func (i *importer) auth(op *openapi3.Operation, from origin, where string) string {
	if from.Auth == "default" {
		return ""
	}
	if from.Auth != "" {
		return from.Auth
	}
	if op.Security != nil && len(*op.Security) == 0 {
		i.note("%s: needs no credentials (auth: none)", where)
		return "none"
	}
	return ""
}

// add puts a version into the service of its method and URI.
func (i *importer) add(where string, from origin, uri, id string, v *version) {
	key := cmp.Or(from.Service, v.Methods[0]) + " " + shape(uri)
	s := i.byKey[key]
	if s == nil {
		s = &service{Name: i.name(cmp.Or(from.Service, id, strings.ToLower(v.Methods[0])+"-"+uri)), URI: uri}
		i.byKey[key] = s
		i.services = append(i.services, s)
	}
	if from.Default || s.Default == "" || from.Service == "" && later(v.Version, s.Default) {
		s.Default = v.Version
	}
	if len(from.Aliases) > 0 && len(s.Aliases) == 0 {
		s.Aliases = from.Aliases
	}
	for _, other := range s.Versions {
		if other.Version != v.Version {
			continue
		}
		if from.Service == "" {
			i.note("%s: left out, %s has this version at the same URI", where, s.Name)
			return
		}
		other.Methods = sortedMethods(append(other.Methods, v.Methods...))
		if other.Body == nil {
			other.Body = v.Body
		}
		return
	}
	s.Versions = append(s.Versions, v)
}

// later compares versions such as 2 and 10.
func later(a, b string) bool { return len(a) > len(b) || len(a) == len(b) && a > b }

func shape(uri string) string {
	segments := strings.Split(uri, "/")
	for n, s := range segments {
		if strings.HasPrefix(s, "{") {
			segments[n] = "{}"
		}
	}
	return strings.Join(segments, "/")
}

// name makes a name of a service that is not taken.
func (i *importer) name(wish string) string {
	wish = strings.Trim(strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '_', r == '-':
			return r
		case r == '{' || r == '}':
			return -1
		}
		return '-'
	}, wish), ".-_")
	wish = cmp.Or(wish[:min(len(wish), 56)], "service")
	name := wish
	for n := 2; i.names[name]; n++ {
		name = fmt.Sprintf("%s-%d", wish, n)
	}
	i.names[name] = true
	return name
}

func (i *importer) result(address string) (*Imported, error) {
	if len(i.services) == 0 {
		return nil, fmt.Errorf("no operation can be served: %s", strings.Join(i.notes, "; "))
	}
	for _, s := range i.services {
		if len(s.Versions) == 1 {
			s.Default = ""
		}
	}
	text, err := yaml.Marshal(file{Version: 1, Upstreams: map[string]upstream{i.upstream: {URLs: []string{address}}}, Services: i.services})
	if err != nil {
		return nil, fmt.Errorf("write the registry: %w", err)
	}
	return &Imported{Text: text, Files: i.files, Notes: i.notes}, nil
}
