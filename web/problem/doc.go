// Package problem turns errors into HTTP error responses: one line of plain text, or problem details (RFC 9457) in JSON or
// XML for clients that prefer them.
//
// It uses net/http only and imports hub for hub.Error, so that anything that serves HTTP in front of a hub can report errors
// the same way.
package problem
