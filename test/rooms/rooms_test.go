package rooms_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"quorumhub/test/hubtest"
)

const module = "quorumhub"

// pkg is a package as listed by `go list -json`.
type pkg struct {
	ImportPath   string
	Name         string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Name,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = root(t)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.Bytes())
	}
	var all []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if len(all) < 3 {
		t.Fatalf("go list found only %d packages", len(all))
	}
	return all
}

func root(t *testing.T) string {
	t.Helper()
	dir, err := hubtest.Root()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestPackagesAreNamedAfterWhatTheyHold(t *testing.T) {
	for _, p := range packages(t) {
		for part := range strings.SplitSeq(p.ImportPath+"/"+p.Name, "/") {
			if slices.Contains([]string{"utils", "util", "helpers", "helper", "common", "manager", "misc", "base", "shared", "lib"}, part) {
				t.Errorf("package %s: %q does not say what the package contains", p.ImportPath, part)
			}
		}
	}
}

// maxLines is how long a file may be: a longer one usually has two subjects.
const maxLines = 500

var generated = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

func TestFilesAreShort(t *testing.T) {
	dir := root(t)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); path != dir && (strings.HasPrefix(name, ".") || name == "node_modules" || name == "testdata") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil || generated.Match(content[:min(len(content), 4096)]) {
			return err
		}
		lines := 0
		for scanner := bufio.NewScanner(bytes.NewReader(content)); scanner.Scan(); {
			lines++
		}
		if rel, err := filepath.Rel(dir, path); lines > maxLines {
			t.Errorf("%s has %d lines, at most %d are allowed (%v)", rel, lines, maxLines, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestPagesNameTestsThatExist keeps the tables of invariants and attacks correct.
func TestPagesNameTestsThatExist(t *testing.T) {
	defined := map[string]bool{}
	err := filepath.WalkDir(root(t), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllSubmatch(text, -1) {
			defined[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	pages := map[string]string{}
	for name, least := range map[string]int{"ARCHITECTURE.md": 10, "docs/threats.md": 40} {
		page, err := os.ReadFile(filepath.Join(root(t), name))
		if err != nil {
			t.Fatal(err)
		}
		pages[name] = string(page)
		named := regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(pages[name], -1)
		if len(named) < least {
			t.Errorf("%s names %d tests, expected at least %d", name, len(named), least)
		}
		for _, m := range named {
			if !defined[m[1]] {
				t.Errorf("%s names %s, which no test file defines", name, m[1])
			}
		}
	}
	for i := 1; i <= 10; i++ {
		if !strings.Contains(pages["ARCHITECTURE.md"], fmt.Sprintf("| I%d |", i)) {
			t.Errorf("ARCHITECTURE.md does not mention I%d", i)
		}
	}
}
