package web

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"quorumhub/hub"
)

// entityTag returns a strong validator. A message never changes, and its time distinguishes it from a message with the same ID in
// a cluster that was set up again from scratch.
func entityTag(m *hub.Message) string {
	return "\"" + m.ID() + "-" + strconv.FormatInt(m.Time, 36) + "\""
}

// unchanged evaluates the preconditions of a GET or HEAD in the order of RFC 9110 section 13.2.2.
func (s *Server) unchanged(h http.Header, etag string, m *hub.Message) bool {
	if tags, ok := h["If-None-Match"]; ok {
		return matchesTag(tags, etag)
	}
	since, err := http.ParseTime(h.Get("If-Modified-Since"))
	if err != nil {
		return false
	}
	modified := time.Unix(0, m.Time).Truncate(time.Second)
	return !modified.After(since) && s.aloneInSecond(m)
}

// aloneInSecond reports whether the message before m is from another second. HTTP dates count whole seconds: after two messages
// in one second, a client with the first would be told that it has the second.
func (s *Server) aloneInSecond(m *hub.Message) bool {
	if m.Offset == 1 {
		return true
	}
	before, err := s.Messages.Read(m.Topic, m.Offset-1, 1, 1)
	return err == nil && len(before) == 1 && before[0].Time/int64(time.Second) != m.Time/int64(time.Second)
}

// matchesTag compares weakly, as If-None-Match requires (RFC 9110 section 13.1.2).
func matchesTag(lines []string, etag string) bool {
	for _, line := range lines {
		for {
			line = strings.TrimLeft(line, " \t,")
			if line == "" {
				break
			}
			if line[0] == '*' {
				return true
			}
			tag := strings.TrimPrefix(line, "W/")
			if tag == "" || tag[0] != '"' {
				break // not a list of entity tags, so ignore the rest
			}
			end := strings.IndexByte(tag[1:], '"')
			if end < 0 {
				break
			}
			if tag[:end+2] == etag {
				return true
			}
			line = tag[end+2:]
		}
	}
	return false
}
