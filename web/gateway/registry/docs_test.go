package registry_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"quorumhub/web/gateway/registry"
)

// TestRegistriesInTheDocumentation reads the registries that docs/gateway.md shows.
func TestRegistriesInTheDocumentation(t *testing.T) {
	page, err := os.ReadFile("../../../docs/gateway.md")
	if err != nil {
		t.Fatal(err)
	}
	read := 0
	for _, block := range regexp.MustCompile("(?s)```(yaml|xml)\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		if !strings.HasPrefix(block[2], "version: 1") && !strings.HasPrefix(block[2], "<registry") {
			continue
		}
		read++
		if _, mistakes := registry.Read(registry.Document{Text: []byte(block[2])}, hub{}); len(mistakes) > 0 {
			t.Errorf("%v in\n%s", mistakes, block[2])
		}
	}
	if read != 2 {
		t.Errorf("found %d registries, want the YAML and the XML one", read)
	}
}
