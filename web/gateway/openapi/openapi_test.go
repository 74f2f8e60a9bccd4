package openapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"quorumhub/web/gateway/openapi"
	"quorumhub/web/gateway/registry"
)

var today = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func imported(t testing.TB, document []byte, o openapi.Options) (*registry.Registry, *openapi.Imported) {
	t.Helper()
	o.Today = today
	made, err := openapi.Import(document, o)
	if err != nil {
		t.Fatal(err)
	}
	reg, mistakes := registry.Read(registry.Document{Text: made.Text, Files: made.Files}, nil)
	if reg == nil {
		t.Fatalf("the registry made of it has mistakes: %v\n%s", mistakes, made.Text)
	}
	return reg, made
}

func TestImport(t *testing.T) {
	text, err := os.ReadFile("testdata/pets.yaml")
	if err != nil {
		t.Fatal(err)
	}
	reg, made := imported(t, text, openapi.Options{Upstream: "pets"})
	if got := reg.Upstreams["pets"].URLs; !slices.Equal(got, []string{"https://pets.example/api"}) {
		t.Errorf("upstream is at %q", got)
	}
	byName := map[string]registry.Service{}
	for _, s := range reg.Services {
		byName[s.Name] = s
	}
	list := byName["listPets"].Versions[0]
	want := []registry.Param{{Name: "limit", In: "query", Pattern: "-?[0-9]+"}, {Name: "kind", In: "query", Required: true, Pattern: `cat|dog\.big`}}
	if list.Version != "2" || list.Target.String() != "pets:/pets" || !reflect.DeepEqual(list.Params, want) || !slices.Equal(list.Produces, []registry.Format{"json"}) || list.Auth != "default" {
		t.Errorf("listPets is %+v", list)
	}
	one := byName["get-pets-pet_id"]
	if one.URI != "pets/{pet_id}" || one.Versions[0].Target.Path != "/pets/{pet_id}" || one.Versions[0].Auth != "none" || one.Versions[0].Status != registry.StatusDeprecated ||
		!one.Versions[0].DeprecatedAt.Equal(today.Truncate(24*time.Hour)) || !reflect.DeepEqual(one.Versions[0].Params, []registry.Param{{Name: "pet_id", In: "path", Required: true, Pattern: "[0-9]+"}}) {
		t.Errorf("the pet is %+v", one)
	}
	status := byName["oldStatus"]
	if status.URI != "status" || len(status.Versions) != 2 || status.Default != "3" || status.Versions[0].Target.Path != "/v1/status" {
		t.Errorf("the status is %+v", status)
	}
	schema := reg.Schemas["schemas/addPet.json"]
	for doc, valid := range map[string]bool{`{"name": "x", "tag": null, "weight": 1, "owner": {"id": 1, "pets": [{"name": "y"}]}}`: true, `{"name": ""}`: false, `{"name": "x", "weight": 0}`: false,
		`{"name": "x", "owner": {"id": 1, "pets": [{}]}}`: false, `{"name": "x", "nullable": 1}`: false} {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(doc))
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(v); (err == nil) != valid {
			t.Errorf("%s: got %v, want valid: %v", doc, err, valid)
		}
	}
	notes := strings.Join(made.Notes, "\n")
	for _, want := range []string{`GET /pets: the cookie "session" is not checked`, "GET /photos/{name}.jpg: left out", "POST /upload: a body of multipart/form-data is passed on unchecked", "GET /: left out", "needs no credentials"} {
		if !strings.Contains(notes, want) {
			t.Errorf("notes are\n%s\nwant %q", notes, want)
		}
	}
}

func TestImportRefuses(t *testing.T) {
	const end = "\npaths: {/a: {get: {responses: {\"200\": {description: x}}}}}\n"
	for name, tt := range map[string]struct{ text, want string }{
		"not OpenAPI":    {"a: b\n", "not a valid OpenAPI 3 document"},
		"Swagger 2":      {"swagger: \"2.0\"\ninfo: {title: x, version: \"1\"}\npaths: {}\n", "not a valid OpenAPI 3 document"},
		"broken":         {"{", "not an OpenAPI 3 document"},
		"no paths":       {"openapi: 3.0.0\ninfo: {title: x, version: \"1\"}\nservers: [{url: http://h}]\npaths: {}\n", "has no paths"},
		"no server":      {"openapi: 3.0.0\ninfo: {title: x, version: \"1\"}" + end, "give the upstream's address with --url"},
		"relative":       {"openapi: 3.0.0\ninfo: {title: x, version: \"1\"}\nservers: [{url: /api}]" + end, "give the upstream's address with --url"},
		"another file":   {"openapi: 3.0.0\ninfo: {title: x, version: \"1\"}\npaths: {/a: {$ref: \"/etc/passwd\"}}\n", "not an OpenAPI 3 document"},
		"another server": {"openapi: 3.0.0\ninfo: {title: x, version: \"1\"}\npaths: {/a: {$ref: \"http://127.0.0.1:1/x.yaml\"}}\n", "not an OpenAPI 3 document"},
		"nothing to do":  {"openapi: 3.0.0\ninfo: {title: x, version: \"1\"}\nservers: [{url: http://h}]\npaths: {/: {get: {responses: {\"200\": {description: x}}}}}\n", "no operation can be served"},
	} {
		if made, err := openapi.Import([]byte(tt.text), openapi.Options{Today: today}); err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, %v; want %q in one line", name, made, err, tt.want)
		}
	}
}

