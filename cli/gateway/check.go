package gateway

import (
	"fmt"
	"io"
	"strings"

	served "quorumhub/web/gateway"
	"quorumhub/web/gateway/registry"
)

// Report is what a checked registry has.
type Report struct {
	Services []Service
	Topics   int // policies
	// Unset are the references without a value here, which the registry needs when it is applied.
	Unset []string
}

// Check reads and checks a registry without a hub; see Load. The error lists every mistake.
func Check(path string, in io.Reader, env []string) (*Report, error) {
	doc, err := Load(path, in, env)
	if err != nil {
		return nil, err
	}
	reg, mistakes := registry.ReadDraft(doc)
	if reg == nil {
		return nil, Invalid(path, mistakes)
	}
	if _, err := registry.Compile(reg); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	missing := unset(doc)
	if len(missing) == 0 { // or keys are not there yet
		if mistakes := served.Check(reg); len(mistakes) > 0 {
			return nil, Invalid(path, mistakes)
		}
	}
	return &Report{Services: Services(reg), Topics: len(reg.Topics), Unset: missing}, nil
}

// String sums the report up in one line.
func (r *Report) String() string {
	versions := 0
	for _, s := range r.Services {
		versions += len(s.Versions)
	}
	text := count(len(r.Services), "service", "services") + " with " + count(versions, "version", "versions")
	if r.Topics > 0 {
		text += ", and " + count(r.Topics, "policy of topics", "policies of topics")
	}
	return text
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// Note says which references lack a value, or "".
func (r *Report) Note() string {
	if len(r.Unset) == 0 {
		return ""
	}
	return "not set here, but needed when the registry is applied: " + strings.Join(r.Unset, ", ")
}

// Schema returns the JSON Schema of registries.
func Schema() []byte { return registry.Schema() }
