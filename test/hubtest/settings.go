package hubtest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Settings maps configuration keys in dotted form ("delivery.timeout") to values: strings (durations too),
// numbers, booleans and lists of strings.
type Settings map[string]any

// Defaults returns the settings of a node under test: loopback callbacks and origins allowed, no credentials,
// short times. Addresses and directories are added when a node starts.
func Defaults() Settings {
	return Settings{
		"hub.profile":                     "native",
		"hub.lease.min":                   "1s",
		"hub.lease.default":               "240h",
		"hub.lease.max":                   "720h",
		"hub.verification.timeout":        "2s",
		"topics.auto_register":            true,
		"delivery.timeout":                "2s",
		"delivery.retry.initial":          "30ms",
		"delivery.retry.max_interval":     "250ms",
		"delivery.retry.overload_wait":    "0s",
		"delivery.retry.max_age":          "1h",
		"delivery.retry.max_attempts":     10000,
		"delivery.retry.refused_attempts": 10000,
		"delivery.cursor_flush":           "100ms",
		"delivery.egress.mode":            "dev-loopback",
		"fetch.timeout":                   "2s",
		"fetch.egress.mode":               "dev-loopback",
		"message.max_bytes":               1 << 20,
		"log.level":                       "debug",
	}
}

// With returns a copy of s with the keys of more set. A nil value removes the key.
func (s Settings) With(more Settings) Settings {
	out := maps.Clone(s)
	for k, v := range more {
		if v == nil {
			delete(out, k)
			continue
		}
		out[k] = v
	}
	return out
}

// YAML renders the settings as nested YAML.
func (s Settings) YAML() string {
	var b strings.Builder
	var open []string
	for _, key := range slices.Sorted(maps.Keys(s)) {
		path := strings.Split(key, ".")
		groups := path[:len(path)-1]
		same := 0
		for same < len(open) && same < len(groups) && open[same] == groups[same] {
			same++
		}
		for i := same; i < len(groups); i++ {
			fmt.Fprintf(&b, "%s%s:\n", strings.Repeat("  ", i), groups[i])
		}
		open = groups
		fmt.Fprintf(&b, "%s%s: %s\n", strings.Repeat("  ", len(groups)), path[len(path)-1], scalar(s[key]))
	}
	return b.String()
}

// scalar renders a value. JSON strings, numbers, booleans and flat lists are valid YAML.
func scalar(v any) string {
	out, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("setting is not a string, number, boolean or list: %v", v))
	}
	return string(out)
}
