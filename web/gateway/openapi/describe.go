package openapi

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"quorumhub/web/gateway/registry"
)

// Describe returns an OpenAPI 3.1 document in JSON of what a registry serves: a path for the default version of each service, and one that
// begins with the version for each other. Retired versions, upstreams and secrets are not in it.
func Describe(reg *registry.Registry) []byte {
	d := &describer{reg: reg, paths: map[string]any{}, schemes: map[string]any{}, schemas: map[string]any{}}
	for i := range reg.Services {
		s := &reg.Services[i]
		for j := range s.Versions {
			if v := &s.Versions[j]; v.Status != registry.StatusRetired {
				d.version(s, v)
			}
		}
	}
	d.schemas["problem"] = problemSchema()
	text, err := json.MarshalIndent(map[string]any{
		"openapi":    "3.1.0",
		"info":       map[string]any{"title": "quorumhub gateway", "version": "1"},
		"servers":    []any{map[string]any{"url": reg.Prefix}},
		"paths":      d.paths,
		"components": map[string]any{"schemas": d.schemas, "securitySchemes": d.schemes},
	}, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("describe the registry: %v", err)) // maps, slices, texts and what came from JSON always encode
	}
	return append(text, '\n')
}

type describer struct {
	reg                     *registry.Registry
	paths, schemes, schemas map[string]any
}

func (d *describer) version(s *registry.Service, v *registry.Version) {
	path := "/" + s.URI
	if v.Version != s.Default {
		path = "/v" + v.Version + "/" + s.URI
	}
	if s.Wildcard {
		path = strings.TrimSuffix(path, "/") + "/{" + below + "}"
	}
	item, ok := d.paths[path].(map[string]any)
	if !ok {
		item = map[string]any{}
		d.paths[path] = item
	}
	for _, method := range v.Methods {
		if key := strings.ToLower(method); item[key] == nil {
			item[key] = d.operation(s, v, method)
		}
	}
}

func (d *describer) operation(s *registry.Service, v *registry.Version, method string) map[string]any {
	op := map[string]any{
		"operationId": strings.ToLower(method) + "-" + s.Name + "-v" + v.Version,
		"tags":        []string{s.Name},
		"responses":   responses(v),
		extension:     originOf(s, v),
	}
	if params := parameters(s, v); len(params) > 0 {
		op["parameters"] = params
	}
	if body := d.body(v, method); body != nil {
		op["requestBody"] = body
	}
	if v.Status == registry.StatusDeprecated {
		op["deprecated"] = true
	}
	if v.Auth == registry.AuthNone {
		op["security"] = []any{}
	} else {
		d.schemes[v.Auth] = map[string]any{"type": "apiKey", "in": "header", "name": "Authorization", "description": "The authenticator or sequence " + v.Auth + " of the hub."}
		op["security"] = []any{map[string]any{v.Auth: []string{}}}
	}
	return op
}

func originOf(s *registry.Service, v *registry.Version) origin {
	o := origin{Service: s.Name, Version: v.Version, Default: v.Version == s.Default, Auth: v.Auth, Wildcard: s.Wildcard, DeprecatedAt: date(v.DeprecatedAt), SunsetAt: date(v.SunsetAt), Successor: v.Successor}
	for _, f := range v.Produces {
		o.Produces = append(o.Produces, string(f))
	}
	if o.Default {
		for _, a := range s.Aliases {
			o.Aliases = append(o.Aliases, alias{URI: s.FullURI(a.URI), Status: a.Status})
		}
	}
	return o
}

