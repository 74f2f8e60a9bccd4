// Package ticket makes and reads what applications and programs hold instead of a session's cookie: codes, access tokens and refresh
// tokens (RFC 6749). All are sealed with the hub's keyring, so that any node reads what any other made and nobody else can look inside,
// and hang on a grant in the replicated state, which ends with the session and lets each code and refresh token be used once.
package ticket

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"quorumhub/hub"
)

// Kind is a kind of ticket. One kind is never taken for another.
type Kind string

// Kinds.
const (
	Code    Kind = "qhc_" // what an application gets in the browser, and changes for the others
	Access  Kind = "qht_"
	Refresh Kind = "qhr_"
)

// MaxBytes is the longest ticket. It is sent in headers and, a Code, in URLs.
const MaxBytes = 6 << 10

// Terminal is the client that quorumhub login is. Its access tokens are for the hub's own API; those of applications are not.
const Terminal = "quorumhub-terminal"

// ErrInvalid means that a text is no ticket of the kind, or that it has expired or was changed.
var ErrInvalid = errors.New("not a valid ticket")

// Ticket is what a ticket says.
type Ticket struct {
	Grant      hub.GrantID `json:"-"`
	Generation uint32      `json:"n,omitempty"` // of a Refresh; 0 for a Code
	Client     string      `json:"c"`           // who may use it
	Expires    time.Time   `json:"-"`

	// Holder is whom it is about.
	Holder Holder `json:"h"`
	// Scopes are those that were asked for and granted.
	Scopes []string `json:"s,omitempty"`
	// Claims are what the client learns about the holder besides.
	Claims map[string]any `json:"m,omitempty"`
	// AuthTime is when the holder last proved who they are, and AMR how (RFC 8176).
	AuthTime time.Time `json:"-"`
	AMR      []string  `json:"a,omitempty"`
	// Written is the place in the log where an Access has its grant: a node that is behind it waits.
	Written uint64 `json:"w,omitempty"`

	// Session is the one that the grant of a Code will end with; others have none. Ends is when that is at the latest.
	Session hub.SessionID `json:"-"`
	Ends    time.Time     `json:"-"`
	// Redirect, Challenge and Nonce bind a Code to the request that asked for it (RFC 7636, OpenID Connect Core section 3.1.2.1).
	Redirect  string `json:"r,omitempty"`
	Challenge string `json:"p,omitempty"`
	Nonce     string `json:"o,omitempty"`
}

// Holder is whom a ticket is about. All but ID is left out of the tickets of applications.
type Holder struct {
	ID        string   `json:"i"` // of the principal
	Name      string   `json:"n,omitempty"`
	Authority string   `json:"a,omitempty"`
	Subject   string   `json:"s,omitempty"`
	User      string   `json:"u,omitempty"`
	Client    string   `json:"c,omitempty"`
	Scopes    []string `json:"o,omitempty"`
	Roles     []string `json:"r,omitempty"`
}

// stored is a Ticket as it is sealed.
type stored struct {
	*Ticket
	Grant    []byte `json:"g"`
	Expires  int64  `json:"e"` // Unix seconds
	AuthTime int64  `json:"t,omitempty"`
	Session  []byte `json:"x,omitempty"`
	Ends     int64  `json:"y,omitempty"`
}

// Sealer seals tickets and opens them. Safe for concurrent use.
type Sealer struct {
	Box hub.SecretBox
	Now func() time.Time
}

// Seal returns a ticket as text, and the ID of the key that sealed it.
func (s *Sealer) Seal(k Kind, t *Ticket) (text, key string, err error) {
	plain, err := Encode(t)
	if err != nil {
		return "", "", err
	}
	sealed, err := s.Box.Seal(plain, binding(k))
	if err != nil {
		return "", "", fmt.Errorf("seal a ticket: %w", err)
	}
	if text = string(k) + base64.RawURLEncoding.EncodeToString(sealed); len(text) > MaxBytes {
		return "", "", fmt.Errorf("a ticket for %q has %d bytes; expected at most %d: release fewer claims to %q", t.Holder.ID, len(text), MaxBytes, t.Client)
	}
	return text, hub.SealedWith(sealed), nil
}

// Open returns what a ticket of a kind says. The error wraps ErrInvalid. Whether its grant has ended is another question.
func (s *Sealer) Open(k Kind, text string) (*Ticket, error) {
	body, ok := strings.CutPrefix(text, string(k))
	if !ok || len(text) > MaxBytes {
		return nil, fmt.Errorf("%w: not of the form %s...", ErrInvalid, k)
	}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(body)
	if err != nil {
		return nil, fmt.Errorf("%w: not base64url", ErrInvalid)
	}
	plain, err := s.Box.Open(sealed, binding(k))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	t, err := Decode(plain)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if !s.Now().Before(t.Expires) {
		return nil, fmt.Errorf("%w: expired at %s", ErrInvalid, t.Expires.UTC().Format(time.RFC3339))
	}
	return t, nil
}

// Encode returns a ticket as JSON, which anybody can read.
func Encode(t *Ticket) ([]byte, error) {
	in := stored{Ticket: t, Grant: t.Grant[:], Expires: t.Expires.Unix(), AuthTime: seconds(t.AuthTime), Ends: seconds(t.Ends)}
	if t.Session != (hub.SessionID{}) {
		in.Session = t.Session[:]
	}
	plain, err := json.Marshal(&in)
	if err != nil {
		return nil, fmt.Errorf("encode a ticket: %w", err)
	}
	return plain, nil
}

// Decode is the inverse of Encode.
func Decode(plain []byte) (*Ticket, error) {
	t := new(Ticket)
	in := stored{Ticket: t}
	if err := json.Unmarshal(plain, &in); err != nil || len(in.Grant) != len(t.Grant) {
		return nil, errors.New("no ticket")
	}
	t.Grant, t.Expires, t.AuthTime, t.Ends = hub.GrantID(in.Grant), time.Unix(in.Expires, 0), moment(in.AuthTime), moment(in.Ends)
	if len(in.Session) == len(t.Session) {
		t.Session = hub.SessionID(in.Session)
	}
	return t, nil
}

// Is reports whether a text looks like a ticket of a kind.
func Is(k Kind, text string) bool { return strings.HasPrefix(text, string(k)) }

// binding separates the kinds from each other and from other sealed text.
func binding(k Kind) string { return "ticket\x00" + string(k) }

func seconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func moment(s int64) time.Time {
	if s == 0 {
		return time.Time{}
	}
	return time.Unix(s, 0)
}
