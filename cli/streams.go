package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync/atomic"
	"syscall"

	"quorumhub/cli/terminal"
)

// Streams holds a command's input, output and environment.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	// Env holds NAME=value lines.
	Env []string
	// Hangups delivers SIGHUP, on which a hub reads its configuration and files again and any other command ends, unless Nohup is set:
	// the signal was ignored when the program began. nil: there are none.
	Hangups <-chan os.Signal
	Nohup   bool
}

// output is a command's standard output. It remembers the first failure to write to it and reports that once, because most commands
// print in passing. Safe for concurrent use if the writer below is.
type output struct {
	io.Writer
	failure atomic.Pointer[error]
	failed  func()
}

func (o *output) Write(p []byte) (int, error) {
	n, err := o.Writer.Write(p)
	if err != nil && o.failure.CompareAndSwap(nil, &err) {
		o.failed()
	}
	return n, err
}

// err returns the first failure, or nil.
func (o *output) err() error {
	if p := o.failure.Load(); p != nil {
		return *p
	}
	return nil
}

// table returns an empty table for standard output, coloured if that is a terminal and nobody minds.
func (s *Streams) table() *terminal.Table {
	out := s.Out
	if o, ok := out.(*output); ok {
		out = o.Writer
	}
	return &terminal.Table{Coloured: terminal.Colours(out, s.Env)}
}

// atFile describes a failure to write a file by the name it was to have; a file that is replaced as a whole is written under another
// name first.
func atFile(flag, name string, err error) error {
	var at *fs.PathError
	var link *os.LinkError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &at):
		err = at.Err
	case errors.As(err, &link):
		err = link.Err
	}
	return fmt.Errorf("%s: %s: %w", flag, name, err)
}

// nobodyReads reports whether an error means that the reader of a pipe is gone.
func nobodyReads(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe)
}

// writeJSON prints one value as indented JSON.
func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
