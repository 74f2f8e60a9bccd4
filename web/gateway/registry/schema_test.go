package registry_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"

	"quorumhub/web/gateway/registry"
)

var update = flag.Bool("update", false, "rewrite configs/gateway.schema.json")

const schemaFile = "../../../configs/gateway.schema.json"

// TestPublishedSchema compares the schema that editors find beside the example with the one that check uses.
func TestPublishedSchema(t *testing.T) {
	if *update {
		if err := os.WriteFile(schemaFile, registry.Schema(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(schemaFile); err != nil || !bytes.Equal(got, registry.Schema()) {
		t.Errorf("%s differs from the schema (%v); run: go test ./web/gateway/registry -update", schemaFile, err)
	}
}

func compiled(t testing.TB) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(registry.Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("gateway.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("gateway.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// value returns a YAML text as JSON has it; dates are texts.
func value(n *yaml.Node) any {
	switch n.Kind { //nolint:exhaustive // the rest are scalars
	case yaml.DocumentNode:
		return value(n.Content[0])
	case yaml.SequenceNode:
		out := []any{}
		for _, item := range n.Content {
			out = append(out, value(item))
		}
		return out
	case yaml.MappingNode:
		out := map[string]any{}
		for i := 0; i < len(n.Content); i += 2 {
			out[n.Content[i].Value] = value(n.Content[i+1])
		}
		return out
	}
	var v any
	switch n.ShortTag() {
	case "!!null":
		return nil
	case "!!bool", "!!int", "!!float":
		if err := n.Decode(&v); err == nil {
			return v
		}
	}
	return n.Value
}

// TestSchemaSaysTheSameAsTheCheck over the texts of TestMistakesAreNamed.
func TestSchemaSaysTheSameAsTheCheck(t *testing.T) {
	schema := compiled(t)
	// What JSON Schema cannot see: notation, and values that have the form and yet no meaning.
	beyond := []string{"key twice", "anchor", "tag", "size too large", "no such day", "bad reference", "open reference", "broken", "tab", "second document", "empty", "only a comment", "not UTF-8", "alias"}
	texts := map[string]string{}
	for name, tt := range badRegistries() {
		texts[name] = tt.text
	}
	example, err := os.ReadFile("../../../configs/gateway.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	texts["example"], texts["many"] = string(example), string(many(10))
	accepted, refused := 0, 0
	for name, text := range texts {
		if slices.Contains(beyond, name) {
			continue
		}
		var n yaml.Node
		if err := yaml.Unmarshal([]byte(text), &n); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		invalid, mistakes := schema.Validate(value(&n)), registry.FormMistakes([]byte(text))
		if (invalid != nil) != (len(mistakes) > 0) {
			t.Errorf("%s: the schema says %v, the check %v", name, invalid, mistakes)
		}
		if invalid == nil {
			accepted++
		} else {
			refused++
		}
	}
	if accepted < 20 || refused < 20 {
		t.Errorf("%d texts are of the right form, %d are not; want some of both", accepted, refused)
	}
}

// TestSchemaAgreesOnAlteredRegistries changes the example at one place after the other.
func TestSchemaAgreesOnAlteredRegistries(t *testing.T) {
	schema := compiled(t)
	example, err := os.ReadFile("../../../configs/gateway.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var n yaml.Node
	if err := yaml.Unmarshal(example, &n); err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		text, err := json.Marshal(alter(t, value(&n), 0))
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		invalid, mistakes := schema.Validate(doc), registry.FormMistakes(text)
		if (invalid != nil) != (len(mistakes) > 0) {
			t.Fatalf("the schema says %v, the check %v of\n%s", invalid, mistakes, text)
		}
	})
}

// alter replaces, removes or adds something somewhere in v.
func alter(t *rapid.T, v any, depth int) any {
	if depth > 0 && rapid.IntRange(0, 4).Draw(t, "stop") == 0 {
		return rapid.SampledFrom(replacements).Draw(t, "value")
	}
	switch v := v.(type) {
	case map[string]any:
		out := maps.Clone(v)
		keys := slices.Sorted(maps.Keys(v))
		if len(keys) == 0 || rapid.IntRange(0, 9).Draw(t, "add") == 0 {
			out[rapid.SampledFrom([]string{"name", "uri", "timeout", "auth", "x", "methods", "limits", "protect", "1", "a b"}).Draw(t, "key")] = rapid.SampledFrom(replacements).Draw(t, "value")
			return out
		}
		key := rapid.SampledFrom(keys).Draw(t, "key")
		if rapid.IntRange(0, 9).Draw(t, "remove") == 0 {
			delete(out, key)
			return out
		}
		out[key] = alter(t, v[key], depth+1)
		return out
	case []any:
		if len(v) == 0 {
			return v
		}
		out := slices.Clone(v)
		i := rapid.IntRange(0, len(v)-1).Draw(t, "item")
		out[i] = alter(t, v[i], depth+1)
		return out
	}
	return rapid.SampledFrom(replacements).Draw(t, "value")
}

var replacements = []any{nil, true, false, 0, 1, -1, 3, 308, 1.5, 1 << 40, "", "x", "json", "GET", "10s", "1d", "0", "soon", "1MiB", "1 MiB", "100/1m", "2026-01-01", "2026-01-01T00:00:00Z", "2026-1-1",
	"${A}", "$${A}", "a${A}b", "hr:/x", "hr:/x?y", "topic:t", "topic:", "none", "a/b", "a//b", "/a", "*", "a/*", "header:X", "query:y", "body:/a/b", "*.example.org", "https://h/x", "http://u@h", "line\nline",
	strings.Repeat("x", 40), strings.Repeat("x", 5000), []any{}, []any{"json"}, []any{"json", 1}, []any{[]any{}}, map[string]any{}, map[string]any{"x": 1}, map[string]any{"rate": "1/1s"}, fmt.Sprint(1 << 40)}
