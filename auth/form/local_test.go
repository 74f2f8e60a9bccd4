package form_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pquerna/otp/totp"

	"quorumhub/auth"
	"quorumhub/auth/form"
	"quorumhub/auth/sequence"
	"quorumhub/hub"
)

// cheap is for tests that try many passwords.
var cheap = form.Cost{MemoryKiB: 64, Passes: 1, Lanes: 1}

const (
	password = "correct horse battery staple"
	seed     = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
)

// claimedOnce is the cluster's memory of what was used.
type claimedOnce struct {
	mu    sync.Mutex
	used  map[[32]byte]time.Time
	err   error
	pause time.Duration
}

func (c *claimedOnce) Claim(_ context.Context, _ string, nonce [32]byte, until time.Time) (bool, error) {
	time.Sleep(c.pause)
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, twice := c.used[nonce]; twice || c.err != nil {
		return false, c.err
	}
	if c.used == nil {
		c.used = map[[32]byte]time.Time{}
	}
	c.used[nonce] = until
	return true, nil
}

type fixture struct {
	*form.Local
	used *claimedOnce
	log  *lines
}

// lines is a log that several nodes write. Safe for concurrent use.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// local makes accounts root, with one-time codes, and plain, without.
func local(t *testing.T) *fixture {
	t.Helper()
	hash := func(s string) string {
		h, err := form.HashPassword(s, cheap)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	f := &fixture{used: &claimedOnce{}, log: &lines{}}
	return f.again(t, form.Account{Name: "root", Hash: hash(password), TOTP: seed, Roles: []string{"admin"}}, form.Account{Name: "plain", Hash: hash(password)})
}

func (f *fixture) again(t *testing.T, accounts ...form.Account) *fixture {
	t.Helper()
	l, err := form.NewLocal(form.LocalOptions{Name: "emergency", Accounts: accounts, Used: f.used, Node: func() string { return "n1" }, Log: slog.New(slog.NewTextHandler(f.log, nil)), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	return &fixture{l, f.used, f.log}
}

func (f *fixture) try(t *testing.T, client, name, pass, code string) (*sequence.Identity, error) {
	t.Helper()
	return f.Finish(t.Context(), &sequence.Finish{Form: url.Values{"name": {name}, "password": {pass}, "code": {code}}, Client: client})
}

func code(t *testing.T, at time.Time) string {
	t.Helper()
	c, err := totp.GenerateCode(seed, at)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// verdict is how a login ended, in a word.
func verdict(err error) string {
	var refused *auth.RefusalError
	var limit *form.LimitError
	switch {
	case err == nil:
		return "in"
	case errors.As(err, &limit) && errors.As(err, &refused) && limit.After > 0:
		return "limit"
	case errors.As(err, &refused):
		return "refused"
	case errors.Is(err, auth.ErrUnavailable):
		return "unavailable"
	}
	return "neither"
}

func TestLocalAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := local(t)
		next, private, err := f.Start(t.Context(), &sequence.Start{})
		if err != nil || private != nil || len(next.Form.Fields) != 3 || !next.Form.Fields[1].Secret || next.Form.Fields[2].Autocomplete != "one-time-code" {
			t.Fatalf("%+v, %v", next, err)
		}
		who, err := f.try(t, "192.0.2.1", " root ", password, code(t, time.Now()))
		if err != nil {
			t.Fatal(err)
		}
		p := who.Principal
		if p.ID != "local/root" || p.Authority != "emergency" || p.Method != auth.MethodSession || !p.HasRole("admin") || fmt.Sprint(who.Passed.Method) != "[pwd otp mfa]" || who.Passed.Authenticator != "emergency" {
			t.Errorf("%+v, %+v", who, p)
		}
		if who, err := f.try(t, "192.0.2.1", "plain", password, "whatever"); err != nil || fmt.Sprint(who.Passed.Method) != "[pwd]" {
			t.Errorf("%+v, %v", who, err)
		}
		for name, c := range map[string][3]string{
			"wrong password":                   {"root", password + ".", code(t, time.Now())},
			"no password":                      {"root", "", code(t, time.Now())},
			"no code":                          {"root", password, ""},
			"wrong code":                       {"root", password, "000000"},
			"a code of two periods ago":        {"root", password, code(t, time.Now().Add(-time.Minute))},
			"a code of in two periods":         {"root", password, code(t, time.Now().Add(time.Minute))},
			"unknown":                          {"nobody", password, ""},
			"no name":                          {"", password, ""},
			"name in capitals":                 {"ROOT", password, code(t, time.Now())},
			"a password of two KiB":            {"root", strings.Repeat("x", 2<<10), code(t, time.Now())},
			"the hash instead of the password": {"plain", "$argon2id$v=19$m=64,t=1,p=1$", ""},
		} {
			if _, err := f.again(t, accounts(t)...).try(t, "192.0.2.1", c[0], c[1], c[2]); verdict(err) != "refused" {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func accounts(t *testing.T) []form.Account {
	h, err := form.HashPassword(password, cheap)
	if err != nil {
		t.Fatal(err)
	}
	return []form.Account{{Name: "root", Hash: h, TOTP: seed}, {Name: "plain", Hash: h}}
}

// A one-time code is good once, on whichever node and however many use it at once, and not while nobody knows whether it was used.
func TestCodesAreUsedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := local(t)
		other := f.again(t, accounts(t)...) // another node
		f.used.pause = time.Second
		c := code(t, time.Now())
		var in, refused int
		var mu sync.Mutex
		var running sync.WaitGroup
		for i := range 8 {
			on := []*fixture{f, other}[i%2]
			running.Go(func() {
				_, err := on.try(t, fmt.Sprint("192.0.2.", i), "root", password, c)
				mu.Lock()
				defer mu.Unlock()
				switch verdict(err) {
				case "in":
					in++
				case "refused":
					refused++
				default:
					t.Error(err)
				}
			})
		}
		running.Wait()
		if in != 1 || refused != 7 {
			t.Errorf("%d in, %d refused", in, refused)
		}
		f.used.pause = 0
		for until, want := range map[time.Duration]string{10 * time.Second: "refused", 40 * time.Second: "refused"} {
			time.Sleep(until)
			if _, err := other.try(t, "192.0.2.9", "root", password, c); verdict(err) != want {
				t.Errorf("the code %s later: %v", until, err)
			}
		}
		for _, until := range f.used.used {
			if until.Before(time.Now().Add(time.Minute)) {
				t.Errorf("a used code is forgotten at %s", until)
			}
		}
		time.Sleep(time.Minute)
		f.used.err = errors.New("no leader")
		for range 10 {
			if _, err := f.try(t, "192.0.2.20", "root", password, code(t, time.Now())); verdict(err) != "unavailable" {
				t.Fatalf("without a quorum: %v", err) // and it counts as no failure
			}
		}
		f.used.err = &hub.Error{Code: hub.CodeLimited}
		if _, err := f.try(t, "192.0.2.20", "root", password, code(t, time.Now())); verdict(err) != "limit" {
			t.Errorf("too many codes: %v", err)
		}
		f.used.err = nil
		for _, off := range []time.Duration{-30 * time.Second, 30 * time.Second} { // one period behind and in front
			if _, err := f.try(t, "192.0.2.20", "root", password, code(t, time.Now().Add(off))); err != nil {
				t.Errorf("a clock %s off: %v", off, err)
			}
		}
	})
}

// Guessing passwords is limited by client and by account, exactly; whoever knows the password is not counted, and names that do not exist
// are limited like those that do.
func TestPasswordSpraying(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, name := range []string{"plain", "nobody"} {
			f := local(t)
			for i := range 5 {
				if _, err := f.try(t, "192.0.2.1", name, "guess", ""); verdict(err) != "refused" {
					t.Fatalf("%s, attempt %d: %v", name, i+1, err)
				}
			}
			_, err := f.try(t, "192.0.2.1", name, password, "")
			var limit *form.LimitError
			if !errors.As(err, &limit) || limit.After > time.Minute || limit.After < 59*time.Second {
				t.Errorf("%s, attempt 6: %v (%+v)", name, err, limit)
			}
			time.Sleep(time.Minute)
			if _, err := f.try(t, "192.0.2.1", name, "guess", ""); verdict(err) != "refused" {
				t.Errorf("%s, a minute later: %v", name, err)
			}
			if _, err := f.try(t, "192.0.2.1", name, "guess", ""); verdict(err) != "limit" {
				t.Errorf("%s, and once more: %v", name, err)
			}

			f = local(t)
			seen := map[string]int{}
			for i := range 100 {
				_, err := f.try(t, fmt.Sprint("198.51.100.", i), name, "guess", "")
				seen[verdict(err)]++
			}
			if seen["refused"] != 20 || seen["limit"] != 80 {
				t.Errorf("%s, from 100 clients: %v", name, seen)
			}
		}
		// One guess at each of many names, from one client.
		f := local(t)
		seen := map[string]int{}
		for i := range 100 {
			_, err := f.try(t, "192.0.2.1", fmt.Sprint("user", i), "Summer2026!", "")
			seen[verdict(err)]++
		}
		if seen["refused"] != 5 {
			t.Errorf("one password, many names: %v", seen)
		}
		for range 50 {
			if _, err := f.try(t, "192.0.2.2", "plain", password, ""); err != nil {
				t.Fatalf("the right password is counted: %v", err)
			}
		}
	})
}

// Thousands of clients are not as many entries, and those who guess most are remembered.
func TestAttemptsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := local(t)
		for range 5 {
			_, _ = f.try(t, "192.0.2.1", "nobody", "guess", "")
		}
		for i := range 4200 {
			_, _ = f.try(t, fmt.Sprint("client-", i), fmt.Sprint("name-", i), "guess", "")
		}
		if _, err := f.try(t, "192.0.2.1", "plain", "guess", ""); verdict(err) != "limit" {
			t.Errorf("who guessed most was forgotten: %v", err)
		}
	})
}

