package terminal

import (
	"os"
	"strings"
	"unicode"
)

// Printable makes text of others safe for a terminal: control characters, escape sequences with them, become dots.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return '·'
	}, s)
}

// OneLine is printable text that cannot break a table.
func OneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '·'
	}, s)
}

func OrDash(s string) string {
	if s == "" {
		return "-"
	}
	return OneLine(s)
}

// Is reports whether a file is a character device, as a terminal is.
func Is(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
