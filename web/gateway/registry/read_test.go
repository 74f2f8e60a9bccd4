package registry_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"quorumhub/web/gateway/registry"
)

// hub is an Environment as a hub would be.
type hub struct{}

func (hub) Authenticator(name string) error {
	if slices.Contains([]string{"geo", "key", "token", "certificate", "signature", "keycloak"}, name) {
		return nil
	}
	return errors.New("expected geo, key, token, certificate, signature or an issuer")
}

func (hub) Step(s *registry.Step) error {
	if s.Strategy == "parallel" && slices.Contains(s.Of, "keycloak") {
		return errors.New("keycloak needs somebody to act, so it cannot be asked in parallel")
	}
	return nil
}

func (hub) Operation(name string) error {
	if name == "topics" {
		return nil
	}
	return errors.New("expected topics")
}

func (hub) Topic(name string) error {
	if name == "closed" {
		return errors.New("is not registered")
	}
	return nil
}

func (hub) OwnAddress(hostport string) bool { return hostport == "127.0.0.1:8080" }

// document collects a text and the files in a directory, with secrets for all references.
func document(t testing.TB, text []byte, dir string) registry.Document {
	t.Helper()
	return registry.Collect(text,
		func(name string) ([]byte, bool) {
			b, err := os.ReadFile(filepath.Join(dir, name))
			return b, err == nil
		},
		func(name string) (string, bool) { return "secret of " + name, !strings.HasPrefix(name, "UNSET") })
}

