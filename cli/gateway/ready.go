package gateway

import (
	"io"

	served "quorumhub/web/gateway"
	"quorumhub/web/gateway/registry"
)

// Ready is Load for a registry that is to be applied: every reference must have a value, and what can be checked without the hub is
// checked. The error lists every mistake.
func Ready(path string, in io.Reader, env []string) (registry.Document, error) {
	doc, err := Load(path, in, env)
	if err != nil {
		return registry.Document{}, err
	}
	reg, mistakes := registry.Read(doc, nil)
	if reg != nil {
		mistakes = served.Check(reg)
	}
	if len(mistakes) > 0 {
		return registry.Document{}, Invalid(path, mistakes)
	}
	return doc, nil
}
