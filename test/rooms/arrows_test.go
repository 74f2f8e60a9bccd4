package rooms_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// free is where every room may be imported: the commands wire and try them, the tests drive them.
var free = []string{"cli", "test"}

// wall is an import that must never exist, whatever ARCHITECTURE.md allows.
type wall struct {
	from, to []string // rooms; those inside them are included, except that a room may import its own inner rooms
	except   []string // importers this wall does not bind
	outer    bool     // to means the rooms themselves, not those inside them
	open     []string // rooms inside to that it does not bar
	why      string
}

var walls = []wall{
	{from: []string{"hub", "configs"}, to: []string{"store", "raftlog", "delivery", "auth", "web", "cli", "test"}, why: "the domain and the settings know nobody"},
	{from: []string{"delivery/egress"}, to: []string{"delivery", "store", "raftlog", "auth", "web", "configs"}, why: "the guard depends on hub only"},
	{from: []string{"delivery/intent"}, to: []string{"delivery/fetch", "delivery/placement", "delivery/sweep"}, why: "siblings do not know each other"},
	{from: []string{"delivery/fetch"}, to: []string{"delivery/intent", "delivery/placement", "delivery/sweep"}, why: "siblings do not know each other"},
	{from: []string{"delivery/placement"}, to: []string{"delivery/intent", "delivery/fetch", "delivery/sweep", "delivery/egress"}, why: "placement opens no connection"},
	{from: []string{"delivery/sweep"}, to: []string{"delivery/intent", "delivery/fetch", "delivery/placement", "delivery/egress"}, why: "sweeping opens no connection"},
	{from: []string{"auth/keyring"}, to: []string{"auth"}, why: "secrets at rest are not access control"},
	{from: []string{"web/sse", "web/problem"}, to: []string{"web"}, outer: true, why: "web's inner rooms do not know web"},
	{from: []string{""}, to: []string{"web"}, except: []string{"web", "cli/node", "cli/gateway", "test"}, open: []string{"web/gateway/registry", "web/gateway/openapi"}, why: "the composition root alone builds the web server; commands check registries as it does"},
	{from: []string{""}, to: []string{"cli"}, except: []string{"cli", "test", "."}, why: "rooms do not know the commands"},
	{from: []string{""}, to: []string{"test"}, except: []string{"test"}, why: "the product does not depend on its tests"},
}

// bars reports whether the wall forbids room to import other.
func (w wall) bars(room, other string) bool {
	if w.outer {
		return slices.Contains(w.to, other)
	}
	own := slices.ContainsFunc(w.from, func(from string) bool { return from != "" && within(room, from) && within(other, from) })
	return withinAny(other, w.to) && !own && !slices.Contains(w.open, other)
}

// reservedFor maps a dependency to the rooms that may import it; test/ may import everything.
var reservedFor = map[string][]string{
	"github.com/labstack/echo":         {"web"},
	"go.etcd.io/bbolt":                 {"store", "raftlog"},
	"github.com/hashicorp/raft-boltdb": {"raftlog"},
	"github.com/hashicorp/raft":        {"raftlog"},
	"net/http":                         {"delivery", "auth", "web", "cli", "configs"},
}

// barred are further standard packages that a room must not import.
var barred = map[string][]string{
	"hub":                {"os", "os/exec", "database/sql", "log", "log/slog", "syscall", "net"},
	"delivery/placement": {"net/http", "net"},
	"delivery/sweep":     {"net/http", "net"},
}

// room is a package's path inside the module; "." for the module's root.
func (p pkg) room() string {
	return roomOf(p.ImportPath)
}

func roomOf(importPath string) string {
	if importPath == module {
		return "."
	}
	return strings.TrimPrefix(importPath, module+"/")
}

// imported lists the rooms among imports, sorted.
func imported(imports []string) []string {
	var rooms []string
	for _, path := range imports {
		if within(path, module) {
			rooms = append(rooms, roomOf(path))
		}
	}
	slices.Sort(rooms)
	return slices.Compact(rooms)
}

