package readme_test

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	testName = regexp.MustCompile(`^(Test|Fuzz|Benchmark)[A-Z]\w*$`)
	goTest   = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w*)\(`)
	// A test may also be named in a command: -run 'TestA|TestB', -fuzz '^FuzzC$'.
	inCommand = regexp.MustCompile(`\b(?:Test|Fuzz|Benchmark)[A-Z]\w+`)
	pathName  = regexp.MustCompile(`^[\w.-]+(/[\w.-]+)*/?$`)
	source    = regexp.MustCompile(`\.(go|proto|sh|md|yaml|service)$`)
	// `file.go`, `Type.function` and `function` in `file.go`: the file defines the function (or type).
	fileFunction = regexp.MustCompile("`([\\w/-]+\\.go)`,\\s+`(?:(\\w+)\\.)?(\\w+)`")
	functionFile = regexp.MustCompile("`(?:(\\w+)\\.)?(\\w+)`\\s+in\\s+`([\\w/-]+\\.go)`")
)

// checkedPages are the pages whose names must be right.
func (r repo) checkedPages() []string {
	return slices.DeleteFunc(r.pages(), func(name string) bool {
		return strings.Contains(name, "/") && !strings.HasPrefix(name, "docs/") && !strings.HasPrefix(name, "test/") || name == "CHANGELOG.md"
	})
}

func (r repo) tests() (map[string]bool, error) {
	out := map[string]bool{}
	for _, name := range r.files {
		if !strings.HasSuffix(name, "_test.go") {
			continue
		}
		text, err := r.read(name)
		if err != nil {
			return nil, err
		}
		for _, m := range goTest.FindAllStringSubmatch(text, -1) {
			out[m[1]] = true
		}
	}
	return out, nil
}

// badNames reports every test, path and function that the pages name and that does not exist.
func badNames(r repo) []string {
	tests, err := r.tests()
	if err != nil {
		return []string{err.Error()}
	}
	var out []string
	for _, page := range r.checkedPages() {
		text, err := r.read(page)
		if err != nil {
			out = append(out, err.Error())
			continue
		}
		lines, blocks := prose(text)
		object := func(format string, args ...any) { out = append(out, page+": "+fmt.Sprintf(format, args...)) }
		for _, b := range blocks {
			if b.language == "sh" {
				checkCommand(tests, b.text, object)
			}
		}
		whole := strings.Join(lines, "\n")
		for _, span := range codeSpan.FindAllString(whole, -1) {
			checkSpan(r, tests, page, strings.Trim(span, "`"), object)
		}
		for _, m := range fileFunction.FindAllStringSubmatch(whole, -1) {
			checkFunction(r, page, m[1], m[2], m[3], object)
		}
		for _, m := range functionFile.FindAllStringSubmatch(whole, -1) {
			checkFunction(r, page, m[3], m[1], m[2], object)
		}
	}
	return out
}

func checkCommand(tests map[string]bool, command string, object func(string, ...any)) {
	for _, name := range inCommand.FindAllString(command, -1) {
		if !isPrefix(tests, name) {
			object("names the test %s, which does not exist", name)
		}
	}
}

// isPrefix reports whether -run or -fuzz with this name would run something.
func isPrefix(tests map[string]bool, name string) bool {
	for test := range tests {
		if strings.HasPrefix(test, name) {
			return true
		}
	}
	return false
}

func checkSpan(r repo, tests map[string]bool, page, span string, object func(string, ...any)) {
	switch {
	case testName.MatchString(span):
		if !tests[span] {
			object("names the test %s, which does not exist", span)
		}
	case strings.HasPrefix(span, "go test ") || strings.Contains(span, " go test "):
		checkCommand(tests, span, object)
	case pathName.MatchString(span):
		if !knownPath(r, page, span) {
			object("names %s, which does not exist", span)
		}
	}
}

// knownPath reports whether a text that may be a path, from the root or from the page, is one. What cannot be meant as a
// path of the repository is fine.
func knownPath(r repo, page, text string) bool {
	clean := strings.TrimSuffix(text, "/")
	top, _, nested := strings.Cut(clean, "/")
	switch {
	case r.exists(clean), r.exists(path.Join(path.Dir(page), clean)):
		return true
	case nested && r.exists(top):
		return false
	case !source.MatchString(clean), strings.Contains(top, ".") && nested: // github.com/hashicorp/raft/raft.go
		return true
	case nested:
		return false
	}
	// A bare file name, or the end of one as in -auth.yaml.
	return slices.ContainsFunc(r.files, func(name string) bool { return strings.HasSuffix(path.Base(name), clean) })
}

func checkFunction(r repo, page, file, receiver, name string, object func(string, ...any)) {
	if testName.MatchString(name) || name == "go" { // a test, or two files in a row
		return
	}
	text, err := r.read(file)
	if err != nil {
		if text, err = r.read(path.Join(path.Dir(page), file)); err != nil {
			return // knownPath objects
		}
	}
	defined := `(?m)^(func (\([^)]*\) )?|type )` + name + `[\[( ]`
	if receiver != "" {
		defined = `(?m)^func \(\w* ?\*?` + receiver + `(\[[^)]*\])?\) ` + name + `\(`
	}
	if !regexp.MustCompile(defined).MatchString(text) {
		object("names %s in %s, which does not define it", strings.TrimPrefix(receiver+"."+name, "."), file)
	}
}

func TestNamesExist(t *testing.T) {
	for _, problem := range badNames(openRepo(t)) {
		t.Error(problem)
	}
}

func TestNameCheckFindsMistakes(t *testing.T) {
	repository := func(page string) repo {
		return made(map[string]string{
			"ARCHITECTURE.md":         page,
			"docs/a.md":               "",
			"hub/state.go":            "func (s *State) Apply(data []byte) {}\nfunc helper() {}\n",
			"hub/state_test.go":       "func TestI6Fold(t *testing.T) {}\nfunc FuzzEntry(f *testing.F) {}\n",
			"configs/mosip-auth.yaml": "",
		})
	}
	good := "`TestI6Fold` `hub/state.go` `hub/` `-auth.yaml` `/v1/topics` `application/json` `message.max_bytes` `state.go`, " +
		"`hub/state.go`, `State.Apply`; `helper` in `hub/state.go`; `go test -run TestI6 ./hub`\n" +
		"```sh\ngo test ./hub -run 'TestI6Fold' -fuzz '^FuzzEntry$'\n```\n"
	if got := badNames(repository(good)); len(got) != 0 {
		t.Errorf("right names: got %q", got)
	}
	for name, page := range map[string]string{
		"a missing test":                   "`TestI6Folds`",
		"a missing test in a command":      "```sh\ngo test ./hub -run TestI7\n```",
		"a missing test in a code span":    "`go test -run TestI7 ./hub`",
		"a missing file":                   "`hub/states.go`",
		"a missing file, misspelt room":    "`hubs/state.go`",
		"a missing directory":              "`hub/testdata`",
		"a missing bare file":              "`reducer.go`",
		"a missing method":                 "`hub/state.go`, `State.Fold`",
		"a method of another type":         "`hub/state.go`, `Service.Apply`",
		"a missing function, other order":  "`reduce` in `hub/state.go`",
		"a missing function on a new line": "`hub/state.go`,\n`reduce`",
	} {
		if got := badNames(repository(page + "\n")); len(got) != 1 {
			t.Errorf("%s: got %q, want one objection", name, got)
		}
	}
}
