package readme_test

import (
	"fmt"
	"net/url"
	"path"
	"strings"
	"testing"
)

// badLinks reports every relative link and anchor of the tracked pages that leads nowhere.
func badLinks(r repo) []string {
	var out []string
	for _, page := range r.pages() {
		text, err := r.read(page)
		if err != nil {
			out = append(out, err.Error())
			continue
		}
		lines, _ := prose(text)
		for i, line := range lines {
			for _, m := range link.FindAllStringSubmatch(codeSpan.ReplaceAllString(line, "``"), -1) {
				if scheme.MatchString(m[1]) {
					continue // another site
				}
				if problem := follow(r, page, m[1]); problem != "" {
					out = append(out, fmt.Sprintf("%s:%d: the link %s %s", page, i+1, m[1], problem))
				}
			}
		}
	}
	return out
}

// follow returns what is wrong with a link of a page, or nothing.
func follow(r repo, page, target string) string {
	u, err := url.Parse(target)
	if err != nil {
		return err.Error()
	}
	to := page
	if u.Path != "" {
		to = path.Join(path.Dir(page), u.Path)
	}
	if strings.HasPrefix(to, "..") || path.IsAbs(u.Path) {
		return "leaves the repository"
	}
	if !r.exists(to) {
		return "leads to " + to + ", which does not exist"
	}
	if u.Fragment == "" {
		return ""
	}
	text, err := r.read(to)
	if err != nil || !strings.HasSuffix(to, ".md") {
		return "has an anchor, but " + to + " is not a page"
	}
	if !anchors(text)[u.Fragment] {
		return "leads to " + to + ", which has no heading with the anchor " + u.Fragment
	}
	return ""
}

func TestLinksLeadSomewhere(t *testing.T) {
	r := openRepo(t)
	if n := len(r.pages()); n < 60 {
		t.Errorf("found %d pages, expected at least 60", n)
	}
	for _, problem := range badLinks(r) {
		t.Error(problem)
	}
}

func TestLinkCheckFindsMistakes(t *testing.T) {
	good := map[string]string{
		"README.md": "[a](docs/a.md) [b](docs/a.md#what-is-it) [c](#start-here) [d](docs/) [e](https://example.org/none) `[f](none.md)`\n" +
			"# Start here\n```sh\n[g](none.md)\n```\n",
		"docs/a.md": "# What is `it`?\n[up](../README.md#start-here)\n[second](#twice-1)\n## Twice\n## Twice\n",
	}
	if got := badLinks(made(good)); len(got) != 0 {
		t.Errorf("good links: got %q", got)
	}
	for name, line := range map[string]string{
		"a missing file":                "[x](docs/none.md)",
		"a missing directory":           "[x](doc/)",
		"a missing anchor":              "[x](docs/a.md#what-was-it)",
		"a missing anchor on this page": "[x](#start)",
		"an anchor in a fenced block":   "[x](#in-a-block)\n```\n# In a block\n```",
		"an anchor of a directory":      "[x](docs/#a)",
		"outside of the repository":     "[x](../secret.md)",
		"a third heading of two":        "[x](docs/a.md#twice-2)",
		"an absolute path":              "[x](/docs/a.md)",
	} {
		files := map[string]string{"docs/a.md": good["docs/a.md"], "README.md": "# Start here\n[up](#start-here)\n" + line + "\n"}
		if got := badLinks(made(files)); len(got) != 1 {
			t.Errorf("%s: got %q, want one objection", name, got)
		}
	}
}

// tooLong reports pages that have outgrown their purpose.
func tooLong(r repo, limits map[string]int) []string {
	var out []string
	for page, limit := range limits {
		text, err := r.read(page)
		if err != nil {
			out = append(out, err.Error())
		} else if n := strings.Count(text, "\n"); n > limit {
			out = append(out, fmt.Sprintf("%s has %d lines, at most %d are allowed; move something to docs/", page, n, limit))
		}
	}
	return out
}

func TestPagesAreShort(t *testing.T) {
	for _, problem := range tooLong(openRepo(t), map[string]int{"README.md": 200, "ARCHITECTURE.md": 150}) {
		t.Error(problem)
	}
	planted := made(map[string]string{"README.md": strings.Repeat("a line\n", 201), "ARCHITECTURE.md": strings.Repeat("a line\n", 150)})
	if got := tooLong(planted, map[string]int{"README.md": 200, "ARCHITECTURE.md": 150}); len(got) != 1 {
		t.Errorf("a README of 201 lines: got %q, want one objection", got)
	}
}

// conflicts reports what a merge has left in the pages.
func conflicts(r repo) []string {
	var out []string
	for _, page := range r.pages() {
		text, err := r.read(page)
		if err != nil {
			out = append(out, err.Error())
		}
		for i, line := range strings.Split(text, "\n") {
			if strings.HasPrefix(line, "<<<<<<< ") || strings.HasPrefix(line, ">>>>>>> ") || line == "=======" {
				out = append(out, fmt.Sprintf("%s:%d: a merge left %q", page, i+1, line))
			}
		}
	}
	return out
}

func TestPagesAreMerged(t *testing.T) {
	for _, problem := range conflicts(openRepo(t)) {
		t.Error(problem)
	}
	planted := made(map[string]string{"docs/a.md": "# A\n<<<<<<< HEAD\none\n=======\ntwo\n>>>>>>> other\n"})
	if got := conflicts(planted); len(got) != 3 {
		t.Errorf("an unfinished merge: got %q, want three objections", got)
	}
}