// within reports whether path is prefix or lies below it. Everything lies below the empty prefix.
func within(path, prefix string) bool {
	return prefix == "" || path == prefix || strings.HasPrefix(path, prefix+"/")
}

func withinAny(path string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(prefix string) bool { return within(path, prefix) })
}

// breaches reports which imports of a package break a wall or a reservation. A package's tests may import its own
// neighbourhood (the same top-level room) and the harness in test/.
func breaches(p pkg) []string {
	var out []string
	room := p.room()
	for _, w := range walls {
		if !withinAny(room, w.from) || withinAny(room, w.except) {
			continue
		}
		for _, other := range imported(p.Imports) {
			if w.bars(room, other) {
				out = append(out, fmt.Sprintf("%s imports %s: %s", room, other, w.why))
			}
		}
	}
	if within(room, "test") {
		return out
	}
	top, _, _ := strings.Cut(room, "/")
	for _, other := range imported(slices.Concat(p.TestImports, p.XTestImports)) {
		if !withinAny(other, append([]string{top, "test"}, imported(p.Imports)...)) && !withinAny(room, free) {
			out = append(out, fmt.Sprintf("tests of %s import %s, which %s does not", room, other, room))
		}
	}
	for _, path := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
		for dependency, rooms := range reservedFor {
			major := regexp.MustCompile("^" + regexp.QuoteMeta(dependency) + `(/v\d+)?(/|$)`)
			inTests := !slices.Contains(p.Imports, path)
			if major.MatchString(path) && !withinAny(room, rooms) && !(inTests && dependency == "net/http") {
				out = append(out, fmt.Sprintf("%s imports %s, which is reserved for %v", room, path, rooms))
			}
		}
	}
	for _, path := range p.Imports {
		if slices.Contains(barred[room], path) {
			out = append(out, fmt.Sprintf("%s imports %s, which it must not", room, path))
		}
	}
	return out
}

func TestRoomsKeepTheirWalls(t *testing.T) {
	for _, p := range packages(t) {
		for _, problem := range breaches(p) {
			t.Error(problem)
		}
	}
}

func TestWallsFindBreaches(t *testing.T) {
	product := func(room string, imports ...string) pkg {
		return pkg{ImportPath: module + "/" + room, Imports: imports}
	}
	for name, p := range map[string]pkg{
		"hub imports store":         product("hub", "quorumhub/store"),
		"hub imports net/http":      product("hub", "net/http"),
		"hubpb imports auth":        product("hub/hubpb", "quorumhub/auth"),
		"configs imports auth":      product("configs", "quorumhub/auth"),
		"egress imports delivery":   product("delivery/egress", "quorumhub/delivery"),
		"egress imports retry":      product("delivery/egress", "quorumhub/delivery/retry"),
		"intent imports fetch":      product("delivery/intent", "quorumhub/delivery/fetch"),
		"placement imports egress":  product("delivery/placement", "quorumhub/delivery/egress"),
		"sweep imports net/http":    product("delivery/sweep", "net/http"),
		"keyring imports auth":      product("auth/keyring", "quorumhub/auth"),
		"sse imports web":           product("web/sse", "quorumhub/web"),
		"delivery imports web":      product("delivery", "quorumhub/web"),
		"a command imports web":     product("cli", "quorumhub/web"),
		"bench imports web/problem": product("cli/bench", "quorumhub/web/problem"),
		"raftlog imports cli/node":  product("raftlog", "quorumhub/cli/node"),
		"bench imports hubtest":     product("cli/bench", "quorumhub/test/hubtest"),
		"main imports web":          {ImportPath: module, Imports: []string{"quorumhub/web"}},
		"cli imports echo":          product("cli", "github.com/labstack/echo/v4"),
		"delivery imports bbolt":    product("delivery", "go.etcd.io/bbolt"),
		"store imports raft-boltdb": product("store", "github.com/hashicorp/raft-boltdb/v2"),
		"web imports raft":          product("web", "github.com/hashicorp/raft"),
		"web tests import raftlog":  {ImportPath: "quorumhub/web", XTestImports: []string{"quorumhub/raftlog"}},
		"store imports net/http":    product("store", "net/http"),
	} {
		if got := breaches(p); len(got) != 1 {
			t.Errorf("%s: got %q, want one breach", name, got)
		}
	}
	for name, p := range map[string]pkg{
		"raftlog imports bbolt":     product("raftlog", "go.etcd.io/bbolt", "quorumhub/store", "quorumhub/hub/hubpb"),
		"delivery imports egress":   product("delivery", "quorumhub/delivery/egress", "quorumhub/hub"),
		"cli/node imports web":      product("cli/node", "quorumhub/web", "quorumhub/raftlog", "quorumhub/configs"),
		"web tests use the harness": {ImportPath: "quorumhub/web", XTestImports: []string{"quorumhub/test/hubtest", "net/http"}},
		"test imports bbolt":        {ImportPath: "quorumhub/test/chaos", XTestImports: []string{"go.etcd.io/bbolt"}},
		"main imports cli":          {ImportPath: module, Imports: []string{"quorumhub/cli"}},
	} {
		if got := breaches(p); len(got) != 0 {
			t.Errorf("%s: got %q, want no breach", name, got)
		}
	}
}