func example(t testing.TB) *registry.Registry {
	t.Helper()
	text, err := os.ReadFile("../../../configs/gateway.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return read(t, document(t, text, "../../../configs"))
}

func read(t testing.TB, doc registry.Document) *registry.Registry {
	t.Helper()
	reg, mistakes := registry.Read(doc, hub{})
	for _, m := range mistakes {
		t.Error(m)
	}
	if reg == nil {
		t.FailNow()
	}
	return reg
}

func TestExampleIsReadWhole(t *testing.T) {
	reg := example(t)
	hr := reg.Upstreams["hr"]
	if hr.Eject != (registry.Eject{Failures: 3, For: 5 * time.Second, Max: 5 * time.Minute}) || hr.ConnectTimeout != 0 || hr.IdleTimeout != 0 || hr.MaxInFlight != 0 {
		t.Errorf("what is not written of upstream hr is %+v", hr)
	}
	tuned := read(t, document(t, []byte("version: 1\nupstreams: {a: {urls: [http://h], connect_timeout: 1s, idle_timeout: 5m, max_in_flight: 10, eject: {failures: 0, for: 1s, max: 2s}}}\n"), ".")).Upstreams["a"]
	if tuned.ConnectTimeout != time.Second || tuned.IdleTimeout != 5*time.Minute || tuned.MaxInFlight != 10 || tuned.Eject != (registry.Eject{For: time.Second, Max: 2 * time.Second}) {
		t.Errorf("upstream a is %+v", tuned)
	}
	if hr.Headers["X-Api-Key"] != "secret of HR_KEY" || hr.Retry != 2 || hr.Breaker != (registry.Breaker{Failures: 5, OpenFor: 10 * time.Second}) || len(hr.URLs) != 2 {
		t.Errorf("upstream hr is %+v", hr)
	}
	if got := reg.Verifiers["github-main"]; !slices.Equal(got.Secrets, []string{"secret of GITHUB_SECRET"}) || got.Scheme != "github" {
		t.Errorf("verifier is %+v", got)
	}
	if got := reg.Sequences["partners"]; len(got) != 2 || got[0].Strategy != "failover" || !slices.Equal(got[1].Of, []string{"certificate"}) {
		t.Errorf("sequence is %+v", got)
	}
	s := reg.Services[0]
	if s.Name != "request-address" || s.Default != "2" || !reflect.DeepEqual(s.Aliases, []registry.Alias{{URI: "emp/reqAddr", Status: 308}, {URI: "EmpAddr"}}) {
		t.Errorf("service is %+v", s)
	}
	v1, v2 := s.Versions[1], s.Versions[2]
	if v1.Status != registry.StatusDeprecated || !v1.SunsetAt.Equal(time.Date(2027, 6, 30, 0, 0, 0, 0, time.UTC)) || v1.Auth != "default" || v1.Timeout != 10*time.Second || v1.MaxBody != 1<<20 {
		t.Errorf("version 1 is %+v", v1)
	}
	if v2.Target != (registry.Target{Kind: registry.TargetUpstream, Name: "hr", Path: "/v2/address"}) || v2.Auth != "geo" || !v2.FormatParam ||
		*v2.Permission != (registry.Permission{Action: "call", Resource: "hr.address"}) || v2.Limits != (registry.Limits{Rate: registry.Rate{Requests: 100, Per: time.Minute}, Concurrency: 20}) ||
		!slices.Equal(v2.Response.Strip, []string{"internal/*"}) || !v2.Response.Unwrap || v2.Body.Schema != "address.schema.json" {
		t.Errorf("version 2 is %+v", v2)
	}
	if reg.Schemas["address.schema.json"] == nil || reg.Schemas["order.schema.json"] == nil {
		t.Errorf("compiled schemas are %v", reg.Schemas)
	}
	if topic := reg.Topics[0]; !topic.Publish.Body.Enforce || topic.Subscribe.Limits.PerPrincipal != 50 || topic.Deliver.Headers["X-Env"] != "prod" {
		t.Errorf("topic policy is %+v", topic)
	}
}

// TestXMLFormIsTheSameRegistry compares the example with its XML form.
func TestXMLFormIsTheSameRegistry(t *testing.T) {
	text, err := os.ReadFile("testdata/example.xml")
	if err != nil {
		t.Fatal(err)
	}
	want, got := example(t), read(t, document(t, text, "../../../configs"))
	want.Schemas, got.Schemas = nil, nil
	for _, reg := range []*registry.Registry{want, got} {
		for i := range reg.Services {
			reg.Services[i].Position = registry.Position{}
			for j := range reg.Services[i].Versions {
				reg.Services[i].Versions[j].Position = registry.Position{}
			}
		}
		for i := range reg.Topics {
			reg.Topics[i].Position = registry.Position{}
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the XML form is\n%+v\nwant\n%+v", got, want)
	}
}

func TestReferencesAndFilesAreListed(t *testing.T) {
	text := []byte("version: 1\nupstreams:\n  a: {urls: [\"http://${HOST}:80\"], headers: {Authorization: \"Bearer ${TOKEN}\"}, token: {audience: x, accounts: accounts.txt}}\n" +
		"keys: {k: {private: \"${file:key.pem}\"}}\ntrust: {ca: {roots: ca.pem, crl: ca.crl}}\nservices:\n- {name: s, uri: s, versions: [{version: \"1\", body: {schema: s.json}}]}\n")
	refs, err := registry.References(text)
	if want := []string{"HOST", "TOKEN", "file:key.pem"}; err != nil || !slices.Equal(refs, want) {
		t.Errorf("references are %q, %v; want %q", refs, err, want)
	}
	files, err := registry.FilesNamed(text)
	if want := []string{"accounts.txt", "ca.crl", "ca.pem", "s.json"}; err != nil || !slices.Equal(files, want) {
		t.Errorf("files are %q, %v; want %q", files, err, want)
	}
	asked := map[string]string{"s.json": `{"$defs": {"a": {"$ref": "shared/b.json#/x"}, "c": {"$ref": "#/y"}, "d": {"$ref": "../../etc/passwd"}}}`,
		"shared/b.json": `{"$ref": "c.json"}`, "shared/c.json": `{"$ref": "../s.json"}`, "ca.pem": "", "../../etc/passwd": "root"}
	doc := registry.Collect(text, func(name string) ([]byte, bool) { content, ok := asked[name]; return []byte(content), ok },
		func(name string) (string, bool) { return "x", name == "TOKEN" })
	if got, want := slices.Sorted(maps.Keys(doc.Files)), []string{"ca.pem", "s.json", "shared/b.json", "shared/c.json"}; !slices.Equal(got, want) {
		t.Errorf("collected the files %q, want %q", got, want)
	}
	if len(doc.Secrets) != 1 || doc.Secrets["TOKEN"] != "x" {
		t.Errorf("collected the secrets %v", doc.Secrets)
	}
}

// TestJSONIsYAML: also where YAML parsers differ from JSON, and with the place of a mistake.
func TestJSONIsYAML(t *testing.T) {
	reg := read(t, registry.Document{Text: []byte("{\n\t\"version\": 1,\n\t\"upstreams\": {\"a\": {\"urls\": [\"http:\\/\\/h\"]}},\r\n\t\"topics\": [{\"match\": \"\\ud83d\\ude00\", \"deliver\": {\"strip\": [\"/x\"]}}]\n}\n")})
	if reg.Upstreams["a"].URLs[0] != "http://h" || reg.Topics[0].Match != "\U0001F600" {
		t.Errorf("read %+v", reg)
	}
	for text, want := range map[string]string{
		"{\n  \"version\": 1,\n  \"prefxi\": \"/x\"\n}":             "line 3, column 3: prefxi: unknown key; did you mean prefix?",
		"{\"version\": \"1\"}":                                      `line 1, column 13: version: got "1", expected a number from 1 to 1, without quotes`,
		"{\"version\": 1, \"version\": 1}":                          "line 1, column 16: version: is given twice",
		"{\"version\": 1, \"topics\": [{\"match\": true}]}":         "line 1, column 37: topics[0].match: got true",
		"{\"version\": 1.5}":                                        `line 1, column 13: version: got "1.5"`,
		"{\"version\": 1, \"prefix\": null}":                        "line 1, column 26: prefix: has no value",
		"{\"version\": 1, \"prefix\": \"/a\"} x":                    "not valid YAML",
		"{\"version\": 1, ":                                         "not valid YAML",
		strings.Repeat("{\"a\":", 2000) + strings.Repeat("}", 2000): "",
	} {
		reg, mistakes := registry.Read(registry.Document{Text: []byte(text)}, nil)
		if reg != nil || len(mistakes) == 0 {
			t.Errorf("%.60s: accepted", text)
			continue
		}
		var said []string
		for _, m := range mistakes {
			said = append(said, m.Error())
		}
		if !strings.Contains(strings.Join(said, "\n"), want) {
			t.Errorf("%.60s: got %q, want %q", text, said, want)
		}
	}
}
