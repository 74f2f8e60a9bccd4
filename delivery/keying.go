package delivery

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"

	"quorumhub/hub"
)

// keying extracts the key by which messages wait for each other (hub.delivery_key). Messages without one share the
// empty key.
type keying struct {
	text   string
	header string
	path   []string
}

func newKeying(text string) keying {
	k := keying{text: text}
	if name, ok := hub.KeyHeader(text); ok {
		k.header = name
	} else if pointer, ok := hub.KeyPointer(text); ok && pointer != "" {
		for _, token := range strings.Split(pointer[1:], "/") {
			k.path = append(k.path, strings.ReplaceAll(strings.ReplaceAll(token, "~1", "/"), "~0", "~"))
		}
	}
	return k
}

// of returns a hash of a message's key. Two keys with the same hash wait for each other, which does no harm.
func (k *keying) of(m *hub.Message) uint64 {
	if k.header != "" {
		return xxhash.Sum64String(m.Header(k.header))
	}
	return xxhash.Sum64(pointed(m.Body, k.path))
}

// pointed returns the value that a JSON pointer names, as written in the document, with strings unquoted. It returns
// nil if the body is not JSON or has no such value. It reads no further than the end of the value.
func pointed(body []byte, path []string) []byte {
	dec := json.NewDecoder(bytes.NewReader(body))
	for _, token := range path {
		open, err := dec.Token()
		if err != nil || !descend(dec, open, token) {
			return nil
		}
	}
	var value json.RawMessage
	if dec.Decode(&value) != nil {
		return nil
	}
	var text string
	if len(value) > 0 && value[0] == '"' && json.Unmarshal(value, &text) == nil {
		return []byte(text)
	}
	return value
}

// descend enters a member of the object, or an element of the array, that was just opened.
func descend(dec *json.Decoder, open json.Token, token string) bool {
	switch open {
	case json.Delim('{'):
		for dec.More() {
			name, err := dec.Token()
			if err != nil {
				return false
			}
			if name == token {
				return true
			}
			if !skipValue(dec) {
				return false
			}
		}
	case json.Delim('['):
		n, err := strconv.Atoi(token)
		if err != nil || n < 0 || token != strconv.Itoa(n) {
			return false
		}
		for ; dec.More(); n-- {
			if n == 0 {
				return true
			}
			if !skipValue(dec) {
				return false
			}
		}
	}
	return false
}

func skipValue(dec *json.Decoder) bool {
	var v json.RawMessage
	return dec.Decode(&v) == nil
}