// TestArrowsEqualTheTableInArchitecture compares what the product imports with what ARCHITECTURE.md says, both ways: an
// arrow that is not in the table is a decision nobody took, one that is only in the table misleads.
func TestArrowsEqualTheTableInArchitecture(t *testing.T) {
	page, err := os.ReadFile(filepath.Join(root(t), "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	actual := map[string][]string{}
	for _, p := range packages(t) {
		if !within(p.room(), "test") {
			actual[p.room()] = imported(p.Imports)
		}
	}
	for _, problem := range compareArrows(arrowTable(string(page)), actual) {
		t.Error(problem)
	}
}

var (
	tableRow = regexp.MustCompile("(?m)^\\| `([a-z/.]+)` \\|[^|]*\\|([^|]*)\\|$")
	quoted   = regexp.MustCompile("`([a-z/.]+)`")
)

// arrowTable reads the rows "| `room` | holds | `import`, … |" of a page.
func arrowTable(page string) map[string][]string {
	table := map[string][]string{}
	for _, row := range tableRow.FindAllStringSubmatch(page, -1) {
		room := strings.TrimSuffix(row[1], "/")
		if room == "main.go" {
			room = "."
		}
		imports := []string{}
		for _, m := range quoted.FindAllStringSubmatch(row[2], -1) {
			imports = append(imports, m[1])
		}
		slices.Sort(imports)
		table[room] = imports
	}
	return table
}

func compareArrows(table, actual map[string][]string) []string {
	var out []string
	for _, room := range slices.Sorted(maps.Keys(actual)) {
		row, ok := table[room]
		switch {
		case !ok:
			out = append(out, fmt.Sprintf("ARCHITECTURE.md has no row for %s, which imports %q", room, actual[room]))
		case !slices.Equal(row, actual[room]):
			out = append(out, fmt.Sprintf("%s imports %q; ARCHITECTURE.md says %q", room, actual[room], row))
		}
	}
	for _, room := range slices.Sorted(maps.Keys(table)) {
		if _, ok := actual[room]; !ok {
			out = append(out, fmt.Sprintf("ARCHITECTURE.md has a row for %s, which does not exist", room))
		}
	}
	return out
}

func TestArrowTableComparison(t *testing.T) {
	table := arrowTable("| room | holds | may import |\n|---|---|---|\n| `hub` | the domain | nothing |\n| `store` | files | `hub`, `hub/hubpb` |\n| `gone` | nothing | `hub` |\n")
	actual := map[string][]string{"hub": {}, "store": {"hub"}, "new": {"hub"}}
	if got := compareArrows(table, actual); len(got) != 3 {
		t.Errorf("got %q, want objections to store, new and gone", got)
	}
	if got := compareArrows(map[string][]string{"hub": {}}, map[string][]string{"hub": nil}); len(got) != 0 {
		t.Errorf("got %q, want none", got)
	}
}
