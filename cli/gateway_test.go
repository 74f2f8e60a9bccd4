package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const exampleRegistry = "../configs/gateway.example.yaml"

func TestGatewayCheckNamesWhatIsWrongAndWhere(t *testing.T) {
	got := run(t, "", "gateway", "check", exampleRegistry)
	if got.code != 0 || got.out != "the registry is valid: 3 services with 5 versions, and 1 policy of topics\n" || !strings.Contains(got.err, "${GITHUB_SECRET}, ${HR_KEY}") {
		t.Errorf("the example: got %+v", got)
	}
	file := filepath.Join(t.TempDir(), "gateway.yaml")
	if err := os.WriteFile(file, []byte("version: 1\nservices:\n- {name: a, uri: a, versions: [{version: \"1\", target: \"hr:/x\", methods: [GET], body: {schema: a.json}}]}\nprefxi: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(file), "a.json"), []byte(`{"type": "strnig"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	got = run(t, "", "gateway", "check", file)
	for _, want := range []string{
		file + `:3:55: services[0].versions[0].target: unknown upstream "hr", expected one of: none is defined`,
		file + ":3:95: services[0].versions[0].body.schema: a.json is not a JSON Schema: ",
		file + ":4:1: prefxi: unknown key; did you mean prefix?",
	} {
		if !strings.Contains(got.err, want) {
			t.Errorf("got %q, want a line with %q", got.err, want)
		}
	}
	if got.code != 2 || got.out != "" || strings.Count(got.err, "\n") != 3 {
		t.Errorf("got %+v, want code 2 and three lines", got)
	}
	if got := run(t, "version: 1\nprefix: /v1\n", "gateway", "check", "-"); got.code != 2 || !strings.Contains(got.err, "prefix: /v1 is the hub's own") {
		t.Errorf("a prefix that only the gateway judges: got %+v", got)
	}
	if got := run(t, "version: 1\n", "gateway", "check", "-"); got.code != 0 {
		t.Errorf("standard input: got %+v", got)
	}
	if got := run(t, "", "gateway", "check", filepath.Join(t.TempDir(), "gone.yaml")); got.code != 2 || !strings.Contains(got.err, "gone.yaml") {
		t.Errorf("a file that is not there: got %+v", got)
	}
}

// TestGatewayFilesStayBesideTheRegistry: neither a name nor a symbolic link leads to a file elsewhere.
func TestGatewayFilesStayBesideTheRegistry(t *testing.T) {
	outside, dir := filepath.Join(t.TempDir(), "outside.json"), t.TempDir()
	if err := os.WriteFile(outside, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "link.json")); err != nil {
		t.Skip(err)
	}
	for _, name := range []string{outside, "../" + filepath.Base(outside), "link.json"} {
		file := filepath.Join(dir, "gateway.yaml")
		text := "version: 1\nupstreams: {a: {urls: [http://h]}}\nservices:\n- {name: a, uri: a, versions: [{version: \"1\", target: \"a:/x\", methods: [GET], body: {schema: " + name + "}}]}\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := run(t, "", "gateway", "check", file); got.code != 2 || !strings.Contains(got.err, "body.schema") {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

func TestGatewayRoutesOfAFile(t *testing.T) {
	got := run(t, "", "gateway", "routes", exampleRegistry)
	for _, want := range []string{"METHODS", "GET,POST  Employee/requestAddress    1        deprecated until 2027-06-30", "2*", "308 to Employee/requestAddress", "verifier github-main  topic:commits"} {
		if !strings.Contains(got.out, want) {
			t.Errorf("got\n%s\nwant %q", got.out, want)
		}
	}
	got = run(t, "", "gateway", "routes", "--json", exampleRegistry)
	var shown struct {
		Services []struct {
			Name, URI, Default string
			Versions           []struct{ Version, Status, Target, Permission string }
		}
	}
	decode(t, got.out, &shown)
	if len(shown.Services) != 3 || shown.Services[0].Versions[2].Permission != "call hr.address" || shown.Services[1].URI != "Employee/{id}/documents/*" {
		t.Errorf("got %+v", shown)
	}
}

func TestGatewaySchemaIsThePublishedOne(t *testing.T) {
	want, err := os.ReadFile("../configs/gateway.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	if got := run(t, "", "gateway", "schema"); got.code != 0 || got.out != string(want) {
		t.Errorf("got code %d and %d bytes, want %d", got.code, len(got.out), len(want))
	}
}

func TestGatewayImportMakesACheckedRegistry(t *testing.T) {
	const pets = "../web/gateway/openapi/testdata/pets.yaml"
	out := filepath.Join(t.TempDir(), "gateway.yaml")
	got := run(t, "", "gateway", "import", pets, "--out", out, "--upstream", "pets")
	if got.code != 0 || got.out != "" || !strings.Contains(got.err, "note: GET /: left out") {
		t.Fatalf("got %+v", got)
	}
	if got := run(t, "", "gateway", "check", out); got.code != 0 {
		t.Errorf("check: got %+v", got)
	}
	if got := run(t, "", "gateway", "routes", out); !strings.Contains(got.out, "pets:/pets/{pet_id}") {
		t.Errorf("routes: got %+v", got)
	}
	if got := run(t, "", "gateway", "import", pets, "--out", out); got.code != 2 || !strings.Contains(got.err, "exists, expected a new file") {
		t.Errorf("again: got %+v", got)
	}
	if got := run(t, "", "gateway", "import", pets); got.code != 0 || !strings.Contains(got.out, "version: 1\n") || !strings.Contains(got.err, "1 JSON Schema is not written") {
		t.Errorf("to standard output: got %+v", got)
	}
	if got := run(t, "openapi: 3.0.0\n", "gateway", "import", "-"); got.code != 2 || strings.Count(got.err, "\n") != 1 {
		t.Errorf("a broken document: got %+v", got)
	}
}
