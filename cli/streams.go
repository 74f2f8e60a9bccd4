package cli

import (
	"encoding/json"
	"io"
)

// Streams is what a command sees of the process it runs in.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	// Env holds NAME=value lines.
	Env []string
}

// writeJSON prints one indented value.
func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
