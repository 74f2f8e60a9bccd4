package readme_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"quorumhub/test/hubtest"
)

// repo is what the checks know of the repository: the tracked files and how to read one.
type repo struct {
	files []string // slash-separated, relative to the root
	read  func(name string) (string, error)
}

func openRepo(t *testing.T) repo {
	t.Helper()
	root, err := hubtest.Root()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("git", "ls-files")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	files := slices.DeleteFunc(strings.Fields(string(out)), func(name string) bool {
		_, err := os.Stat(filepath.Join(root, name))
		return err != nil // deleted, but not committed yet
	})
	slices.Sort(files)
	return repo{files: slices.Compact(files), read: func(name string) (string, error) {
		text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
		return string(text), err
	}}
}

// made returns a repository of the given files, for tests of the checks.
func made(files map[string]string) repo {
	var names []string
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	return repo{files: names, read: func(name string) (string, error) {
		text, ok := files[name]
		if !ok {
			return "", os.ErrNotExist
		}
		return text, nil
	}}
}

// exists reports whether path is a tracked file, or a directory that holds one.
func (r repo) exists(path string) bool {
	if path == "." {
		return true
	}
	i, found := slices.BinarySearch(r.files, path)
	if found {
		return true
	}
	for ; i < len(r.files) && strings.HasPrefix(r.files[i], path); i++ {
		if strings.HasPrefix(r.files[i], path+"/") {
			return true
		}
	}
	return false
}

func (r repo) pages() []string {
	return slices.DeleteFunc(slices.Clone(r.files), func(name string) bool { return !strings.HasSuffix(name, ".md") })
}

// prose splits a page into its text without fenced blocks, line by line, and the fenced blocks.
func prose(page string) (lines []string, blocks []block) {
	section, fence := "", ""
	for line := range strings.SplitSeq(page, "\n") {
		trimmed := strings.TrimSpace(line)
		switch {
		case fence != "" && trimmed == fence:
			fence = ""
			line = ""
		case fence != "":
			last := &blocks[len(blocks)-1]
			last.text += line + "\n"
			line = ""
		case strings.HasPrefix(trimmed, "```"):
			fence = "```"
			blocks = append(blocks, block{section: section, language: strings.TrimPrefix(trimmed, "```")})
			line = ""
		case strings.HasPrefix(line, "#"):
			section = headingText(line)
		}
		lines = append(lines, line)
	}
	return lines, blocks
}

// block is a fenced block and the heading above it.
type block struct{ section, language, text string }

func headingText(line string) string { return strings.TrimSpace(strings.TrimLeft(line, "#")) }

var (
	codeSpan = regexp.MustCompile("`[^`\n]*`")
	link     = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	scheme   = regexp.MustCompile(`^[a-z]+:`)
)

// anchors returns the anchors of a page's headings as GitHub makes them.
func anchors(page string) map[string]bool {
	out := map[string]bool{}
	lines, _ := prose(page)
	for _, line := range lines {
		if !strings.HasPrefix(line, "#") {
			continue
		}
		slug := slugOf(headingText(line))
		for n, name := 0, slug; ; n++ {
			if n > 0 {
				name = slug + "-" + strconv.Itoa(n)
			}
			if !out[name] {
				out[name] = true
				break
			}
		}
	}
	return out
}

func slugOf(heading string) string {
	heading = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`).ReplaceAllString(heading, "$1")
	return strings.Map(func(c rune) rune {
		switch {
		case unicode.IsLetter(c), unicode.IsDigit(c), c == '-', c == '_':
			return unicode.ToLower(c)
		case c == ' ':
			return '-'
		}
		return -1
	}, heading)
}
