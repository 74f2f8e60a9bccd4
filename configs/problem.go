package configs

import "strings"

// Problem is one mistake in a configuration.
type Problem struct {
	// Key is the configuration key, or the unknown name given instead.
	Key string
	// Origin is where the value was given: "quorumhub.yaml:12", "QUORUMHUB_DELIVERY_TIMEOUT" or "--set". It is empty
	// for a default or a value set in code.
	Origin string
	// Message states what is wrong and what is expected, without the key.
	Message string
}

// String returns the problem as one line.
func (p Problem) String() string {
	var b strings.Builder
	for _, part := range []string{p.Origin, p.Key} {
		if part != "" {
			b.WriteString(part)
			b.WriteString(": ")
		}
	}
	b.WriteString(p.Message)
	return b.String()
}

// InvalidError lists all problems of a configuration: problems of the sources first, then invalid values in the order
// of the keys.
type InvalidError struct {
	Problems []Problem
}

// Error returns one line per problem.
func (e *InvalidError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}
