package registry_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"quorumhub/web/gateway/registry"
)

// TestHostileTextsAreRefusedEarly gives a megabyte or so of what parsers are slow or deep at.
func TestHostileTextsAreRefusedEarly(t *testing.T) {
	names := func(n int, each string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, each, i)
		}
		return b.String()
	}
	for name, text := range map[string]string{
		"brackets":       strings.Repeat("[", 1<<20),
		"braces":         strings.Repeat("{a: ", 1<<18),
		"dashes":         strings.Repeat("- ", 1<<19),
		"question marks": strings.Repeat("? ", 1<<19),
		"indentation":    "version: 1\n" + names(2000, "%[1]*[1]d:\n"),
		"elements":       strings.Repeat("<registry>", 1<<17),
		"attributes":     "<registry " + names(50_000, "a%d=\"x\" ") + "/>",
		"anchors":        "a: &a [x, x]\n" + names(50_000, "b%d: *a\n"),
		"unknown keys":   "version: 1\n" + names(100_000, "key%d: x\n"),
		"upstreams":      "version: 1\nupstreams:\n" + names(20_000, "  topic%d: {urls: [\"ftp://x\"], headers: {X-Token: x}}\n"),
		"trust":          "version: 1\ntrust:\n" + names(20_000, "  t%d: {roots: gone.pem}\n"),
		"topics":         "version: 1\ntopics:\n" + names(20_000, "- {match: a/%d, deliver: {strip: [/x]}}\n"),
		"claims":         "version: 1\nupstreams: {a: {urls: [http://h], token: {audience: x, claims: {x: " + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + "}}}}\n",
	} {
		start := cpuTime(t)
		reg, mistakes := registry.Read(registry.Document{Text: []byte(text)}, hub{})
		took := cpuTime(t) - start
		if reg != nil || len(mistakes) == 0 || len(mistakes) > 101 {
			t.Errorf("%s: %d mistakes", name, len(mistakes))
		}
		if took > 5*time.Second {
			t.Errorf("%s: took %s", name, took)
		}
		t.Logf("%s: %d bytes in %s: %v", name, len(text), took, mistakes[0])
	}
}
