package registry

import (
	"encoding/json"
	"fmt"
)

// reference matches a text with a reference that is not escaped.
const reference = `(?:^|[^$])\$\{[^}]+\}`

// Schema returns the JSON Schema (draft 2020-12) of a registry in YAML or JSON. It says the same of a text's form as Read; what a text
// means, Read alone checks.
func Schema() []byte {
	root := grammar().schema()
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "quorumhub gateway registry"
	text, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("the registry's schema: %v", err)) // maps, slices, strings and numbers always encode
	}
	return append(text, '\n')
}

func (s *shape) schema() map[string]any {
	switch s.kind {
	case scalarKind:
		return s.scalarSchema()
	case listKind:
		out := map[string]any{"type": []string{"array", "null"}, "items": s.item.schema(), "maxItems": s.most}
		if s.nonEmpty {
			out["type"], out["minItems"] = "array", 1
		}
		return out
	case objectKind:
		properties, required := map[string]any{}, []string{}
		for _, m := range s.members {
			p := m.shape.schema()
			p["description"] = m.doc
			properties[m.name] = p
			if m.required {
				required = append(required, m.name)
			}
		}
		out := map[string]any{"type": []string{"object", "null"}, "properties": properties, "additionalProperties": false}
		if len(required) > 0 {
			out["type"], out["required"] = "object", required
		}
		return out
	case namesKind:
		return map[string]any{"type": []string{"object", "null"}, "propertyNames": (&shape{form: s.form, literal: true}).textSchema(),
			"additionalProperties": s.item.schema(), "maxProperties": maxNames}
	default:
		return map[string]any{}
	}
}

func (s *shape) scalarSchema() map[string]any {
	f := s.form
	switch {
	case f.onlyTruth:
		return map[string]any{"type": "boolean"}
	case f.onlyNumber && f.enum != nil:
		numbers := make([]json.Number, len(f.enum))
		for i, n := range f.enum {
			numbers[i] = json.Number(n)
		}
		return map[string]any{"enum": numbers}
	case f.onlyNumber:
		return map[string]any{"type": "integer", "minimum": f.min, "maximum": f.max}
	case f.enum != nil:
		return map[string]any{"enum": f.enum}
	}
	out := s.textSchema()
	switch {
	case s.secret:
		out["pattern"] = reference
	case s.references && f.pattern != nil:
		out["pattern"] = f.pattern.String() + "|" + reference
	case !s.references && !s.literal:
		out["not"] = map[string]any{"type": "string", "pattern": `\$\{`}
	}
	if f.number {
		out["type"] = []string{"string", "number"}
		if f.whole {
			out["type"] = []string{"string", "integer"}
		}
		if f.natural {
			out["minimum"] = 0
		}
	}
	return out
}

func (s *shape) textSchema() map[string]any {
	out := map[string]any{"type": "string", "minLength": 1}
	if s.form.maxBytes > 0 {
		out["maxLength"] = s.form.maxBytes
	}
	if s.form.pattern != nil {
		out["pattern"] = s.form.pattern.String()
	}
	return out
}
