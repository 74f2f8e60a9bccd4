package configs

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/knadh/koanf/maps"
)

// Setting is a key with its value in text form, one text per item of a list.
type Setting struct {
	Key   string
	Texts []string
}

// Settings returns every key with its present value, in the order of Keys.
func (c *Config) Settings() []Setting {
	table := entries()
	out := make([]Setting, len(table))
	for i, e := range table {
		out[i] = Setting{Key: e.Name, Texts: e.texts(c)}
	}
	return out
}

// Shown is Settings for display: secret values read "(set)".
func (c *Config) Shown() []Setting {
	out := c.Settings()
	for i, e := range entries() {
		if e.hidden && strings.Join(out[i].Texts, "") != "" {
			out[i].Texts = []string{"(set)"}
		}
	}
	return out
}

// Map returns the configuration as nested maps for JSON; durations, sizes and networks are strings.
func (c *Config) Map() map[string]any {
	flat := make(map[string]any)
	for _, e := range entries() {
		flat[e.Name] = e.value(c)
	}
	return maps.Unflatten(flat, ".")
}

// YAML writes settings as a file that Load can read. Settings of one section must be adjacent. It fails on an unknown
// key.
func YAML(settings []Setting) ([]byte, error) {
	known := newNames()
	isList := make(map[string]bool)
	for _, k := range Keys() {
		isList[k.Name] = k.List
	}
	var w yamlWriter
	for _, s := range settings {
		if !known.is(s.Key) {
			return nil, fmt.Errorf("%s: %s", s.Key, known.unknown(s.Key))
		}
		w.open(s.Key)
		w.value(s.Key, s.Texts, isList[s.Key])
	}
	return []byte(w.b.String()), nil
}

// Sample returns a configuration file that documents every key and holds the defaults.
func Sample() []byte {
	var w yamlWriter
	w.b.WriteString("# Configuration of quorumhub. It lists every key with its default; a file needs only the keys it changes.\n" +
		"# The environment (" + envName("delivery.timeout") + "=5s) overrides this file, and --set delivery.timeout=5s overrides both.\n" +
		"# Durations: 250ms, 10s, 1h30m, 10d. Sizes: 1048576, 512KiB, 1MiB, 1MB. Rates: 600/1m.\n" +
		"# Unknown keys are errors. `quorumhub check --config FILE` validates a file without starting anything.\n")
	for _, k := range Keys() {
		w.open(k.Name)
		for _, line := range wrap(fmt.Sprintf("%s. %s.", upperFirst(k.Doc), upperFirst(k.Expected)), 100) {
			w.indent()
			w.b.WriteString("# " + line + "\n")
		}
		var texts []string
		if k.Default != "" || !k.List {
			texts = []string{k.Default}
		}
		w.value(k.Name, texts, k.List)
	}
	return []byte(w.b.String())
}

// yamlWriter writes dotted keys as nested sections.
type yamlWriter struct {
	b    strings.Builder
	path []string
}

// open closes and opens sections until the writer is inside that of key.
func (w *yamlWriter) open(key string) {
	parts := strings.Split(key, ".")
	parts = parts[:len(parts)-1]
	same := 0
	for same < len(parts) && same < len(w.path) && parts[same] == w.path[same] {
		same++
	}
	if same == 0 && w.b.Len() > 0 && (len(parts) > 0 || len(w.path) > 0) {
		w.b.WriteString("\n")
	}
	w.path = w.path[:same]
	for _, part := range parts[same:] {
		w.indent()
		w.b.WriteString(part + ":\n")
		w.path = append(w.path, part)
	}
}

func (w *yamlWriter) indent() { w.b.WriteString(strings.Repeat("  ", len(w.path))) }

func (w *yamlWriter) value(key string, texts []string, isList bool) {
	w.indent()
	w.b.WriteString(key[strings.LastIndexByte(key, '.')+1:] + ": ")
	quoted := make([]string, len(texts))
	for i, t := range texts {
		quoted[i] = QuoteYAML(t)
	}
	if isList {
		w.b.WriteString("[" + strings.Join(quoted, ", ") + "]\n")
		return
	}
	w.b.WriteString(strings.Join(quoted, "") + "\n")
}

// QuoteYAML returns s as a YAML scalar: plain if that is unambiguous, otherwise quoted.
func QuoteYAML(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || slices.Contains([]rune("./_-"), r)
	}
	if s == "" || strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) || !plain(rune(s[0])) || s[0] == '-' || strings.HasPrefix(s, "...") || strings.EqualFold(s, "null") {
		return strconv.Quote(s)
	}
	return s
}

func upperFirst(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// wrap breaks a text at spaces into lines of at most width bytes.
func wrap(s string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(s) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
