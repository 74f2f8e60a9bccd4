package convert

import (
	"fmt"
)

// Reason is what kind of fault a document has.
type Reason int

// What is wrong with a document.
const (
	// Malformed: it is no XML, or no JSON.
	Malformed Reason = iota + 1
	// Refused: it is well-formed, but holds what is never accepted (a DTD, an unknown encoding) or what the other format cannot
	// express.
	Refused
	// Limit: it is nested too deep, or has too many elements or attributes, or its conversion would be too large.
	Limit
	// TooLarge: it has more bytes than Limits.Bytes.
	TooLarge
)

// Error says what is wrong with a document, and where. Its text is one line that may be shown to whoever sent the document.
type Error struct {
	Reason Reason
	// Line and Column are a position in XML, counted from 1, the column in bytes of UTF-8; 0 in JSON.
	Line, Column int
	// Pointer is a position in JSON (RFC 6901); empty in XML, and for a JSON document as a whole.
	Pointer string
	Detail  string
}

func (e *Error) Error() string {
	switch {
	case e.Line > 0:
		return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Detail)
	case e.Pointer != "":
		return shorten(e.Pointer) + ": " + e.Detail
	}
	return e.Detail
}

// OptionsError says which option is wrong and what is expected of it.
type OptionsError struct {
	Option string // such as arrays[2]
	Detail string
}

func (e *OptionsError) Error() string { return e.Option + ": " + e.Detail }

// shorten cuts text from a document down to what fits into a message.
func shorten(s string) string {
	const most = 120
	if len(s) <= most {
		return s
	}
	return s[:most-3] + "..."
}
