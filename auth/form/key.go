package form

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"quorumhub/auth"
	"quorumhub/auth/sequence"
	"quorumhub/auth/session"
)

// fieldKey is the name of the field of Key.
const fieldKey = "key"

// maxKey is the longest API key or access token, in bytes.
const maxKey = 16 << 10

// Limits on attempts with keys, which nobody can guess; they bound what it costs to refuse them.
const (
	keyFailures = 20
	keyRest     = 5 * time.Second
)

// KeyOptions describe logging in with keys.
type KeyOptions struct {
	Name, Label string
	// Authenticate checks a request that carries the key as a bearer token. Errors are those of auth.Gate.
	Authenticate func(context.Context, *auth.Request) (*auth.Principal, error)
	Now          func() time.Time
}

// Key lets people log in with an API key of the hub or an access token, for hubs that have no identity provider. Whoever logs in is the
// key's principal, and the login ends when the key does. Safe for concurrent use.
type Key struct {
	o       KeyOptions
	clients *attempts
}

// NewKey makes a Key.
func NewKey(o KeyOptions) *Key { return &Key{o, newAttempts(keyFailures, keyRest)} }

// Name implements sequence.Interactive.
func (k *Key) Name() string { return k.o.Name }

// Label implements sequence.Interactive.
func (k *Key) Label() string { return cmp.Or(k.o.Label, k.o.Name) }

// Ready implements sequence.Interactive.
func (k *Key) Ready(context.Context) error { return nil }

// Start implements sequence.Interactive: it asks for the key.
func (k *Key) Start(context.Context, *sequence.Start) (*sequence.Interaction, []byte, error) {
	return &sequence.Interaction{Form: &sequence.Form{Authenticator: k.o.Name, Label: k.Label(), Left: -1,
		Fields: []sequence.Field{{Name: fieldKey, Label: "API key or access token", Secret: true, Autocomplete: "off"}}}}, nil, nil
}

// Finish implements sequence.Interactive. After too many failures the error is a *LimitError.
func (k *Key) Finish(ctx context.Context, f *sequence.Finish) (*sequence.Identity, error) {
	given := strings.TrimSpace(f.Form.Get(fieldKey))
	if given == "" || len(given) > maxKey || strings.ContainsFunc(given, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return nil, refuse("%s: %d bytes; expected an API key or an access token of at most %d, without spaces", k.o.Name, len(given), maxKey)
	}
	now := k.o.Now()
	if wait := k.clients.take(f.Client, now); wait > 0 {
		return nil, &LimitError{wait, refuse("%s: too many keys were refused from this client", k.o.Name)}
	}
	r := &http.Request{Method: http.MethodGet, Header: http.Header{"Authorization": {"Bearer " + given}}}
	client, _ := netip.ParseAddr(f.Client)
	p, err := k.o.Authenticate(ctx, &auth.Request{HTTP: r, Client: client})
	switch {
	case errors.Is(err, auth.ErrUnavailable):
		k.clients.giveBack(f.Client)
		return nil, err
	case err != nil:
		return nil, err
	case p.Method == auth.MethodAnonymous || p.ID == "":
		return nil, refuse("%s: neither an API key nor an access token", k.o.Name)
	}
	k.clients.giveBack(f.Client)
	one := *p
	one.Method = auth.MethodSession
	return &sequence.Identity{Principal: &one, Name: p.Subject, Passed: session.Passed{Authenticator: k.o.Name, At: now, Key: session.Key(p.ID, "")}}, nil
}