func date(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func parameters(s *registry.Service, v *registry.Version) []any {
	var out []any
	named := map[string]bool{}
	for _, p := range v.Params {
		schema := map[string]any{"type": "string"}
		if p.Pattern != "" {
			schema["pattern"] = "^(?:" + p.Pattern + ")$"
		}
		if p.MaxBytes > 0 {
			schema["maxLength"] = p.MaxBytes
		}
		out = append(out, map[string]any{"name": p.Name, "in": p.In, "required": p.Required || p.In == "path", "schema": schema})
		named[p.Name] = named[p.Name] || p.In == "path"
	}
	names := s.Parts()
	if s.Wildcard {
		names = append(names, below)
	}
	for _, name := range names {
		if !named[name] {
			out = append(out, map[string]any{"name": name, "in": "path", "required": true, "schema": map[string]any{"type": "string"}})
		}
	}
	if v.FormatParam {
		out = append(out, map[string]any{"name": "format", "in": "query", "schema": map[string]any{"type": "string", "enum": []string{"json", "xml"}}})
	}
	return out
}

func (d *describer) body(v *registry.Version, method string) map[string]any {
	if v.Body == nil || method == "GET" || method == "HEAD" {
		return nil
	}
	formats := v.Body.Consumes
	if len(formats) == 0 {
		formats = []registry.Format{registry.FormatJSON}
	}
	media := map[string]any{}
	if ref := d.schema(v.Body.Schema); ref != "" {
		media["schema"] = map[string]any{"$ref": "#/components/schemas/" + ref}
	}
	content := map[string]any{}
	for _, f := range formats {
		content["application/"+string(f)] = media
	}
	return map[string]any{"required": true, "content": content}
}

// schema adds a JSON Schema of the registry to the components and returns its name, or "" if there is none or it refers to others in a way
// that the document cannot show.
func (d *describer) schema(file string) string {
	if file == "" {
		return ""
	}
	name := componentName(file)
	if d.schemas[name] != nil {
		return name
	}
	var schema map[string]any
	if json.Unmarshal(d.reg.Files[file], &schema) != nil {
		return ""
	}
	definitions, _ := schema["$defs"].(map[string]any)
	delete(schema, "$defs")
	delete(schema, "$schema")
	delete(schema, "$id")
	rename := func(ref string) (string, bool) {
		def, ok := strings.CutPrefix(ref, "#/$defs/")
		return "#/components/schemas/" + name + "." + componentName(def), ok && definitions[def] != nil
	}
	if !rewrite(schema, rename) {
		return ""
	}
	for _, def := range definitions {
		if !rewrite(def, rename) {
			return ""
		}
	}
	for def, content := range definitions {
		d.schemas[name+"."+componentName(def)] = content
	}
	d.schemas[name] = schema
	return name
}

// componentName makes a name that components may have.
func componentName(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-' || r == '.' {
			return r
		}
		return '_'
	}, s)
}

// rewrite replaces the references in a schema, and reports whether all had a replacement.
func rewrite(v any, rename func(string) (string, bool)) bool {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			if ref, is := value.(string); is && (key == "$ref" || key == "$dynamicRef") {
				renamed, ok := rename(ref)
				if !ok {
					return false
				}
				v[key] = renamed
				continue
			}
			if !rewrite(value, rename) {
				return false
			}
		}
	case []any:
		for _, item := range v {
			if !rewrite(item, rename) {
				return false
			}
		}
	}
	return true
}

func responses(v *registry.Version) map[string]any {
	problem := map[string]any{"description": "A problem, as the title says.", "content": map[string]any{
		"application/problem+json": map[string]any{"schema": map[string]any{"$ref": "#/components/schemas/problem"}},
	}}
	if v.Target.Kind == registry.TargetTopic {
		return map[string]any{"202": map[string]any{"description": "The message is stored.", "headers": map[string]any{
			"X-Hub-Message-Id": map[string]any{"description": "The message's ID.", "schema": map[string]any{"type": "string"}},
		}}, "default": problem}
	}
	success := map[string]any{"description": "What the service answers."}
	content := map[string]any{}
	for _, f := range v.Produces {
		content["application/"+string(f)] = map[string]any{}
	}
	if len(content) > 0 {
		success["content"] = content
	}
	return map[string]any{"200": success, "default": problem}
}

func problemSchema() map[string]any {
	text := map[string]any{"type": "string"}
	return map[string]any{"type": "object", "description": "A problem (RFC 9457).", "properties": map[string]any{
		"type": text, "title": text, "status": map[string]any{"type": "integer"}, "detail": text, "code": text, "correlation_id": text,
		"errors": map[string]any{"type": "array", "items": map[string]any{"type": "object", "properties": map[string]any{"pointer": text, "detail": text}}},
	}}
}

// sortedMethods orders methods as people list them.
func sortedMethods(methods []string) []string {
	order := []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
	slices.SortFunc(methods, func(a, b string) int { return cmp.Compare(slices.Index(order, a), slices.Index(order, b)) })
	return methods
}
