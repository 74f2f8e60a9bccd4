// Package terminal makes text from elsewhere safe to print. It imports nothing of the project.
package terminal

import (
	"os"
	"strings"
	"unicode"
)

// Printable replaces control characters, and so escape sequences, with dots. Newlines and tabs stay.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return '·'
	}, s)
}

// OneLine is Printable for table cells and single lines: it replaces newlines and tabs, too.
func OneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '·'
	}, s)
}

// OrDash is OneLine with a dash for an empty string.
func OrDash(s string) string {
	if s == "" {
		return "-"
	}
	return OneLine(s)
}

// Is reports whether a file is a character device, as terminals are.
func Is(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
