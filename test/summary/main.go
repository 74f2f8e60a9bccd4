// Summary runs `go test` once or several times and prints what a reader of the log needs: a line per package,
// the complete output of failed tests, which third-party programs ran, and what was skipped and why.
//
//	go run ./test/summary -- -race ./hub/... -- -timeout 10m ./cli/... ./test/...
//
// Each "--" starts the arguments of one run. It exits with 1 if a test failed, if none ran, or if CI=true and
// one was skipped.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// event is a line of `go test -json` (see go doc test2json).
type event struct {
	Action     string
	Package    string
	ImportPath string // of build output
	Test       string
	Elapsed    float64
	Output     string
}

type summary struct {
	out                     io.Writer
	said                    map[string][]string // package and test to its output
	passed, failed, skipped int
	ran, skips, later       []string
}

func main() {
	s := &summary{out: os.Stdout, said: map[string][]string{}}
	ok := true
	for _, args := range groups(os.Args[1:]) {
		if err := s.run(args); err != nil {
			fmt.Fprintf(s.out, "go test %s: %v\n", strings.Join(args, " "), err)
			ok = false
		}
	}
	if !s.close(os.Getenv("CI") == "true") || !ok {
		os.Exit(1)
	}
}

// groups splits arguments at each "--".
func groups(args []string) [][]string {
	var out [][]string
	for _, a := range args {
		if a == "--" {
			out = append(out, nil)
			continue
		}
		if len(out) == 0 {
			out = append(out, nil)
		}
		out[len(out)-1] = append(out[len(out)-1], a)
	}
	return out
}

func (s *summary) run(args []string) error {
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Stderr = s.out
	if slices.Contains(args, "-race") { // the race detector needs cgo even if everything else is built without
		cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	}
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if err := s.read(pipe); err != nil {
		return err
	}
	return cmd.Wait()
}

func (s *summary) read(r io.Reader) error {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) == nil {
				s.add(e)
			} else {
				fmt.Fprintf(s.out, "%s", line)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (s *summary) add(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "build-output":
		fmt.Fprint(s.out, e.Output)
	case "output":
		s.said[key] = append(s.said[key], e.Output)
		if _, what, found := strings.Cut(e.Output, ": ran: "); found {
			s.ran = append(s.ran, strings.TrimSpace(what))
		}
	case "pass", "fail", "skip":
		s.end(e, key)
		delete(s.said, key)
	}
}

// end records the result of a test or package.
func (s *summary) end(e event, key string) {
	said := strings.Join(s.said[key], "")
	switch {
	case e.Test == "" && e.Action == "pass":
		fmt.Fprintf(s.out, "ok  \t%s\t%.1fs\n", e.Package, e.Elapsed)
	case e.Test == "" && e.Action == "fail":
		fmt.Fprintf(s.out, "%sFAIL\t%s\t%.1fs\n", said, e.Package, e.Elapsed)
		for other, lines := range s.said { // tests that a crash or timeout interrupted
			if strings.HasPrefix(other, e.Package+" ") && other != key {
				s.failed++
				fmt.Fprintf(s.out, "interrupted: %s\n%s", other, strings.Join(lines, ""))
				delete(s.said, other)
			}
		}
	case e.Test == "": // a package without tests
	case e.Action == "pass":
		s.passed++
	case e.Action == "fail":
		s.failed++
		fmt.Fprintf(s.out, "%s\n%s", e.Package, said)
	case e.Action == "skip":
		what := e.Package + " " + e.Test + ": " + reason(said)
		if strings.Contains(what, longVersion) {
			s.later = append(s.later, what)
			return
		}
		s.skipped++
		s.skips = append(s.skips, what)
	}
}

// longVersion appears in the skip message of tests that take minutes and run only in make chaos. Nothing is
// missing on this machine then.
const longVersion = "in the long version only"

// reason returns the output of a skipped test in one line.
func reason(said string) string {
	var out []string
	for line := range strings.Lines(said) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "===") && !strings.HasPrefix(line, "---") {
			out = append(out, line)
		}
	}
	return strings.Join(out, " ")
}

// close prints the end of the report and reports whether everything passed.
func (s *summary) close(nothingMayBeSkipped bool) bool {
	slices.Sort(s.ran)
	for _, what := range slices.Compact(s.ran) {
		fmt.Fprintf(s.out, "ran against the hub: %s\n", what)
	}
	for _, what := range s.skips {
		fmt.Fprintf(s.out, "skipped: %s\n", what)
	}
	for _, what := range s.later {
		fmt.Fprintf(s.out, "not run: %s\n", what)
	}
	if len(s.skips) == 0 {
		fmt.Fprintln(s.out, "skipped: nothing")
	}
	if s.passed == 0 {
		fmt.Fprintln(s.out, "no test ran")
	}
	if nothingMayBeSkipped && s.skipped > 0 {
		fmt.Fprintln(s.out, "CI=true: nothing may be skipped")
	}
	fmt.Fprintf(s.out, "%d passed, %d failed, %d skipped\n", s.passed, s.failed, s.skipped)
	return s.failed == 0 && s.passed > 0 && !(nothingMayBeSkipped && s.skipped > 0)
}
