package openapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// params adds an operation's parameters, and those of its path.
func (i *importer) params(v *version, item *openapi3.PathItem, op *openapi3.Operation, uri, where string) {
	all := slices.Clone(op.Parameters)
	for _, p := range item.Parameters {
		if p.Value != nil && op.Parameters.GetByInAndName(p.Value.In, p.Value.Name) == nil {
			all = append(all, p)
		}
	}
	for _, ref := range all {
		p := ref.Value
		switch {
		case p == nil, p.In == "path" && p.Name == below && strings.HasSuffix(uri, "/*"):
			continue
		case p.In == "query" && p.Name == "format" && op.Extensions[extension] != nil:
			v.FormatParam = true
			continue
		case p.In == "cookie":
			i.note("%s: the cookie %q is not checked", where, p.Name)
			continue
		}
		out := param{Name: p.Name, In: p.In, Required: p.Required}
		if p.In == "path" {
			out.Name = partName(p.Name)
		}
		if p.Schema != nil && p.Schema.Value != nil {
			i.restrict(&out, p.Schema.Value, where)
		}
		if p.In == "path" && out.Pattern == "" && out.MaxBytes == 0 {
			continue // any segment will do
		}
		v.Params = append(v.Params, out)
	}
}

// restrict says of a parameter what its schema says, as far as a pattern can.
func (i *importer) restrict(p *param, s *openapi3.Schema, where string) {
	if s.MaxLength != nil && *s.MaxLength < 1<<18 {
		p.MaxBytes = max(int(*s.MaxLength), 1)
		if s.Pattern == "" {
			p.MaxBytes *= 4 // a character has up to four bytes
		}
	}
	switch {
	case len(s.Enum) > 0:
		words := make([]string, len(s.Enum))
		for n, e := range s.Enum {
			words[n] = regexp.QuoteMeta(fmt.Sprint(e))
		}
		p.Pattern = strings.Join(words, "|")
	case s.Type.Is("integer"):
		p.Pattern = "-?[0-9]+"
	case s.Type.Is("number"):
		p.Pattern = `-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?`
	case s.Type.Is("boolean"):
		p.Pattern = "true|false"
	case s.Pattern != "":
		p.Pattern = wholePattern(s.Pattern)
		if _, err := regexp.Compile(p.Pattern); err != nil {
			i.note("%s: the pattern of %s is left out, RE2 does not know it: %s", where, p.Name, s.Pattern)
			p.Pattern = ""
		}
	}
}

// wholePattern makes a pattern for the whole value of one that may match anywhere in it.
func wholePattern(p string) string {
	if inner, ok := strings.CutPrefix(p, "^(?:"); ok {
		if inner, ok := strings.CutSuffix(inner, ")$"); ok && balanced(inner) {
			return inner
		}
	}
	if strings.HasPrefix(p, "^") && strings.HasSuffix(p, "$") && !strings.HasSuffix(p, `\$`) && !strings.Contains(p, "|") {
		return p[1 : len(p)-1]
	}
	return "(?s:.*)(?:" + p + ")(?s:.*)"
}

// balanced reports whether a pattern's parentheses match by themselves.
func balanced(p string) bool {
	_, err := regexp.Compile(p)
	return err == nil
}

// body adds an operation's request body.
func (i *importer) body(v *version, op *openapi3.Operation, where string) {
	if op.RequestBody == nil || op.RequestBody.Value == nil {
		return
	}
	out := &body{}
	var schema *openapi3.SchemaRef
	content := op.RequestBody.Value.Content
	for _, media := range slices.Sorted(maps.Keys(content)) {
		format := formatOf(media)
		if format == "" {
			i.note("%s: a body of %s is passed on unchecked", where, media)
			return
		}
		if !slices.Contains(out.Consumes, format) {
			out.Consumes = append(out.Consumes, format)
		}
		if schema == nil && content[media] != nil {
			schema = content[media].Schema
		}
	}
	if schema != nil {
		name := "schemas/" + i.fileName(op, where) + ".json"
		text, err := i.jsonSchema(schema)
		if err != nil {
			i.note("%s: the schema of its body is left out: %s", where, err)
		} else {
			i.files[name] = text
			out.Schema = name
		}
	}
	v.Body = out
}

