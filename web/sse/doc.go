// Package sse serves server-sent events (WHATWG HTML section 9.2).
//
// A Feed wakes readers when their topic grows, Frames keeps each encoded message once however many readers are sending it,
// and a Writer sends events under write deadlines, so that a reader that does not read holds nobody up. What a stream contains
// is up to the caller.
//
// The package uses net/http only and imports nothing of the project but hub.
package sse
