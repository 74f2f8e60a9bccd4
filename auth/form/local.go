package form

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"

	"quorumhub/auth"
	"quorumhub/auth/sequence"
	"quorumhub/auth/session"
	"quorumhub/hub"
)

// Limits on attempts: how many may fail, and how long it takes until one more may.
const (
	clientFailures = 5
	clientRest     = time.Minute
	nameFailures   = 20 // of one account, from all clients
	nameRest       = 30 * time.Second
	maxWaiting     = 16 // for their turn, see Local.turn
)

// What TOTP codes are (RFC 6238): six digits by SHA-1, which is what authenticator apps understand.
const (
	totpPeriod = 30
	totpDigits = otp.DigitsSix
	totpSkew   = 1               // periods before and after the present one
	totpKept   = 5 * time.Minute // how long a used code is remembered after nobody should accept it any more
)

// Names of fields.
const (
	fieldName     = "name"
	fieldPassword = "password"
	fieldCode     = "code"
)

// Account is an account of Local.
type Account struct {
	Name string
	// Hash is what HashPassword returned.
	Hash string
	// TOTP is the secret of one-time codes, in base32; empty: the password is enough.
	TOTP          string
	Roles, Scopes []string
}

// LocalOptions describe local accounts.
type LocalOptions struct {
	Name, Label string
	Accounts    []Account
	// Used remembers which codes were used.
	Used auth.Nonces
	// Node returns the ID of the node that audit lines name.
	Node func() string
	Log  *slog.Logger
	Now  func() time.Time
}

// Local lets people log in with accounts that the settings name, for when no identity provider answers. Attempts are few, each costs the
// same whether the account exists or not, and each leaves a line in the audit log at the level of warnings. Safe for concurrent use.
type Local struct {
	o        LocalOptions
	accounts map[string]*account
	costs    []*password // of all accounts, for names that are none
	key      [32]byte    // chooses among them
	form     *sequence.Form

	clients, names *attempts
	waiting        chan struct{}
	turn           chan struct{} // holds one: a password takes up to 256 MiB to try
}

type account struct {
	Account
	password *password
}

// NewLocal makes a Local. The error says which account is not understood.
func NewLocal(o LocalOptions) (*Local, error) {
	l := &Local{o: o, accounts: map[string]*account{}, clients: newAttempts(clientFailures, clientRest), names: newAttempts(nameFailures, nameRest),
		waiting: make(chan struct{}, maxWaiting), turn: make(chan struct{}, 1)}
	if _, err := rand.Read(l.key[:]); err != nil {
		return nil, fmt.Errorf("%s: %w", o.Name, err)
	}
	l.form = &sequence.Form{Authenticator: o.Name, Label: l.Label(), Left: -1, Fields: []sequence.Field{
		{Name: fieldName, Label: "Account", Autocomplete: "username"}, {Name: fieldPassword, Label: "Password", Secret: true, Autocomplete: "current-password"}}}
	codes := false
	for _, a := range o.Accounts {
		p, err := parsePassword(a.Hash)
		if err != nil {
			return nil, fmt.Errorf("%s: account %s: password_hash: %w", o.Name, a.Name, err)
		}
		if a.TOTP != "" {
			if a.TOTP, err = totpSecret(a.TOTP); err != nil {
				return nil, fmt.Errorf("%s: account %s: totp: %w", o.Name, a.Name, err)
			}
		}
		codes = codes || a.TOTP != ""
		l.accounts[a.Name] = &account{a, p}
		l.costs = append(l.costs, p)
	}
	if len(l.accounts) == 0 {
		return nil, fmt.Errorf("%s: has no accounts", o.Name)
	}
	if codes {
		l.form.Fields = append(l.form.Fields, sequence.Field{Name: fieldCode, Label: "One-time code", Autocomplete: "one-time-code"})
	}
	return l, nil
}

// Name implements sequence.Interactive.
func (l *Local) Name() string { return l.o.Name }

// Label implements sequence.Interactive.
func (l *Local) Label() string {
	if l.o.Label != "" {
		return l.o.Label
	}
	return l.o.Name
}

// Ready implements sequence.Interactive.
func (l *Local) Ready(context.Context) error { return nil }

// Start implements sequence.Interactive: it asks for a name, a password and, if any account has them, a one-time code.
func (l *Local) Start(context.Context, *sequence.Start) (*sequence.Interaction, []byte, error) {
	form := *l.form
	return &sequence.Interaction{Form: &form}, nil, nil
}

// Finish implements sequence.Interactive. After too many failures the error is a *LimitError.
func (l *Local) Finish(ctx context.Context, f *sequence.Finish) (*sequence.Identity, error) {
	name := strings.TrimSpace(f.Form.Get(fieldName))
	a := l.accounts[name]
	who, err := l.check(ctx, name, a, f)
	l.audit(ctx, a, f.Client, err)
	return who, err
}

