package webhook

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"quorumhub/web/problem"
)

// Schemes of Config.
const (
	SchemeGitHub           = "github"            // X-Hub-Signature-256 over the body
	SchemeStripe           = "stripe"            // Stripe-Signature over time and body
	SchemeSlack            = "slack"             // X-Slack-Signature over time and body
	SchemeStandardWebhooks = "standard-webhooks" // webhook-signature over id, time and body
	SchemeHMAC             = "hmac"              // as the rest of Config says
)

// Verifier checks the webhooks of one sender. Safe for concurrent use.
type Verifier interface {
	// Verify checks a request that arrived at now. body is the body as it was sent, byte for byte. Errors are a
	// *RefusalError, which is for the log: the client gets RefusalError.Problem.
	Verify(h http.Header, body []byte, now time.Time) (Delivery, error)
}

// Delivery is what a verified request says about itself.
type Delivery struct {
	// ID is the sender's name for the delivery, the same when the sender tries again; empty: the sender gives none. With
	// GitHub, and with hmac unless the signature covers it, whoever resends a request can change it: see Claim.
	ID string
	// SentAt is the time that the signature covers; zero: it covers none.
	SentAt time.Time
	// Event is the kind of event; empty: unknown. With GitHub, and always with hmac, the signature does not cover it.
	Event string
	// Claim names the delivery by what the signature covers: by the ID if it does, or else by a hash of the signed bytes.
	// Claimed once per verifier, it keeps copies of a request out, whatever was changed around the signature. A sender
	// that tries again sends the same Claim or, with ID empty, a new time and so a new Claim.
	Claim string
	// ClaimUntil is when a copy would be refused for its age, so that the claim may be forgotten; zero: never.
	ClaimUntil time.Time
}

// RefusalError says why a request was refused. It shows neither secrets nor the signature that was expected.
type RefusalError struct{ Why string }

func (e *RefusalError) Error() string { return e.Why }

// Problem is all that the client learns.
func (e *RefusalError) Problem() *problem.Details {
	return &problem.Details{Status: http.StatusUnauthorized, Code: "unauthenticated", Detail: "signature"}
}

func refused(format string, args ...any) error {
	return &RefusalError{fmt.Sprintf(format, args...)}
}

// once returns the value of a header that must be there exactly once. What is refused of signatures is not quoted in the log: it
// may be as good as a right one.
func once(h http.Header, name string) (string, error) {
	switch values := h[http.CanonicalHeaderKey(name)]; {
	case len(values) == 0 || len(values) == 1 && values[0] == "":
		return "", refused("%s is missing", name)
	case len(values) > 1:
		return "", refused("%s is there %d times", name, len(values))
	case len(values[0]) > maxHeader:
		return "", refused("%s has %d bytes; expected at most %d", name, len(values[0]), maxHeader)
	case strings.ContainsFunc(values[0], func(c rune) bool { return c < ' ' || c == 0x7f }):
		return "", refused("%s contains a control character", name)
	default:
		return values[0], nil
	}
}

// maxHeader is the length in bytes of the longest header: one with as many signatures as are looked at.
const maxHeader = 4 << 10

// maxID is the length in bytes of the longest id and event.
const maxID = 256

// plain reports whether an id or event is short and consists of visible ASCII, without the characters of not.
func plain(s, not string) bool {
	return s != "" && len(s) <= maxID && !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' || strings.ContainsRune(not, c) })
}

// seconds reads a time in Unix seconds, in the one way to write it.
func seconds(s string) (time.Time, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > 1<<40 || strconv.FormatInt(n, 10) != s {
		return time.Time{}, refused("the timestamp %s is not in seconds since 1970", problem.Quote(s))
	}
	return time.Unix(n, 0), nil
}

// fresh refuses times too far from now, in either direction.
func fresh(sent, now time.Time, tolerance time.Duration) error {
	switch age := now.Sub(sent); {
	case age > tolerance:
		return refused("the timestamp is %v old, more than %v", age.Round(time.Second), tolerance)
	case age < -tolerance:
		return refused("the timestamp is %v ahead of this node's clock, more than %v", (-age).Round(time.Second), tolerance)
	}
	return nil
}

// hashOf is the Claim of a delivery whose signature covers no id.
func hashOf(parts ...[]byte) string {
	h := sha256.New()
	for _, p := range parts {
		h.Write(p)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

// claimOf is the Claim of a delivery whose signature covers its id.
func claimOf(id string) string { return "id:" + id }

// fields returns texts at the top of a JSON document that has been verified; empty where there is none that is plain.
func fields(body []byte, names ...string) []string {
	var doc map[string]json.RawMessage
	out := make([]string, len(names))
	if json.Unmarshal(body, &doc) != nil {
		return out // no JSON object: nothing to read
	}
	for i, name := range names {
		var text string
		if json.Unmarshal(doc[name], &text) == nil && plain(text, "") {
			out[i] = text
		}
	}
	return out
}
