package gateway

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"quorumhub/cli/exit"
	"quorumhub/web/gateway/openapi"
	"quorumhub/web/gateway/registry"
)

// Import reads an OpenAPI document ("-": from in) and writes the registry made of it to the file out, and the JSON Schemas that it names
// beside it; an empty out means to w, without schemas. It returns what a person should know about it. Existing files are kept: they are
// errors.
func Import(path, out, upstream, address string, in io.Reader, w io.Writer) (notes []string, _ error) {
	name := cmp.Or(path, "-")
	document, err := readDocument(name, in)
	if err != nil {
		return nil, err
	}
	made, err := openapi.Import(document, openapi.Options{Upstream: upstream, URL: address, Today: time.Now()})
	if err != nil {
		return nil, exit.Usagef("%s: %v", name, err)
	}
	if _, mistakes := registry.Read(registry.Document{Text: made.Text, Files: made.Files}, nil); len(mistakes) > 0 {
		for _, m := range mistakes {
			made.Notes = append(made.Notes, fmt.Sprintf("to mend in the registry: %s", m))
		}
	}
	if out == "" {
		if len(made.Files) > 0 {
			made.Notes = append(made.Notes, fmt.Sprintf("%s not written; give a file with --out", count(len(made.Files), "JSON Schema is", "JSON Schemas are")))
		}
		_, err := w.Write(made.Text)
		return made.Notes, err
	}
	return made.Notes, writeAll(out, made)
}

func readDocument(path string, in io.Reader) ([]byte, error) {
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, exit.With(exit.Usage, err)
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, openapi.MaxDocument+1))
	if err != nil {
		return nil, exit.Usagef("%s: %v", path, err)
	}
	return text, nil
}

// writeAll writes the registry last, so that it never names a schema that is not there.
func writeAll(out string, made *openapi.Imported) error {
	dir := filepath.Dir(out)
	for _, name := range slices.Sorted(maps.Keys(made.Files)) {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // schemas are no secrets
			return fmt.Errorf("write the schemas: %w", err)
		}
		if err := writeNew(path, made.Files[name]); err != nil {
			return err
		}
	}
	return writeNew(out, made.Text)
}

// writeNew writes a file that must not exist.
func writeNew(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // registries hold no secrets
	if err != nil {
		if os.IsExist(err) {
			return exit.Usagef("%s exists, expected a new file", path)
		}
		return fmt.Errorf("write the registry: %w", err)
	}
	_, err = f.Write(content)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
