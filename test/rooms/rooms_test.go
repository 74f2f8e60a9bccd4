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

// mayImport says which rooms a room may import, itself aside. A room that is not listed is free (cli, test).
var mayImport = map[string][]string{
	"hub":      {},
	"store":    {"hub"},
	"raftlog":  {"hub", "store"},
	"delivery": {"hub"},
	"auth":     {"hub"},
	"web":      {"hub", "auth"},
	"configs":  {},
	"":         {"cli"}, // main.go
}

// reservedFor says in which rooms a dependency may be imported; test/ may import everything.
var reservedFor = map[string][]string{
	"github.com/labstack/echo":         {"web"},
	"go.etcd.io/bbolt":                 {"store", "raftlog"},
	"github.com/hashicorp/raft-boltdb": {"raftlog"},
	"github.com/hashicorp/raft":        {"raftlog"},
}

// forbidden names standard packages that a room must not import.
var forbidden = map[string][]string{
	"hub": {"net/http", "os", "os/exec", "database/sql", "log", "syscall"},
}

// pkg is what `go list -json` says of a package.
type pkg struct {
	ImportPath   string
	Name         string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

// room is the first element of a path inside of the module; "" for the module's root.
func (p pkg) room() string {
	rest := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
	room, _, _ := strings.Cut(rest, "/")
	return room
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
		t.Fatalf("go list finds only %d packages", len(all))
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

func within(path, prefix string) bool {
	return path == prefix || strings.HasPrefix(path, prefix+"/")
}

func TestRoomsImportOnlyWhatTheyMay(t *testing.T) {
	for _, p := range packages(t) {
		for _, problem := range breaches(p) {
			t.Error(problem)
		}
	}
}

// breaches lists what is wrong with the imports of a package. Its own tests may use what is above it only if
// they are in the same room or use the shared harness.
func breaches(p pkg) []string {
	var out []string
	room := p.room()
	if room == "test" {
		return nil
	}
	allowed, bound := mayImport[room]
	for _, imp := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
		inTests := !slices.Contains(p.Imports, imp)
		if within(imp, module) {
			other := pkg{ImportPath: imp}.room()
			fine := !bound || other == room || slices.Contains(allowed, other) || inTests && other == "test"
			if !fine {
				out = append(out, fmt.Sprintf("%s imports %s: %s may import %v of the project", p.ImportPath, imp, room, allowed))
			}
			continue
		}
		for dependency, rooms := range reservedFor {
			if (within(imp, dependency) || within(imp, dependency+"/v2") || within(imp, dependency+"/v4")) && !slices.Contains(rooms, room) {
				out = append(out, fmt.Sprintf("%s imports %s, which is for %v", p.ImportPath, imp, rooms))
			}
		}
		if !inTests && slices.Contains(forbidden[room], imp) {
			out = append(out, fmt.Sprintf("%s imports %s, and %s must not", p.ImportPath, imp, room))
		}
	}
	return out
}

func TestRoomsCheckFindsBreaches(t *testing.T) {
	for name, p := range map[string]pkg{
		"hub imports store":        {ImportPath: "quorumhub/hub", Imports: []string{"quorumhub/store"}},
		"hub imports net/http":     {ImportPath: "quorumhub/hub", Imports: []string{"net/http"}},
		"below hub, too":           {ImportPath: "quorumhub/hub/hubpb", Imports: []string{"quorumhub/configs"}},
		"web imports delivery":     {ImportPath: "quorumhub/web", Imports: []string{"quorumhub/delivery"}},
		"web imports raftlog":      {ImportPath: "quorumhub/web", Imports: []string{"quorumhub/raftlog"}},
		"a test of web does":       {ImportPath: "quorumhub/web", XTestImports: []string{"quorumhub/raftlog"}},
		"store imports raftlog":    {ImportPath: "quorumhub/store", Imports: []string{"quorumhub/raftlog"}},
		"delivery imports store":   {ImportPath: "quorumhub/delivery", Imports: []string{"quorumhub/store"}},
		"configs imports hub":      {ImportPath: "quorumhub/configs", Imports: []string{"quorumhub/hub"}},
		"main imports web":         {ImportPath: "quorumhub", Imports: []string{"quorumhub/web"}},
		"cli imports echo":         {ImportPath: "quorumhub/cli", Imports: []string{"github.com/labstack/echo/v4"}},
		"delivery imports bbolt":   {ImportPath: "quorumhub/delivery", Imports: []string{"go.etcd.io/bbolt"}},
		"store imports raftboltdb": {ImportPath: "quorumhub/store", Imports: []string{"github.com/hashicorp/raft-boltdb/v2"}},
		"web imports raft":         {ImportPath: "quorumhub/web", Imports: []string{"github.com/hashicorp/raft"}},
		"cli imports raft":         {ImportPath: "quorumhub/cli", Imports: []string{"github.com/hashicorp/raft"}},
	} {
		if len(breaches(p)) != 1 {
			t.Errorf("%s: got %v, want one breach", name, breaches(p))
		}
	}
	for name, p := range map[string]pkg{
		"raftlog imports bbolt": {ImportPath: "quorumhub/raftlog", Imports: []string{"go.etcd.io/bbolt", "quorumhub/store", "quorumhub/hub/hubpb"}},
		"cli imports all":       {ImportPath: "quorumhub/cli", Imports: []string{"quorumhub/web", "quorumhub/raftlog", "quorumhub/configs"}},
		"a test uses hubtest":   {ImportPath: "quorumhub/web", XTestImports: []string{"quorumhub/test/hubtest"}},
		"test imports bbolt":    {ImportPath: "quorumhub/test/chaos", XTestImports: []string{"go.etcd.io/bbolt"}},
	} {
		if got := breaches(p); len(got) != 0 {
			t.Errorf("%s: got %v, want no breach", name, got)
		}
	}
}

func TestPackagesAreNamedAfterWhatTheyHold(t *testing.T) {
	for _, p := range packages(t) {
		for part := range strings.SplitSeq(p.ImportPath+"/"+p.Name, "/") {
			if slices.Contains([]string{"utils", "util", "helpers", "helper", "common", "manager", "misc", "base", "shared", "lib"}, part) {
				t.Errorf("package %s: %q says nothing about what is in it", p.ImportPath, part)
			}
		}
	}
}

// maxLines is how long a file may be: a longer one usually holds two things.
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

// TestPagesNameTestsThatExist keeps the tables of invariants and of attacks honest.
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
			t.Errorf("ARCHITECTURE.md says nothing about I%d", i)
		}
	}
}
