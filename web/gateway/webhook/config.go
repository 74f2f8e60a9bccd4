package webhook

import (
	"cmp"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
)

// Config describes the webhooks of one sender.
type Config struct {
	Scheme string
	// Secrets are what the sender signs with, as it shows them; several during a rotation, in any order. Stripe's begin with
	// whsec_, those of Standard Webhooks with whsec_ (a shared key) or whpk_ (the sender's Ed25519 key), in base64.
	Secrets []string
	// Tolerance is how far the time that was signed may be from this node's clock, in both directions; 0: 5 min. Only for
	// senders that sign a time, which GitHub does not.
	Tolerance time.Duration

	// The rest is for hmac only.

	Header    string // with the signature
	Algorithm string // sha256 (the default), sha384 or sha512
	Encoding  string // hex (the default) or base64
	Prefix    string // of the signature, such as sha256=
	// TimestampHeader has the time that is signed; empty: none is.
	TimestampHeader string
	// TimestampFormat is unix (seconds, the default), unix_ms or rfc3339.
	TimestampFormat string
	// IDHeader has the sender's id of the delivery; empty: there is none.
	IDHeader string
	// EventHeader has the kind of event; empty: there is none.
	EventHeader string
	// Signed is the text that is signed: {body} exactly once, {timestamp} if there is TimestampHeader, maybe {id}, and any
	// text between them. Default: {body}, or {timestamp}.{body}.
	Signed string
}

const (
	defaultTolerance = 5 * time.Minute
	maxTolerance     = 24 * time.Hour
	minSecret        = 16 // bytes
	maxSecrets       = 8
)

// New returns the verifier of a sender. Errors are one line, name the setting and what is expected, and show no secret.
func New(c Config) (Verifier, error) {
	switch {
	case len(c.Secrets) == 0:
		return nil, errors.New("secrets is empty; expected what the sender signs with")
	case len(c.Secrets) > maxSecrets:
		return nil, fmt.Errorf("secrets has %d entries; expected at most %d", len(c.Secrets), maxSecrets)
	case c.Tolerance < 0 || c.Tolerance > maxTolerance:
		return nil, fmt.Errorf("tolerance is %v; expected at most %v", c.Tolerance, maxTolerance)
	}
	for i, s := range c.Secrets {
		if strings.TrimSpace(s) != s {
			return nil, fmt.Errorf("secrets[%d] begins or ends with a space or a line break; expected the secret alone", i)
		}
		if len(s) < minSecret {
			return nil, fmt.Errorf("secrets[%d] has %d bytes; expected at least %d", i, len(s), minSecret)
		}
	}
	if c.Scheme != SchemeHMAC {
		if err := c.onlyHMAC(); err != nil {
			return nil, err
		}
	}
	tolerance := cmp.Or(c.Tolerance, defaultTolerance)
	switch c.Scheme {
	case SchemeGitHub:
		if c.Tolerance != 0 {
			return nil, errors.New("tolerance has no effect: github signs no time; expected it to be absent")
		}
		return github{raw(c.Secrets)}, nil
	case SchemeStripe:
		for i, s := range c.Secrets {
			if !strings.HasPrefix(s, "whsec_") {
				return nil, fmt.Errorf("secrets[%d] is no signing secret of stripe; expected one that begins with whsec_", i)
			}
		}
		return stripe{raw(c.Secrets), tolerance}, nil
	case SchemeSlack:
		return slack{raw(c.Secrets), tolerance}, nil
	case SchemeStandardWebhooks:
		return newStandard(c.Secrets, tolerance)
	case SchemeHMAC:
		return newGeneric(c)
	}
	return nil, fmt.Errorf("scheme is %q; expected %s, %s, %s, %s or %s", c.Scheme, SchemeGitHub, SchemeStripe, SchemeSlack, SchemeStandardWebhooks, SchemeHMAC)
}

// onlyHMAC refuses settings that the other schemes do not look at.
func (c *Config) onlyHMAC() error {
	for _, s := range []struct{ name, value string }{{"header", c.Header}, {"algorithm", c.Algorithm}, {"encoding", c.Encoding}, {"prefix", c.Prefix},
		{"timestamp_header", c.TimestampHeader}, {"timestamp_format", c.TimestampFormat}, {"id_header", c.IDHeader}, {"event_header", c.EventHeader}, {"signed", c.Signed}} {
		if s.value != "" {
			return fmt.Errorf("%s is set, but %s says itself how it signs; expected it with scheme hmac only", s.name, cmp.Or(c.Scheme, "the scheme"))
		}
	}
	return nil
}

// raw returns secrets that are keys as they are.
func raw(secrets []string) (keys [][]byte) {
	for _, s := range secrets {
		keys = append(keys, []byte(s))
	}
	return keys
}