func (i *importer) fileName(op *openapi3.Operation, where string) string {
	id := op.OperationID
	if id == "" {
		id = strings.ToLower(strings.NewReplacer(" /", "-", "/", "-", "{", "", "}", "").Replace(where))
	}
	return componentName(id)
}

// formatOf returns the registry's format of a media type, or "".
func formatOf(media string) string {
	media, _, _ = strings.Cut(strings.ToLower(media), ";")
	switch media = strings.TrimSpace(media); {
	case media == "application/json" || strings.HasSuffix(media, "+json"):
		return "json"
	case media == "application/xml" || media == "text/xml" || strings.HasSuffix(media, "+xml"):
		return "xml"
	}
	return ""
}

// produces returns the formats of an operation's successful responses; none if there are others.
func produces(op *openapi3.Operation) []string {
	var out []string
	for code, ref := range op.Responses.Map() {
		if !strings.HasPrefix(code, "2") || ref.Value == nil {
			continue
		}
		for media := range ref.Value.Content {
			format := formatOf(media)
			if format == "" {
				return nil
			}
			if !slices.Contains(out, format) {
				out = append(out, format)
			}
		}
	}
	slices.Sort(out)
	return out
}

// jsonSchema makes a JSON Schema (draft 2020-12) in a file of its own of a schema of the document.
func (i *importer) jsonSchema(ref *openapi3.SchemaRef) ([]byte, error) {
	root, err := plain(ref)
	if err != nil {
		return nil, err
	}
	definitions := map[string]any{}
	pending := []any{root}
	var missing error
	for len(pending) > 0 {
		next := pending[0]
		pending = pending[1:]
		translate(next)
		rewrite(next, func(ref string) (string, bool) {
			name, ok := strings.CutPrefix(ref, "#/components/schemas/")
			if !ok || strings.Contains(name, "/") {
				missing = fmt.Errorf("it refers to %s", ref)
				return ref, true
			}
			if definitions[name] == nil {
				component := i.doc.Components.Schemas[name]
				if component == nil {
					missing = fmt.Errorf("it refers to %s, which is missing", ref)
					return ref, true
				}
				content, err := plain(component)
				if err != nil {
					missing = err
					return ref, true
				}
				definitions[name] = content
				pending = append(pending, content)
			}
			return "#/$defs/" + name, true
		})
		if missing != nil {
			return nil, missing
		}
	}
	out, ok := root.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("it is not an object")
	}
	out["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	if len(definitions) > 0 {
		out["$defs"] = definitions
	}
	text, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(text, '\n'), nil
}

// plain returns a schema as JSON has it.
func plain(ref *openapi3.SchemaRef) (any, error) {
	text, err := json.Marshal(ref)
	if err != nil {
		return nil, err
	}
	var out any
	err = json.Unmarshal(text, &out)
	return out, err
}

// translate replaces what OpenAPI 3.0 says in another way than JSON Schema: nullable, and exclusive bounds as flags.
func translate(v any) {
	switch v := v.(type) {
	case map[string]any:
		if v["nullable"] == true {
			if t, is := v["type"].(string); is {
				v["type"] = []any{t, "null"}
			}
			if enum, is := v["enum"].([]any); is && !slices.Contains(enum, nil) {
				v["enum"] = append(enum, nil)
			}
		}
		if _, flag := v["nullable"].(bool); flag {
			delete(v, "nullable")
		}
		for _, bound := range []struct{ flag, value string }{{"exclusiveMinimum", "minimum"}, {"exclusiveMaximum", "maximum"}} {
			if flag, is := v[bound.flag].(bool); is {
				delete(v, bound.flag)
				if flag && v[bound.value] != nil {
					v[bound.flag] = v[bound.value]
					delete(v, bound.value)
				}
			}
		}
		for _, value := range v {
			translate(value)
		}
	case []any:
		for _, item := range v {
			translate(item)
		}
	}
}
