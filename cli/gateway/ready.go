package gateway

import (
	"io"

	"quorumhub/web/gateway/registry"
)

// Ready is Load for a registry that is to be applied: every reference must have a value, and what can be checked without the hub is
// checked. The error lists every mistake.
func Ready(path string, in io.Reader, env []string) (registry.Document, error) {
	doc, err := Load(path, in, env)
	if err != nil {
		return registry.Document{}, err
	}
	if reg, mistakes := registry.Read(doc, nil); reg == nil {
		return registry.Document{}, Invalid(path, mistakes)
	}
	return doc, nil
}
