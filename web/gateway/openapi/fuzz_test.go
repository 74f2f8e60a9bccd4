package openapi_test

import (
	"os"
	"strings"
	"testing"

	"quorumhub/web/gateway/openapi"
	"quorumhub/web/gateway/registry"
)

// FuzzImport: what Import makes, Read accepts.
func FuzzImport(f *testing.F) {
	pets, err := os.ReadFile("testdata/pets.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(pets)
	f.Add(openapi.Describe(example(f)))
	f.Fuzz(func(t *testing.T, document []byte) {
		if len(document) > 64<<10 {
			return
		}
		made, err := openapi.Import(document, openapi.Options{Today: today, URL: "http://127.0.0.1:1"})
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Fatalf("more than one line: %v", err)
			}
			return
		}
		reg, mistakes := registry.Read(registry.Document{Text: made.Text, Files: made.Files}, nil)
		if reg == nil {
			t.Skipf("%v", mistakes) // a document may name what registries cannot have, such as a URI twice; check says so
		}
		openapi.Describe(reg)
	})
}
