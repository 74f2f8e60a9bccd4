package egress

import (
	"io"
	"net/http"
)

// UserAgent is the User-Agent of all outbound requests: quorumhub/1.2.3 (+https://hub.example/).
func UserAgent(version, publicURL string) string {
	if version == "" {
		version = "dev"
	}
	if publicURL == "" {
		return "quorumhub/" + version
	}
	return "quorumhub/" + version + " (+" + publicURL + ")"
}

// Transient tells whether a status says "not now" rather than "no".
func Transient(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return status >= 500
}

// maxDrain is how much of an answer nobody needs is read, to be able to use the connection again.
const maxDrain = 4 << 10

func Drain(body io.Reader) {
	if body == http.NoBody {
		return
	}
	_, _ = io.CopyN(io.Discard, body, maxDrain) // best effort: Close drops the connection when there is more
}
