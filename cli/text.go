package cli

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"quorumhub/configs"
)

// printable makes text of others safe for a terminal: control characters, escape sequences with them, become dots.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return '·'
	}, s)
}

// flagDuration is a duration on the command line, in the syntax of the configuration (10d too).
type flagDuration time.Duration

// UnmarshalText reads the flag.
func (d *flagDuration) UnmarshalText(text []byte) error {
	v, err := configs.ParseDuration(string(text))
	if err != nil || v < 0 {
		return fmt.Errorf("got %q, expected a duration such as 250ms, 10s, 1h30m or 10d", text)
	}
	*d = flagDuration(v)
	return nil
}

// oneLine is printable text that cannot break a table.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '·'
	}, s)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return oneLine(s)
}
