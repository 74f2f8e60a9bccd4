package hub

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// json returns the message as JSON. Its bytes are part of the fold: they are those that encoding/json wrote when
// the format was fixed, whatever it writes today (testdata/golden/lifecycle).
func (e *Lifecycle) json() []byte {
	o := jsonObject{b: []byte{'{'}}
	o.text("id", e.ID)
	o.text("type", e.Type)
	o.text("time", e.Time)
	if e.Subscription != "" {
		o.text("subscription", e.Subscription)
	}
	session := strings.HasPrefix(e.Type, "session.")
	if e.Topic != "" || !session {
		o.text("topic", e.Topic)
	}
	if e.Callback != "" || !strings.HasPrefix(e.Type, "topic.") && !session {
		o.text("callback", e.Callback)
	}
	o.textIfAny("node", e.Node)
	if e.Subscription != "" {
		o.number("cursor", e.Cursor)
		o.text("lease_expires_at", e.LeaseEndsAt)
	}
	o.textIfAny("failing_since", e.FailingSince)
	o.numberIfAny("failures", e.Failures)
	o.textIfAny("dead_letter", e.DeadLetter)
	o.textIfAny("message_id", e.MessageID)
	o.numberIfAny("attempts", uint64(e.Attempts))
	if e.Status != 0 {
		o.key("status")
		o.b = strconv.AppendInt(o.b, int64(e.Status), 10)
	}
	o.numberIfAny("gap_from", e.GapFrom)
	o.numberIfAny("gap_through", e.GapThrough)
	o.numberIfAny("gap_messages", e.GapMessages)
	o.textIfAny("request", e.Request)
	o.textIfAny("mode", e.Mode)
	o.textIfAny("successor", e.Successor)
	o.textIfAny("deprecated_at", e.DeprecatedAt)
	o.textIfAny("sunset_at", e.SunsetAt)
	o.textIfAny("key_ends_at", e.KeyEndsAt)
	o.textIfAny("session", e.Session)
	o.numberIfAny("sessions", e.Sessions)
	o.textIfAny("reason", e.Reason)
	o.textIfAny("owner", e.Owner)
	return append(o.b, '}')
}

// jsonObject writes the members of one JSON object.
type jsonObject struct {
	b    []byte
	more bool
}

func (o *jsonObject) key(name string) {
	if o.more {
		o.b = append(o.b, ',')
	}
	o.more = true
	o.b = append(append(append(o.b, '"'), name...), '"', ':')
}

func (o *jsonObject) text(name, value string) {
	o.key(name)
	o.b = appendJSONString(o.b, value)
}

func (o *jsonObject) textIfAny(name, value string) {
	if value != "" {
		o.text(name, value)
	}
}

func (o *jsonObject) number(name string, value uint64) {
	o.key(name)
	o.b = strconv.AppendUint(o.b, value, 10)
}

func (o *jsonObject) numberIfAny(name string, value uint64) {
	if value != 0 {
		o.number(name, value)
	}
}

// appendJSONString appends a JSON string. Besides what JSON requires (RFC 8259 section 7) it escapes what HTML and
// JavaScript give a meaning to, and replaces what is not UTF-8.
func appendJSONString(b []byte, s string) []byte {
	b = append(b, '"')
	for i := 0; i < len(s); {
		c, n := utf8.DecodeRuneInString(s[i:])
		if short := shortEscape(c); short != 0 {
			b = append(b, '\\', short)
		} else if escapedJSON(c, n) {
			b = appendEscape(b, c)
		} else {
			b = append(b, s[i:i+n]...)
		}
		i += n
	}
	return append(b, '"')
}

// shortEscape returns the letter after the backslash that stands for c; 0: there is none.
func shortEscape(c rune) byte {
	switch c {
	case '"', '\\':
		return byte(c)
	case '\b':
		return 'b'
	case '\f':
		return 'f'
	case '\n':
		return 'n'
	case '\r':
		return 'r'
	case '\t':
		return 't'
	}
	return 0
}

// escapedJSON reports whether c, which takes n bytes, is written by its number.
func escapedJSON(c rune, n int) bool {
	switch c {
	case '<', '>', '&', '\u2028', '\u2029':
		return true
	case utf8.RuneError:
		return n == 1 // not UTF-8; U+FFFD itself has three bytes
	}
	return c < ' '
}

func appendEscape(b []byte, c rune) []byte {
	const digits = "0123456789abcdef"
	return append(b, '\\', 'u', digits[c>>12&15], digits[c>>8&15], digits[c>>4&15], digits[c&15])
}