// newStandard decodes the keys of Standard Webhooks.
func newStandard(secrets []string, tolerance time.Duration) (Verifier, error) {
	v := standard{tolerance: tolerance}
	for i, s := range secrets {
		text, public := strings.CutPrefix(s, "whpk_")
		text = strings.TrimPrefix(text, "whsec_")
		key, err := base64.StdEncoding.DecodeString(text)
		switch {
		case err != nil:
			return nil, fmt.Errorf("secrets[%d] is not in base64; expected whsec_ or whpk_ and the key in base64", i)
		case public && len(key) != ed25519.PublicKeySize:
			return nil, fmt.Errorf("secrets[%d] has %d bytes after whpk_; expected the %d of an Ed25519 key", i, len(key), ed25519.PublicKeySize)
		case public:
			v.public = append(v.public, key)
		case len(key) < minSecret:
			return nil, fmt.Errorf("secrets[%d] has %d bytes in base64; expected at least %d", i, len(key), minSecret)
		default:
			v.shared = append(v.shared, key)
		}
	}
	return v, nil
}

// newGeneric reads the settings of hmac.
func newGeneric(c Config) (Verifier, error) {
	v := &generic{keys: raw(c.Secrets), header: c.Header, prefix: c.Prefix, timestamp: c.TimestampHeader, format: cmp.Or(c.TimestampFormat, "unix"),
		id: c.IDHeader, event: c.EventHeader, encoding: cmp.Or(c.Encoding, "hex"), tolerance: cmp.Or(c.Tolerance, defaultTolerance)}
	for _, s := range []struct{ name, value string }{{"header", c.Header}, {"timestamp_header", c.TimestampHeader}, {"id_header", c.IDHeader}, {"event_header", c.EventHeader}} {
		if (s.value != "" || s.name == "header") && !httpguts.ValidHeaderFieldName(s.value) {
			return nil, fmt.Errorf("%s is %q; expected the name of a header", s.name, s.value)
		}
	}
	switch algorithm := cmp.Or(c.Algorithm, "sha256"); algorithm {
	case "sha256":
		v.algorithm, v.size = sha256.New, sha256.Size
	case "sha384":
		v.algorithm, v.size = sha512.New384, sha512.Size384
	case "sha512":
		v.algorithm, v.size = sha512.New, sha512.Size
	default:
		return nil, fmt.Errorf("algorithm is %q; expected sha256, sha384 or sha512", c.Algorithm)
	}
	switch {
	case v.encoding != "hex" && v.encoding != "base64":
		return nil, fmt.Errorf("encoding is %q; expected hex or base64", c.Encoding)
	case v.format != "unix" && v.format != "unix_ms" && v.format != "rfc3339":
		return nil, fmt.Errorf("timestamp_format is %q; expected unix, unix_ms or rfc3339", c.TimestampFormat)
	case c.TimestampHeader == "" && c.TimestampFormat != "":
		return nil, errors.New("timestamp_format has no effect without timestamp_header; expected both or neither")
	case c.TimestampHeader == "" && c.Tolerance != 0:
		return nil, errors.New("tolerance has no effect without timestamp_header; expected both or neither")
	}
	var err error
	v.signed, err = c.template()
	return v, err
}

// template splits Signed into its placeholders and the text between them.
func (c *Config) template() (parts []string, err error) {
	text := c.Signed
	if text == "" {
		if text = "{body}"; c.TimestampHeader != "" {
			text = "{timestamp}.{body}"
		}
	}
	for rest := text; rest != ""; {
		open := strings.IndexByte(rest, '{')
		if open < 0 {
			parts = append(parts, rest)
			break
		}
		if open > 0 {
			parts = append(parts, rest[:open])
		}
		end := strings.IndexByte(rest, '}')
		name := rest[open : max(end, open)+1]
		if name != "{body}" && name != "{timestamp}" && name != "{id}" {
			return nil, fmt.Errorf("signed is %q; expected text with {body}, {timestamp} and {id} as the only names in braces", c.Signed)
		}
		if slices.Contains(parts, name) {
			return nil, fmt.Errorf("signed is %q, which has %s twice; expected each name once", c.Signed, name)
		}
		parts = append(parts, name)
		rest = rest[end+1:]
	}
	at := func(name string) int { return slices.Index(parts, name) }
	switch id := at("{id}"); {
	case at("{body}") < 0:
		return nil, fmt.Errorf("signed is %q, which does not cover the body; expected {body} in it", c.Signed)
	case c.TimestampHeader != "" && at("{timestamp}") < 0:
		return nil, fmt.Errorf("signed is %q, which does not cover the time in %s; expected {timestamp} in it", c.Signed, c.TimestampHeader)
	case c.TimestampHeader == "" && at("{timestamp}") >= 0:
		return nil, fmt.Errorf("signed is %q, but no timestamp_header says where the time is", c.Signed)
	case c.IDHeader == "" && id >= 0:
		return nil, fmt.Errorf("signed is %q, but no id_header says where the id is", c.Signed)
	case id >= 0 && id+1 < len(parts) && parts[id+1][0] == '{' || at("{body}") < len(parts)-1 && parts[at("{body}")+1][0] == '{':
		// "1" + "23" is "12" + "3": a request could be taken apart differently and its signature would still hold.
		return nil, fmt.Errorf("signed is %q, where %s is not set apart from what follows; expected text between them", c.Signed, "{id} or {body}")
	}
	return parts, nil
}
