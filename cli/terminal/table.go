package terminal

import (
	"io"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// Colours reports whether text for w may be coloured: w is a terminal that can, and NO_COLOR is not set (https://no-color.org). env holds
// NAME=value lines.
func Colours(w io.Writer, env []string) bool {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return false
	}
	for _, line := range env {
		name, value, _ := strings.Cut(line, "=")
		if name == "NO_COLOR" && value != "" || name == "TERM" && value == "dumb" {
			return false
		}
	}
	return true
}

// Table aligns columns. Its first row is the header.
type Table struct {
	// Coloured makes the header bold and colours what its columns STATE and OUTCOME say.
	Coloured bool
	rows     [][]string
}

// Row adds a row, whose cells are separated by tabs and contain nothing unprintable.
func (t *Table) Row(cells string) { t.rows = append(t.rows, strings.Split(cells, "\t")) }

// Write prints the table.
func (t *Table) Write(w io.Writer) error {
	var width []int
	for _, row := range t.rows {
		for i, cell := range row {
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for n, row := range t.rows {
		for i, cell := range row {
			b.WriteString(t.painted(n, i, cell))
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell)+2))
			}
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (t *Table) painted(row, column int, cell string) string {
	if !t.Coloured || cell == "" {
		return cell
	}
	code := ""
	switch {
	case row == 0:
		code = "1"
	case column >= len(t.rows[0]) || !slices.Contains([]string{"STATE", "OUTCOME"}, t.rows[0][column]):
	default:
		switch cell {
		case "active", "healthy", "delivered":
			code = "32"
		case "down", "failed", "refused", "dead letter":
			code = "31"
		default:
			code = "33"
		}
	}
	if code == "" {
		return cell
	}
	return "\x1b[" + code + "m" + cell + "\x1b[0m"
}
