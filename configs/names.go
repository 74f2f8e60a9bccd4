package configs

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"quorumhub/configs/syntax"
)

// names resolves the names used in a source.
type names struct {
	keys   []string
	byEnv  map[string]string
	isKey  map[string]bool
	isPart map[string]bool
}

// newNames returns the keys of the configuration.
func newNames() *names {
	var keys []string
	byEnv := make(map[string]string)
	for _, e := range entries() {
		keys = append(keys, e.Name)
		byEnv[e.Env] = e.Name
	}
	n := namesOf(keys)
	n.byEnv = byEnv
	return n
}

// namesOf returns names with these dotted keys and no environment variables.
func namesOf(keys []string) *names {
	n := &names{keys: keys, isKey: make(map[string]bool), isPart: make(map[string]bool)}
	for _, key := range keys {
		n.isKey[key] = true
		for i, r := range key {
			if r == '.' {
				n.isPart[key[:i]] = true
			}
		}
	}
	return n
}

func (n *names) is(key string) bool { return n.isKey[key] }

// section reports whether there are keys below the name.
func (n *names) section(name string) bool { return n.isPart[name] }

// unknown returns an error message for an unknown key, with a suggestion.
func (n *names) unknown(name string) string {
	if n.section(name) {
		var below []string
		for _, k := range n.keys {
			if strings.HasPrefix(k, name+".") {
				below = append(below, k)
			}
		}
		return fmt.Sprintf("is a section, expected one of its keys: %s", strings.Join(below, ", "))
	}
	return fmt.Sprintf("unknown key; did you mean %s?", n.nearest(name))
}

// nearest returns the known key with the smallest edit distance to name. Dots and underscores count as equal, and a
// name that is merely the end or the beginning of a key is nearest to that key.
func (n *names) nearest(name string) string {
	flat := func(s string) string { return strings.ReplaceAll(strings.ToLower(s), "_", ".") }
	// A name longer than any key cannot be near; truncating it bounds the work.
	want := flat(name[:min(len(name), 100)])
	best, fewest := "", 1<<30
	for _, k := range n.keys {
		have := flat(k)
		edits := syntax.EditDistance(want, have)
		switch {
		case strings.HasSuffix(have, "."+want):
			edits = 1
		case want != "" && strings.HasPrefix(have, want):
			edits = 2
		}
		if edits < fewest {
			best, fewest = k, edits
		}
	}
	return best
}

// nearestSection returns the section with the smallest edit distance to name.
func (n *names) nearestSection(name string) string {
	best, fewest := "", 1<<30
	for _, section := range slices.Sorted(maps.Keys(n.isPart)) {
		if edits := syntax.EditDistance(name[:min(len(name), 100)], section); edits < fewest {
			best, fewest = section, edits
		}
	}
	return best
}