func example(t testing.TB) *registry.Registry {
	t.Helper()
	const dir = "../../../configs"
	text, err := os.ReadFile(filepath.Join(dir, "gateway.example.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	reg, mistakes := registry.ReadDraft(registry.Collect(text, func(name string) ([]byte, bool) {
		b, err := os.ReadFile(filepath.Join(dir, name))
		return b, err == nil
	}, func(string) (string, bool) { return "sesame, as a secret", true }))
	if reg == nil {
		t.Fatal(mistakes)
	}
	return reg
}

// TestDescriptionIsValidAndKeepsSecrets: kin-openapi validates it; it names neither upstreams nor secrets.
func TestDescriptionIsValidAndKeepsSecrets(t *testing.T) {
	text := openapi.Describe(example(t))
	doc, err := openapi3.NewLoader().LoadFromData(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(context.Background()); err != nil {
		t.Error(err)
	}
	var paths []string
	for path := range doc.Paths.Map() {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	if want := []string{"/Employee/requestAddress", "/Employee/{id}/documents/{below}", "/hooks/github", "/v1/Employee/requestAddress"}; !slices.Equal(paths, want) {
		t.Errorf("paths are %q, want %q", paths, want)
	}
	for _, hidden := range []string{"sesame", "127.0.0.1:9100", "hr:/"} {
		if bytes.Contains(text, []byte(hidden)) {
			t.Errorf("the description has %q", hidden)
		}
	}
	if post := doc.Paths.Value("/Employee/requestAddress").Post; post.RequestBody.Value.Content["application/json"].Schema.Value.Required[0] != "ID" || len(*post.Security) != 1 {
		t.Errorf("POST is %+v", post)
	}
	if !bytes.Equal(text, openapi.Describe(example(t))) {
		t.Error("two descriptions differ")
	}
}

// TestRoundTrip imports a document, describes it, and imports that: what a client sees of the services stays.
func TestRoundTrip(t *testing.T) {
	pets, err := os.ReadFile("testdata/pets.yaml")
	if err != nil {
		t.Fatal(err)
	}
	fromPets, _ := imported(t, pets, openapi.Options{})
	for name, reg := range map[string]*registry.Registry{"pets": fromPets, "example": example(t)} {
		again, made := imported(t, openapi.Describe(reg), openapi.Options{URL: "http://127.0.0.1:1/gateway"})
		want, got := clientView(reg), clientView(again)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got\n%s\nwant\n%s\nof\n%s\nnotes %v", name, indent(t, got), indent(t, want), made.Text, made.Notes)
		}
		if third := openapi.Describe(again); !bytes.Equal(third, openapi.Describe(mustRead(t, made))) {
			t.Errorf("%s: not stable", name)
		}
	}
}

func mustRead(t *testing.T, made *openapi.Imported) *registry.Registry {
	t.Helper()
	reg, mistakes := registry.Read(registry.Document{Text: made.Text, Files: made.Files}, nil)
	if reg == nil {
		t.Fatal(mistakes)
	}
	return reg
}

func indent(t *testing.T, v any) string {
	t.Helper()
	text, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// clientView is what a client sees of the services that are served.
func clientView(reg *registry.Registry) map[string]any {
	out := map[string]any{}
	for i := range reg.Services {
		s := &reg.Services[i]
		for j := range s.Versions {
			v := s.Versions[j]
			if v.Status == registry.StatusRetired {
				continue
			}
			params := slices.Clone(v.Params)
			slices.SortFunc(params, func(a, b registry.Param) int { return strings.Compare(a.In+a.Name, b.In+b.Name) })
			view := map[string]any{"uri": s.FullURI(s.URI), "default": s.Default, "aliases": s.Aliases, "status": v.Status, "deprecated": v.DeprecatedAt, "sunset": v.SunsetAt, "successor": v.Successor,
				"methods": v.Methods, "auth": v.Auth, "params": params, "produces": v.Produces, "format": v.FormatParam}
			if v.Body != nil {
				view["consumes"], view["schema"] = v.Body.Consumes, v.Body.Schema != ""
			}
			out[s.Name+" "+v.Version] = view
		}
	}
	return out
}
