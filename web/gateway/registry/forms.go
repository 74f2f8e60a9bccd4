package registry

import (
	"fmt"
	"regexp"
	"strconv"
	"time"

	"quorumhub/configs/quantity"
)

// Bounds of a registry, so that no text makes the hub slow. Those of single values are at their forms.
const (
	// MaxText is how many bytes the text of a registry may have.
	MaxText = 32 << 20
	// MaxFiles is how many files a registry may name, and MaxFileBytes how large each may be.
	MaxFiles     = 1000
	MaxFileBytes = 1 << 20

	maxURIBytes = 512
	maxSegments = 16 // of a URI
	maxParts    = 8  // {name} segments of a URI
	maxTimeout  = 10 * time.Minute
	maxMaxBody  = 1 << 30
	maxDepth    = 64  // of nested values
	maxItems    = 100 // of a list
	maxServices = 20_000
	maxTopics   = 1_000
	maxNames    = 20_000 // of a mapping of names
	maxMistakes = 100
)

// forms are the forms of scalars. Their patterns are also those of the JSON Schema.
type forms struct {
	text, line, name, version, uri, target, auth, headerName, pointer, elementPath, hostPattern, topicPattern, upstreamURL, secretText *form
	duration, size, rate, date                                                                                                         *form
	format, method, truth, file, keySource                                                                                             *form
}

func newForms() *forms {
	const duration = `(?:[0-9]{1,6}d)?(?:[0-9]{1,12}(?:\.[0-9]{1,9})?(?:ns|us|µs|ms|s|m|h)){0,6}`
	f := &forms{
		text: &form{expected: "a text", maxBytes: 4096, number: true},
		line: &form{pattern: regexp.MustCompile(`^[^\x00-\x1f\x7f]+$`), expected: "one line of text", maxBytes: 4096, number: true},
		name: matching(`[A-Za-z0-9][A-Za-z0-9._-]{0,63}`, "at most 64 letters, digits, dots, dashes and underscores, beginning with a letter or digit", 64).orNumber(),
		version: matching(`[A-Za-z0-9][A-Za-z0-9._-]{0,31}`,
			"at most 32 letters, digits, dots, dashes and underscores, such as \"2\" or \"2.1\"", 32).orNumber(),
		uri:          matching(`[^\x00-\x20\x7f/\\?#%"<>]+(?:/[^\x00-\x20\x7f/\\?#%"<>]+)*`, "a relative URI such as Employee/requestAddress: segments between single slashes, without a leading slash, query or percent-encoding", maxURIBytes),
		target:       matching(`(?:topic:[^\x00-\x20\x7f]+|[A-Za-z0-9][A-Za-z0-9._-]{0,63}:[^\x00-\x20\x7f?#\\]+)`, "<upstream>:<path>, topic:<name> or hub:<operation>", 2048),
		auth:         matching(`[A-Za-z0-9][A-Za-z0-9._-]{0,63}`, "the name of a sequence or an authenticator, default, or none", 64),
		headerName:   matching("[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}", "the name of a header", 128),
		pointer:      matching(`(?:/(?:[^~\x00-\x1f]|~[01])*)+`, "a JSON pointer such as /name", 1024),
		elementPath:  matching(`/?[^\x00-\x20\x7f/]+(?:/[^\x00-\x20\x7f/]+)*`, "a path of elements such as GetAddress/Line, or a JSON pointer", 1024),
		hostPattern:  matching(`(?:\*\.)?[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*`, "a host name, or *. and a host name for all names below it", 253),
		topicPattern: matching(`[^\x00-\x1f\x7f]+`, "a topic name; a segment may be *, and the last **", 2048),
		upstreamURL:  matching(`https?://[^\x00-\x20\x7f/?#@\\]+(?:/[^\x00-\x20\x7f?#\\]*)?`, "an http(s) URL without user, query or fragment", 2048),
		secretText:   &form{expected: "a secret, as ${NAME} or ${file:NAME}", maxBytes: 65536},
		file:         matching(`[^\x00-\x1f\x7f\\]+`, "the name of a file, relative to the registry's", 512),
		keySource:    matching("header:[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}", "header:<name>", 140),
		duration:     matching(duration, "a duration such as 10s", 64),
		size:         matching(`[0-9]{1,19} ?(?:B|kB|KB|MB|GB|TB|KiB|MiB|GiB|TiB)?`, "a size such as 1MiB", 32).orNumber(),
		rate:         matching(`0|[0-9]{1,10}/`+duration, "requests per time, such as 100/1m", 64),
		date:         matching(`[0-9]{4}-[0-9]{2}-[0-9]{2}(?:T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:Z|[+-][0-9]{2}:[0-9]{2}))?`, "a date such as 2027-06-30, or a time such as 2027-06-30T12:00:00Z", 32),
		format:       oneOf(string(FormatJSON), string(FormatXML)),
		method:       oneOf("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"),
		truth:        &form{expected: "true or false", onlyTruth: true},
	}
	f.size.whole = true
	f.duration.convert = func(s string) error { _, err := quantity.ParseDuration(s); return err }
	f.size.convert = func(s string) error { _, err := quantity.ParseBytes(s); return err }
	f.rate.convert = func(s string) error { _, _, err := quantity.ParseRate(s); return err }
	f.date.convert = func(s string) error { _, err := parseDate(s); return err }
	return f
}

// integer is a number written as one.
func integer(least, most int64) *form {
	return &form{expected: fmt.Sprintf("a number from %d to %d", least, most), onlyNumber: true, min: least, max: most, maxBytes: 20,
		convert: func(s string) error {
			if n, err := strconv.ParseInt(s, 10, 64); err != nil || n < least || n > most {
				return fmt.Errorf("%q is out of range", s)
			}
			return nil
		}}
}

// parseDate reads a date, which is its beginning in UTC, or a time (RFC 3339).
func parseDate(s string) (time.Time, error) {
	if t, err := time.Parse(time.DateOnly, s); err == nil {
		return t, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is not a date", s)
	}
	return t.UTC(), nil
}
