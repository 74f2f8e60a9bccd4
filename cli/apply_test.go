package cli_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// applying runs apply with a file of this text, through node i.
func (c *devCluster) applying(i int, text string, args ...string) result {
	c.t.Helper()
	return run(c.t, text, append([]string{"apply", "-", "--hub", c.urls[i]}, args...)...)
}

func (c *devCluster) dump(i int, args ...string) string {
	c.t.Helper()
	got := run(c.t, "", append([]string{"dump", "--hub", c.urls[i]}, args...)...)
	if got.code != 0 {
		c.t.Fatalf("dump: %+v", got)
	}
	return got.out
}

const declared = `
topics:
  - {name: t, retention: {max_age: 7d, max_bytes: 1GiB}}
  - name: 50% off/ünï côde?#
  - {name: "https://elsewhere.example/feed?a=b%20c", retention: {max_age: 1d12h}}
rules:
  - {name: reader, may: [read], topics: ["t/**"], who: [{scope: "a:b"}]}
  - {name: writer, may: [publish], topics: ["**"], who: [{role: w}, {method: certificate, subject: "x # y"}]}
`

func TestApplyBringsAClusterToWhatTheFileSays(t *testing.T) {
	// A hub without authentication takes no rules.
	file := filepath.Join(t.TempDir(), "auth.yaml")
	everybody := "rules: [{name: everybody, may: ['*'], topics: ['**'], who: [{anonymous: true}]}]\n"
	if err := os.WriteFile(file, []byte(everybody), 0o600); err != nil {
		t.Fatal(err)
	}
	c := startDevCluster(t, 3, "auth.mode=required", "auth.file="+file)

	if got := c.applying(0, declared, "--dry-run"); got.code != 6 || !strings.Contains(got.out, "+ topic t\n") || !strings.Contains(got.out, "+ rule writer\n") {
		t.Fatalf("dry run: %+v", got)
	}
	if got := c.dump(1); strings.Contains(got, "name:") {
		t.Errorf("a dry run changed something:\n%s", got)
	}
	if got := c.applying(0, declared); got.code != 0 || strings.Count(got.out, "\n") != 7 {
		t.Fatalf("apply: %+v", got)
	}
	dump := c.dump(1)
	for i := range c.urls {
		if got := c.applying(i, declared); got.code != 0 || got.out != "nothing to change\n" {
			t.Errorf("again, through node-%d: %+v", i+1, got)
		}
		if got := c.applying(i, dump, "--diff"); got.code != 0 || got.out != "nothing to change\n" {
			t.Errorf("the dump, through node-%d: %+v", i+1, got)
		}
		if got := c.dump(i); got != dump {
			t.Errorf("node-%d dumps\n%s\nand node-2\n%s", i+1, got, dump)
		}
	}

	// Continue without one of the nodes.
	dead := c.leader(0)
	if err := syscall.Kill(pidIn(c.node(dead)), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	a, b := (dead+1)%3, (dead+2)%3
	applyWithoutANode(t, c, a, b)
	applyPauses(t, c, a, b)
	applyPrunes(t, c, a, b)
}

// applyWithoutANode applies a change while a node is down.
func applyWithoutANode(t *testing.T, c *devCluster, a, b int) {
	t.Helper()
	changed := strings.Replace(strings.Replace(declared, "max_age: 7d, ", "max_age: 3d, ", 1), "  - {name: writer", "  - {name: editor", 1)
	// A later run does what an election prevented.
	var said string
	eventually(t, "the change is made with a node down", func() bool {
		got := c.applying(a, changed, "--prune")
		said += got.out
		if got.code != 0 {
			t.Logf("with a node down: %s", got.err)
		}
		return got.code == 0
	})
	if !strings.Contains(said, "~ topic t retention max_age 7d -> 3d\n") || !strings.Contains(said, "+ rule editor\n") || !strings.Contains(said, "- rule writer\n") {
		t.Errorf("apply printed %q", said)
	}
	if got := c.dump(b); !strings.Contains(got, "max_age: 3d") || !strings.Contains(got, "name: editor") || strings.Contains(got, "name: writer") {
		t.Errorf("after the change:\n%s", got)
	}
}

// applyPauses pauses and resumes a subscription.
func applyPauses(t *testing.T, c *devCluster, a, b int) {
	t.Helper()
	m := newModal(t)
	c.subscribeWith(a, "hub.callback", m.URL+"/cb")
	eventually(t, "the subscription is active", func() bool { return c.listed(b)["/cb"].State == "active" })
	paused := "subscriptions:\n  - {topic: t, callback: \"" + m.URL + "/cb\", paused: true}\n"
	if got := c.applying(b, paused); got.code != 0 || !strings.Contains(got.out, "active -> paused") {
		t.Errorf("pause: %+v", got)
	}
	withState := c.dump(a, "--subscriptions")
	if !strings.Contains(withState, "paused: true") {
		t.Errorf("the dump does not show what is paused:\n%s", withState)
	}
	if got := c.applying(b, withState); got.out != "nothing to change\n" {
		t.Errorf("the dump: %+v", got)
	}
	if got := c.applying(a, strings.Replace(paused, "true", "false", 1)); got.code != 0 || c.listed(a)["/cb"].State != "active" {
		t.Errorf("resume: %+v", got)
	}
}

// applyPrunes applies a file with one new topic and no rules: with --prune everything else goes, except topics with subscriptions.
func applyPrunes(t *testing.T, c *devCluster, a, b int) {
	t.Helper()
	if got := c.applying(a, "topics: [{name: kept}]\n", "--prune"); got.code != 0 || got.out != "+ topic kept\n" {
		t.Errorf("prune removed topics, or rules although the file has no list of rules: %+v", got)
	}
	got := c.applying(a, "topics: [{name: kept}]\nrules: []\n", "--prune", "--prune-topics", "--json")
	var out struct {
		Changes []struct {
			Op, Kind, Name string
			Done           bool
		}
	}
	decode(t, got.out, &out)
	gone := map[string]bool{}
	for _, ch := range out.Changes {
		gone[ch.Op+ch.Name] = ch.Done
	}
	if got.code != 0 || len(gone) != 4 || !gone["-reader"] || !gone["-editor"] || !gone["-50% off/ünï côde?#"] || !gone["-https://elsewhere.example/feed?a=b%20c"] {
		t.Errorf("prune: %+v", got)
	}
	if got := c.dump(b); !regexp.MustCompile(`(?s)- name: kept\n  - name: t\n.*rules: \[\]`).MatchString(got) {
		t.Errorf("after pruning:\n%s", got)
	}
}

func TestApplyNeedsTheRightToDoSo(t *testing.T) {
	made := run(t, "", "auth", "new-key", "--name", "root", "--role", "operator")
	key := regexp.MustCompile(`qhk_\S+`).FindString(made.out)
	_, setting, _ := strings.Cut(made.out, "Add this to auth.file:\n\n")
	file := filepath.Join(t.TempDir(), "auth.yaml")
	text := setting + "rules:\n  - {name: root, may: ['*'], topics: ['**'], who: [{role: operator}]}\n  - {name: lists, may: [admin.view], who: [{scope: lists}]}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := startDevCluster(t, 1, "auth.mode=required", "auth.file="+file)
	if got := c.applying(0, declared, "--token", key); got.code != 0 {
		t.Fatalf("with the operator's key: %+v", got)
	}
	before := c.dump(0, "--token", key)
	if strings.Contains(before, "root") || strings.Contains(before, "qhk_") {
		t.Errorf("rules of auth.file or keys are in the dump:\n%s", before)
	}
	made = run(t, "", "auth", "keys", "create", "--name", "n", "--scope", "lists", "--hub", c.urls[0], "--token", key, "--json")
	var other struct{ Key string }
	if err := json.Unmarshal([]byte(made.out), &other); err != nil {
		t.Fatalf("%v: %+v", err, made)
	}
	more := "topics: [{name: second}, {name: third}]\n"
	for what, token := range map[string]string{"no token": "", "a wrong one": "qhk_x", "one that may only read": other.Key} {
		got := c.applying(0, more, "--token", token)
		if got.code != 4 || !strings.Contains(got.err, "the hub refused: 40") {
			t.Errorf("%s: %+v", what, got)
		}
		if token == other.Key && !strings.Contains(got.err, "0 of 2 changes were made") || token == other.Key && !strings.Contains(got.err, "not done: + topic third") {
			t.Errorf("it does not print what was not done: %+v", got)
		}
	}
	if got := c.dump(0, "--token", key); got != before {
		t.Errorf("something was changed:\n%s", got)
	}
	if got := c.applying(0, "rules:\n- {name: root, may: [read], topics: [x], who: [{role: r}]}\n", "--token", key); got.code != 2 || !strings.Contains(got.err, "auth.file") {
		t.Errorf("a rule of auth.file: %+v", got)
	}
}

func TestApplyChecksWithoutAHub(t *testing.T) {
	file := filepath.Join(t.TempDir(), "hub.yaml")
	if err := os.WriteFile(file, []byte(declared), 0o600); err != nil {
		t.Fatal(err)
	}
	const nowhere = "http://127.0.0.1:1"
	if got := run(t, "", "apply", "--check", file, "--hub", nowhere); got.code != 0 || got.out != "valid: topics 3, rules 2, subscriptions 0\n" {
		t.Errorf("got %+v", got)
	}
	for name, tc := range map[string]struct {
		stdin string
		args  []string
		code  int
		says  string
	}{
		"unknown key":   {"topics:\n  - nam: x\n", []string{"--check", "-"}, 2, "standard input:2: topics.nam: unknown key; did you mean name?"},
		"no file":       {"", []string{"--check", file + "x"}, 2, "no such file"},
		"prune topics":  {"", []string{"--prune-topics", file}, 2, "needs --prune"},
		"check and dry": {"", []string{"--check", "--dry-run", file}, 2, "can't be used together"},
		"no hub":        {"", []string{file}, 3, "is unreachable"},
	} {
		if got := run(t, tc.stdin, append([]string{"apply", "--hub", nowhere}, tc.args...)...); got.code != tc.code || !strings.Contains(got.err, tc.says) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// What is announced of the end of topics is in the dump, and applied: a topic whose successor the same file registers, too.
func TestApplyAndDumpLifecycles(t *testing.T) {
	c := startDevCluster(t, 1)
	const ends = "topics:\n" +
		"  - {name: a, lifecycle: {status: deprecated, successor: b, sunset_at: 2099-06-30}}\n" +
		"  - {name: b}\n" +
		"  - {name: c, lifecycle: {status: retired, deprecated_at: 2026-01-01}}\n"
	if got := c.applying(0, ends); got.code != 0 || !strings.Contains(got.out, "lifecycle") {
		t.Fatalf("apply: %+v", got)
	}
	dump := c.dump(0)
	for _, want := range []string{"successor: b}", "sunset_at: \"2099-06-30T00:00:00Z\"", "status: retired, deprecated_at: \"2026-01-01T00:00:00Z\""} {
		if !strings.Contains(dump, want) {
			t.Errorf("the dump lacks %s:\n%s", want, dump)
		}
	}
	for what, text := range map[string]string{"the file": ends, "the dump": dump, "a file that says nothing of it": "topics: [{name: a}, {name: c}]"} {
		if got := c.applying(0, text); got.code != 0 || got.out != "nothing to change\n" {
			t.Errorf("%s once more: %+v", what, got)
		}
	}
	if got := c.applying(0, "topics: [{name: a, lifecycle: {status: active}}]"); got.code != 0 || !strings.Contains(got.out, "-> {status: active}") {
		t.Errorf("reinstated: %+v", got)
	}
	if got := c.applying(0, "topics: [{name: a, lifecycle: {status: old, sunset_at: soon}}]"); got.code != 2 || !strings.Contains(got.err, "expected active, deprecated or retired") || !strings.Contains(got.err, "lifecycle.sunset_at") {
		t.Errorf("mistakes: %+v", got)
	}
}
