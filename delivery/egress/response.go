package egress

import (
	"io"
	"net/http"
)

// Transient reports whether a status means "not now" rather than "no".
func Transient(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return status >= 500
}

// maxDrain is how many bytes of an unneeded body are read so that the connection can be reused.
const maxDrain = 4 << 10

func Drain(body io.Reader) {
	if body == http.NoBody {
		return
	}
	_, _ = io.CopyN(io.Discard, body, maxDrain) // best effort: Close drops the connection if there is more
}