func (l *Local) check(ctx context.Context, name string, a *account, f *sequence.Finish) (*sequence.Identity, error) {
	now := l.o.Now()
	given := f.Form.Get(fieldPassword)
	if len(name) > 256 || len(given) > MaxPassword {
		return nil, refuse("%s: name of %d bytes, password of %d; expected at most 256 and %d", l.o.Name, len(name), len(given), MaxPassword)
	}
	if wait := l.clients.take(f.Client, now); wait > 0 {
		return nil, &LimitError{wait, refuse("%s: too many attempts failed from this client; next in %s", l.o.Name, wait.Round(time.Second))}
	}
	if wait := l.names.take(name, now); wait > 0 {
		return nil, &LimitError{wait, refuse("%s: too many attempts failed for this account; next in %s", l.o.Name, wait.Round(time.Second))}
	}
	refund := func() { l.clients.giveBack(f.Client); l.names.giveBack(name) }
	right, err := l.try(ctx, name, a, given)
	if err != nil {
		refund()
		return nil, err
	}
	counter, coded := int64(0), false
	if a != nil && a.TOTP != "" {
		counter, coded = matches(a.TOTP, f.Form.Get(fieldCode), now)
	}
	switch {
	case a == nil:
		return nil, refuse("%s: there is no such account", l.o.Name)
	case !right:
		return nil, refuse("%s: account %s: the password is wrong", l.o.Name, a.Name)
	case a.TOTP != "" && !coded:
		return nil, refuse("%s: account %s: the password is right, the one-time code is wrong", l.o.Name, a.Name)
	}
	method := []string{"pwd"}
	if a.TOTP != "" {
		if err := l.use(ctx, a, counter); err != nil {
			if errors.Is(err, auth.ErrUnavailable) {
				refund()
			}
			return nil, err
		}
		method = append(method, "otp", "mfa")
	}
	refund()
	p := &auth.Principal{Method: auth.MethodSession, ID: "local/" + a.Name, Authority: l.o.Name, Subject: a.Name, User: a.Name, Roles: a.Roles, Scopes: a.Scopes}
	return &sequence.Identity{Principal: p, Name: a.Name, Passed: session.Passed{Authenticator: l.o.Name, Method: method, At: now, Key: session.Key(a.Name, "")}}, nil
}

// try compares a password. It costs as much if the account does not exist. One is tried at a time, and few wait.
func (l *Local) try(ctx context.Context, name string, a *account, given string) (bool, error) {
	select {
	case l.waiting <- struct{}{}:
		defer func() { <-l.waiting }()
	default:
		return false, fmt.Errorf("%s: %w: %d attempts are waiting already", l.o.Name, auth.ErrUnavailable, maxWaiting)
	}
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return false, fmt.Errorf("%s: %w: %w", l.o.Name, auth.ErrUnavailable, ctx.Err())
	}
	if a != nil {
		return a.password.is(given), nil
	}
	mac := hmac.New(sha256.New, l.key[:])
	mac.Write([]byte(name))
	l.costs[binary.BigEndian.Uint64(mac.Sum(nil))%uint64(len(l.costs))].is(given)
	return false, nil
}

// use uses up the code of a period, once in the cluster.
func (l *Local) use(ctx context.Context, a *account, counter int64) error {
	code := sha256.Sum256(fmt.Appendf(nil, "totp\x00%s\x00%s\x00%d", l.o.Name, a.Name, counter))
	until := time.Unix((counter+totpSkew+1)*totpPeriod, 0).Add(totpKept)
	fresh, err := l.o.Used.Claim(ctx, "local/"+a.Name, code, until)
	var told *hub.Error
	switch {
	case errors.As(err, &told) && told.Code == hub.CodeLimited:
		return &LimitError{cmp.Or(told.RetryAfter, time.Minute), refuse("%s: account %s: %v", l.o.Name, a.Name, err)}
	case err != nil:
		return fmt.Errorf("%s: %w: claim the one-time code: %w", l.o.Name, auth.ErrUnavailable, err)
	case !fresh:
		return refuse("%s: account %s: the one-time code was used before", l.o.Name, a.Name)
	}
	return nil
}

// matches returns the period whose code it is. It compares with all.
func matches(secret, code string, now time.Time) (counter int64, ok bool) {
	code = strings.ReplaceAll(strings.TrimSpace(code), " ", "")
	present := now.Unix() / totpPeriod
	for c := present - totpSkew; c <= present+totpSkew; c++ {
		same, err := hotp.ValidateCustom(code, uint64(c), secret, hotp.ValidateOpts{Digits: totpDigits, Algorithm: otp.AlgorithmSHA1})
		if err == nil && same {
			counter, ok = c, true
		}
	}
	return counter, ok
}

// audit writes the line of an attempt. A name that is no account's is not shown: it may be a password.
func (l *Local) audit(ctx context.Context, a *account, client string, err error) {
	name, outcome, reason := "(none of the accounts)", "done", ""
	if a != nil {
		name = "local/" + a.Name
	}
	if err != nil {
		outcome, reason = "denied", err.Error()
	}
	l.o.Log.LogAttrs(ctx, slog.LevelWarn, "audit", slog.String("actor", name), slog.String("action", "login.local"),
		slog.Group("object", slog.String("provider", l.o.Name)), slog.String("outcome", outcome), slog.String("reason", reason),
		slog.String("address", client), slog.String("node", l.o.Node()))
}
