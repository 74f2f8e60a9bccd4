package gateway

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"quorumhub/cli/exit"
	"quorumhub/web/gateway/registry"
)

// maxFileBytes bounds each file that is read.
const maxFileBytes = 16 << 20

// Source is where a registry is read from.
type Source struct {
	Name string    // path of the file; - for In
	In   io.Reader // standard input
	// Lookup returns the value of ${NAME}: a variable of the environment.
	Lookup func(name string) (string, bool)
}

// Environment returns a Source.Lookup for a list of NAME=value.
func Environment(list []string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		value, found := "", false
		for _, pair := range list {
			if text, ok := strings.CutPrefix(pair, name+"="); ok {
				value, found = text, true // the last one counts
			}
		}
		return value, found
	}
}

// Read reads a registry with the files that it names, relative to it, and the values of its references, and checks it as far as that is
// possible without a hub. The error has the exit code Usage and names every mistake with its place.
func (s Source) Read() (registry.Document, error) {
	text, err := s.text()
	if err != nil {
		return registry.Document{}, err
	}
	dir := "."
	if s.Name != "-" {
		dir = filepath.Dir(s.Name)
	}
	root, err := os.OpenRoot(dir) // the files are beside or below the registry
	if err != nil {
		return registry.Document{}, exit.Usagef("%v", err)
	}
	defer root.Close()
	file := func(name string) ([]byte, bool) {
		content, err := readFile(root, name)
		return content, err == nil
	}
	doc := registry.Collect(text, file, func(name string) (string, bool) {
		if path, ok := strings.CutPrefix(name, "file:"); ok {
			if !filepath.IsAbs(path) {
				path = filepath.Join(dir, path)
			}
			content, err := os.ReadFile(path)
			return strings.TrimRight(string(content), "\r\n"), err == nil
		}
		return s.Lookup(name)
	})
	_, mistakes := registry.Read(doc, nil)
	return doc, Refusal(s.title(), mistakes)
}

// title names the source in messages.
func (s Source) title() string {
	if s.Name == "-" {
		return "standard input"
	}
	return s.Name
}

func (s Source) text() ([]byte, error) {
	in := s.In
	if s.Name != "-" {
		f, err := os.Open(s.Name)
		if err != nil {
			return nil, exit.Usagef("%v", err)
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxFileBytes+1))
	switch {
	case err != nil:
		return nil, exit.Usagef("%s: %v", s.title(), err)
	case len(text) > maxFileBytes:
		return nil, exit.Usagef("%s is larger than %d bytes", s.title(), maxFileBytes)
	}
	return text, nil
}

func readFile(root *os.Root, name string) ([]byte, error) {
	f, err := root.Open(filepath.FromSlash(name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err == nil && len(content) > maxFileBytes {
		err = fmt.Errorf("%s is larger than %d bytes", name, maxFileBytes)
	}
	return content, err
}

// Refusal is the error for a registry with mistakes, one line each; nil without any.
func Refusal(title string, mistakes []registry.Mistake) error {
	if len(mistakes) == 0 {
		return nil
	}
	var b strings.Builder
	for i := range mistakes {
		if i > 0 {
			b.WriteByte('\n')
		}
		m := &mistakes[i]
		b.WriteString(title)
		if m.Line > 0 {
			fmt.Fprintf(&b, ":%d:%d", m.Line, m.Column)
		}
		if m.Path != "" {
			b.WriteString(": " + m.Path)
		}
		b.WriteString(": " + m.Detail)
	}
	return exit.Usagef("%s", b.String())
}