// Few attempts wait for their turn, and they stop waiting when the client is gone.
func TestPasswordsAreTriedOneAtATime(t *testing.T) {
	slow, err := form.HashPassword(password, form.Cost{MemoryKiB: 32 << 10, Passes: 4, Lanes: 1})
	if err != nil {
		t.Fatal(err)
	}
	f := (&fixture{used: &claimedOnce{}, log: &lines{}}).again(t, form.Account{Name: "plain", Hash: slow})
	seen := map[string]int{}
	var mu sync.Mutex
	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	for i := range 40 {
		running.Go(func() {
			_, err := f.Finish(ctx, &sequence.Finish{Form: url.Values{"name": {"plain"}, "password": {password}}, Client: fmt.Sprint(i)})
			mu.Lock()
			seen[verdict(err)]++
			if seen["unavailable"] == 24-1 {
				cancel() // all but those who wait have been turned away
			}
			mu.Unlock()
		})
	}
	running.Wait()
	cancel()
	if seen["in"] < 1 || seen["in"] > 17 || seen["unavailable"] < 23 {
		t.Errorf("%v", seen)
	}
}

// Nothing in the time it takes tells whether an account exists.
func TestUnknownAccountsCostAsMuch(t *testing.T) {
	hash, err := form.HashPassword(password, form.Cost{MemoryKiB: 8 << 10, Passes: 8, Lanes: 1})
	if err != nil {
		t.Fatal(err)
	}
	f := (&fixture{used: &claimedOnce{}, log: &lines{}}).again(t, form.Account{Name: "plain", Hash: hash})
	took := func(name string) time.Duration {
		best := time.Hour
		for i := range 5 {
			began := time.Now()
			_, _ = f.try(t, fmt.Sprint(name, i), name, "guess", "")
			best = min(best, time.Since(began))
		}
		return best
	}
	known, unknown := took("plain"), took("nobody")
	if unknown < known/2 || known < unknown/2 {
		t.Errorf("a known account takes %s, an unknown one %s", known, unknown)
	}
}

