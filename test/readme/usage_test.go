package readme_test

import (
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"quorumhub/test/hubtest"
)

var (
	invocation  = regexp.MustCompile(`(?:^|[\s(])(?:\./)?quorumhub((?: [^\n|;&>#]*)?)`)
	commandWord = regexp.MustCompile(`^[a-z][a-z-]*$`)
	flagName    = regexp.MustCompile(`(?:^|\s)(--[a-z][a-z-]*)`)
)

// usage is one documented call of the program.
type usage struct {
	words []string // the command, possibly followed by arguments
	flags []string
}

// usages finds the calls of the program in the sh blocks and code spans of a page.
func usages(page string) []usage {
	lines, blocks := prose(page)
	var texts []string
	for _, b := range blocks {
		if b.language == "sh" {
			texts = append(texts, strings.Split(strings.ReplaceAll(b.text, "\\\n", " "), "\n")...)
		}
	}
	for _, span := range codeSpan.FindAllString(strings.Join(lines, "\n"), -1) {
		texts = append(texts, strings.Trim(span, "`"))
	}
	var out []usage
	for _, text := range texts {
		for _, m := range invocation.FindAllStringSubmatch(text, -1) {
			var u usage
			for _, word := range strings.Fields(m[1]) {
				if !commandWord.MatchString(word) {
					break
				}
				u.words = append(u.words, word)
			}
			for _, f := range flagName.FindAllStringSubmatch(m[1], -1) {
				u.flags = append(u.flags, f[1])
			}
			if len(u.words) > 0 {
				out = append(out, u)
			}
		}
	}
	return out
}

// missing returns what a command's help does not know of a documented call.
func (u usage) missing(help string) []string {
	var out []string
	for _, f := range u.flags {
		if !regexp.MustCompile(regexp.QuoteMeta(f) + `[\s=,\[]`).MatchString(help + " ") {
			out = append(out, fmt.Sprintf("quorumhub %s has no flag %s", strings.Join(u.words, " "), f))
		}
	}
	return out
}

// TestDocumentedCommandsExist asks the program for help on every command that the pages show.
func TestDocumentedCommandsExist(t *testing.T) {
	r := openRepo(t)
	binary := hubtest.Binary(t)
	n := 0
	for _, page := range r.pages() {
		text, err := r.read(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range usages(text) {
			n++
			out, err := exec.Command(binary, append(u.words, "--help")...).CombinedOutput()
			if err != nil {
				t.Errorf("%s: quorumhub %s --help: %v\n%s", page, strings.Join(u.words, " "), err, out)
				continue
			}
			for _, problem := range u.missing(string(out)) {
				t.Errorf("%s: %s", page, problem)
			}
		}
	}
	if n < 40 {
		t.Errorf("found %d documented commands, expected at least 40", n)
	}
}

func TestUsageCheckFindsMistakes(t *testing.T) {
	got := usages("Run `quorumhub keys rotate --to ID`.\n```sh\ncurl x | ./quorumhub publish news --data x   # --comment\n" +
		"serve() { ./quorumhub serve --set a=$1 \\\n  --set b=$2 & }\n```\n")
	want := "[{[publish news] [--data]} {[serve] [--set --set]} {[keys rotate] [--to]}]"
	if fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
	help := "Flags:\n  --to=ID  The key.\n  --drop-old  Drop.\n"
	if m := (usage{[]string{"keys", "rotate"}, []string{"--to", "--drop-old"}}).missing(help); len(m) != 0 {
		t.Errorf("got %q, want none", m)
	}
	if m := (usage{[]string{"keys", "rotate"}, []string{"--drop", "--from"}}).missing(help); len(m) != 2 {
		t.Errorf("got %q, want objections to --drop and --from", m)
	}
	if out, err := exec.Command(hubtest.Binary(t), "subscription", "show", "--help").CombinedOutput(); err == nil {
		t.Errorf("the program gives help on a command that does not exist:\n%s", out)
	}
}
