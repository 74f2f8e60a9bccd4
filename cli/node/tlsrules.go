package node

import (
	"fmt"
	"os"

	"github.com/goccy/go-yaml"

	"quorumhub/configs/syntax"
	"quorumhub/delivery/egress"
)

// loadTLSRules reads a YAML list of rules and all files they name; an empty path is no rules. Errors name the rule and what is
// expected.
func loadTLSRules(path string) (*egress.TLSRules, error) {
	if path == "" {
		return egress.NewTLSRules(nil)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("delivery.tls_file: %w", err)
	}
	var rules []egress.TLSRule
	if err := yaml.UnmarshalWithOptions(text, &rules, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("delivery.tls_file %s: %w", path, syntax.Explain(text, err))
	}
	t, err := egress.NewTLSRules(rules)
	if err != nil {
		return nil, fmt.Errorf("delivery.tls_file %s: %w", path, err)
	}
	return t, nil
}