// Each use of an emergency account is in the audit log as a warning. Secrets never are, not even those typed into the wrong field.
func TestEveryUseIsAudited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := local(t)
		_, _ = f.try(t, "192.0.2.1", "plain", password, "")
		_, _ = f.try(t, "192.0.2.2", "plain", "guess-4711", "")
		_, _ = f.try(t, "192.0.2.3", "typed-password-here", "x", "")
		for range 6 {
			_, _ = f.try(t, "192.0.2.4", "root", password, "123123")
		}
		lines := strings.Split(strings.TrimSpace(f.log.String()), "\n")
		if len(lines) != 9 {
			t.Fatalf("%d lines: %s", len(lines), f.log)
		}
		for i, want := range []string{"actor=local/plain .*outcome=done .*address=192.0.2.1 node=n1", "outcome=denied .*password is wrong.*192.0.2.2", `\(none of the accounts\).*outcome=denied`, "code is wrong"} {
			if !strings.Contains(lines[i], "level=WARN msg=audit") || !matchesInOrder(lines[i], strings.Split(strings.ReplaceAll(want, `\`, ""), ".*")) {
				t.Errorf("line %d: %s; want %s", i+1, lines[i], want)
			}
		}
		if !strings.Contains(lines[8], "too many attempts") {
			t.Errorf("the limit: %s", lines[8])
		}
		for _, s := range []string{password, "guess-4711", "typed-password-here", "123123", seed} {
			if strings.Contains(f.log.String(), s) {
				t.Errorf("the log has %q", s)
			}
		}
	})
}

func matchesInOrder(s string, parts []string) bool {
	for _, p := range parts {
		_, rest, ok := strings.Cut(s, p)
		if !ok {
			return false
		}
		s = rest
	}
	return true
}

func TestAccountsThatAreNotUnderstood(t *testing.T) {
	good, err := form.HashPassword(password, cheap)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ hash, totp, want string }{
		"good":                 {good, seed, ""},
		"lower case, spaced":   {good, "jbsw y3dp ehpk 3pxp jbsw y3dp ehpk 3pxp", ""},
		"the password itself":  {password, "", "hash-password"},
		"bcrypt":               {"$2a$10$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy", "", "hash-password"},
		"argon2i":              {strings.Replace(good, "argon2id", "argon2i", 1), "", "hash-password"},
		"another version":      {strings.Replace(good, "v=19", "v=16", 1), "", "hash-password"},
		"no passes":            {strings.Replace(good, "t=1", "t=0", 1), "", "costs"},
		"costs in other words": {strings.Replace(good, "m=64,t=1", "m=0x40,t=1", 1), "", "costs"},
		"no salt":              {strings.Join(append(strings.Split(good, "$")[:4], "", "AAAA"), "$"), "", "salt"},
		"a short hash":         {good[:len(good)-30], "", "hash"},
		"no base32":            {good, "0189018901890189", "base32"},
		"a short secret":       {good, "JBSWY3DPEHPK3PXP", "10 bytes"},
	} {
		_, err := form.NewLocal(form.LocalOptions{Name: "emergency", Accounts: []form.Account{{Name: "root", Hash: c.hash, TOTP: c.totp}}, Used: &claimedOnce{}, Log: slog.New(slog.DiscardHandler), Now: time.Now})
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), password)) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
	if _, err := form.NewLocal(form.LocalOptions{Name: "emergency"}); err == nil {
		t.Error("no accounts are accepted")
	}
	for _, text := range []string{"", strings.Repeat("x", 1025)} {
		if _, err := form.HashPassword(text, cheap); err == nil {
			t.Errorf("a password of %d bytes was hashed", len(text))
		}
	}
}

func TestNewTOTP(t *testing.T) {
	text, at, err := form.NewTOTP("hub.example.org", "root")
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(at)
	if err != nil || u.Scheme != "otpauth" || u.Host != "totp" || u.Query().Get("secret") != text || u.Query().Get("issuer") != "hub.example.org" || len(text) != 32 {
		t.Errorf("%s, %s, %v", text, at, err)
	}
}
