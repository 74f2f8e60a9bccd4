package cli

import (
	"encoding/json"
	"io"
)

// Streams holds a command's input, output and environment.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	// Env holds NAME=value lines.
	Env []string
}

// writeJSON prints one value as indented JSON.
func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
