package gateway_test

import (
	"strings"
	"testing"

	"quorumhub/web/gateway"
	"quorumhub/web/gateway/registry"
)

// A registry that no gateway could serve is refused when it is applied, not when it is in force.
func TestCheckFindsWhatCannotBeServed(t *testing.T) {
	for want, text := range map[string]string{
		"prefix: /hub is the hub's own": "prefix: /hub\nservices:\n  - {name: a, uri: a, versions: [{version: \"1\", target: \"topic:a\", methods: [POST], auth: none}]}",
	} {
		reg, mistakes := registry.Read(registry.Document{Text: []byte("version: 1\n" + text)}, nil)
		if len(mistakes) > 0 {
			t.Errorf("%q: the registry's own check says %v", want, mistakes)
			continue
		}
		got := gateway.Check(reg)
		if len(got) != 1 || !strings.HasPrefix(got[0].Path+": "+got[0].Detail, want) {
			t.Errorf("got %v, want %q", got, want)
		}
	}
}
