// Package gateway holds the commands about the gateway's registry: reading it with all that it refers to, checking and showing it.
package gateway

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"quorumhub/cli/exit"
	"quorumhub/web/gateway/registry"
)

// maxSecretBytes bounds the file of a ${file:NAME}.
const maxSecretBytes = 64 << 10

// Load reads a registry ("-": from in), the files beside it that it names, and the values of its references: ${NAME} from env, which holds
// NAME=value lines, and ${file:NAME} from files, relative to the registry's directory. What is missing is left out, for registry.Read to
// name; so only the registry itself can fail to be read.
func Load(path string, in io.Reader, env []string) (registry.Document, error) {
	text, dir, err := readText(path, in)
	if err != nil {
		return registry.Document{}, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return registry.Document{}, exit.Usagef("%s: %v", path, err)
	}
	defer func() { _ = root.Close() }() // only read
	beside := func(name string) ([]byte, bool) {
		f, err := root.Open(filepath.FromSlash(name))
		if err != nil {
			return nil, false
		}
		defer f.Close()
		content, err := io.ReadAll(io.LimitReader(f, registry.MaxFileBytes+1))
		return content, err == nil
	}
	return registry.Collect(text, beside, func(name string) (string, bool) { return secret(name, dir, env) }), nil
}

func readText(path string, in io.Reader) (text []byte, dir string, _ error) {
	dir = "."
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, "", exit.With(exit.Usage, err)
		}
		defer f.Close()
		in, dir = f, filepath.Dir(path)
	}
	text, err := io.ReadAll(io.LimitReader(in, registry.MaxText+1))
	if err != nil {
		return nil, "", exit.Usagef("%s: %v", path, err)
	}
	return text, dir, nil
}

// secret returns the value of a reference.
func secret(name, dir string, env []string) (string, bool) {
	file, is := strings.CutPrefix(name, "file:")
	if !is {
		for _, line := range env {
			if given, value, _ := strings.Cut(line, "="); given == name {
				return value, true
			}
		}
		return "", false
	}
	if !filepath.IsAbs(file) {
		file = filepath.Join(dir, file)
	}
	f, err := os.Open(file)
	if err != nil {
		return "", false
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxSecretBytes+1))
	if err != nil || len(content) > maxSecretBytes {
		return "", false
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(content), "\n"), "\r"), true
}

// Invalid makes an error of mistakes, one in a line, with the exit code of an invalid configuration.
func Invalid(path string, mistakes []registry.Mistake) error {
	if path == "-" {
		path = "standard input"
	}
	errs := make([]error, len(mistakes))
	for i, m := range mistakes {
		at := path
		if m.Line > 0 {
			at = fmt.Sprintf("%s:%d:%d", path, m.Line, m.Column)
		}
		if m.Path != "" {
			at += ": " + m.Path
		}
		errs[i] = fmt.Errorf("%s: %s", at, m.Detail)
	}
	return exit.With(exit.Usage, errors.Join(errs...))
}

// unset returns the references of a document that have no value here.
func unset(doc registry.Document) []string {
	references, err := registry.References(doc.Text)
	if err != nil {
		return nil
	}
	var out []string
	for _, name := range references {
		if _, ok := doc.Secrets[name]; !ok {
			out = append(out, "${"+name+"}")
		}
	}
	return out
}
