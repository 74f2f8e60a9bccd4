package configs

import "strings"

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	// Key is the configuration key, or the unknown name that was given for one.
	Key string
	// Origin says where the value was given: "quorumhub.yaml:12", "QUORUMHUB_DELIVERY_TIMEOUT" or "--set". Empty for a
	// default or a value set in code.
	Origin string
	// Message is what is wrong and what is expected, without the key.
	Message string
}

// String is the problem as one line.
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

// InvalidError holds everything that is wrong with a configuration, in the order of the keys.
type InvalidError struct {
	Problems []Problem
}

// Error is one line a problem.
func (e *InvalidError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}
