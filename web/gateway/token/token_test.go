package token_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwk"
	"github.com/lestrrat-go/jwx/v3/jws"
	"github.com/lestrrat-go/jwx/v3/jwt"

	"quorumhub/web/gateway/token"
)

type keys struct {
	own    []*ecdsa.PrivateKey
	former [][]byte
}

func (k *keys) TokenKeys() []*ecdsa.PrivateKey { return k.own }
func (k *keys) FormerTokenKeys() [][]byte      { return k.former }

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

var start = time.Unix(1_700_000_000, 0)

func TestTokenIsAnAccessToken(t *testing.T) {
	k := &keys{own: []*ecdsa.PrivateKey{newKey(t)}}
	m := token.Minter{Issuer: "https://hub.example", Keys: k, Clock: func() time.Time { return start }}
	grant := &token.Grant{Audience: "hr", TTL: time.Minute, Claims: map[string]any{"roles": "{account.roles}", "tenant": "{account.none}",
		"who": map[string]any{"by": "{method}", "fixed": 7}, "client_id": "forged"}}
	caller := &token.Caller{ID: "signed:geo-auth/K/jdoe", Subject: "K", Method: "geo-auth", Username: "jdoe", SourceSystem: "INT", TargetSystem: "HRMS"}
	text, err := m.Mint(grant, caller, &token.Account{Name: "J.DOE", Claims: map[string]any{"roles": []any{"clerk"}}})
	if err != nil {
		t.Fatal(err)
	}
	set := mustSet(t, &m)
	tok, err := jwt.Parse([]byte(text), jwt.WithKeySet(set), jwt.WithIssuer("https://hub.example"), jwt.WithAudience("hr"),
		jwt.WithClock(jwt.ClockFunc(func() time.Time { return start.Add(59 * time.Second) })))
	if err != nil {
		t.Fatal(err)
	}
	claims, err := json.Marshal(tok)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(claims, &got); err != nil {
		t.Fatal(err)
	}
	if id, _ := got["jti"].(string); len(id) < 20 {
		t.Errorf("jti %v", got["jti"])
	}
	delete(got, "jti")
	out, _ := json.Marshal(got)
	const want = `{"aud":["hr"],"client_id":"signed:geo-auth/K/jdoe","exp":1700000060,"iat":1700000000,"iss":"https://hub.example","roles":["clerk"],` +
		`"source_system":"INT","sub":"J.DOE","target_system":"HRMS","username":"jdoe","who":{"by":"geo-auth","fixed":7}}`
	if string(out) != want {
		t.Errorf("claims\n%s, want\n%s", out, want)
	}
	msg, err := jws.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if typ, _ := msg.Signatures()[0].ProtectedHeaders().Type(); typ != "at+jwt" {
		t.Errorf("typ %q", typ)
	}
	if _, err := jwt.Parse([]byte(text), jwt.WithKeySet(set), jwt.WithClock(jwt.ClockFunc(func() time.Time { return start.Add(61 * time.Second) }))); err == nil {
		t.Error("the token outlives its ttl")
	}
}

func mustSet(t *testing.T, m *token.Minter) jwk.Set {
	t.Helper()
	text, err := m.Set()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), `"d"`) {
		t.Fatal("the set has private keys")
	}
	set, err := jwk.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// Tokens of a key that is gone stay verifiable.
func TestTokenOfAFormerKey(t *testing.T) {
	old := newKey(t)
	k := &keys{own: []*ecdsa.PrivateKey{old}}
	m := token.Minter{Issuer: "i", Keys: k, Clock: time.Now}
	text, err := m.Mint(&token.Grant{Audience: "a", TTL: time.Minute}, &token.Caller{ID: "key/1", Subject: "1"}, &token.Account{})
	if err != nil {
		t.Fatal(err)
	}
	point, err := old.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	k.own, k.former = []*ecdsa.PrivateKey{newKey(t)}, [][]byte{point, point, {4, 5}}
	set := mustSet(t, &m)
	if set.Len() != 2 {
		t.Errorf("%d keys, want 2", set.Len())
	}
	if _, err := jwt.Parse([]byte(text), jwt.WithKeySet(set)); err != nil {
		t.Error(err)
	}
	k.former = nil
	if _, err := jwt.Parse([]byte(text), jwt.WithKeySet(mustSet(t, &m))); err == nil {
		t.Error("verified without its key")
	}
}

func TestListOfAccounts(t *testing.T) {
	list, err := token.ParseList([]byte(`{"accounts": [
		{"username": "jdoe", "target_system": "HRMS", "account": "J.DOE"},
		{"issuer": "idp", "subject": "42", "account": "forty-two"},
		{"issuer": "", "subject": "42", "account": "own"},
		{"id": "key/0123"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		caller token.Caller
		want   string // empty: none
	}{
		{token.Caller{ID: "x", Username: "jdoe", TargetSystem: "HRMS"}, "J.DOE"},
		{token.Caller{ID: "x", Username: "jdoe", TargetSystem: "ERP"}, ""},
		{token.Caller{ID: "x", Subject: "jdoe", TargetSystem: "HRMS"}, ""}, // a subject is no username
		{token.Caller{ID: "x", Issuer: "idp", Subject: "42"}, "forty-two"},
		{token.Caller{ID: "x", Issuer: "other", Subject: "42"}, ""},
		{token.Caller{ID: "x", Subject: "42"}, "own"},
		{token.Caller{ID: "key/0123", Subject: "s"}, "-"},
		{token.Caller{}, ""},
	} {
		a, err := list.Of(t.Context(), &tc.caller)
		switch {
		case tc.want == "" && !errors.Is(err, token.ErrNoAccount):
			t.Errorf("%+v: %+v, %v; want none", tc.caller, a, err)
		case tc.want != "" && (err != nil || a.Name != strings.TrimPrefix(tc.want, "-")):
			t.Errorf("%+v: %+v, %v; want %s", tc.caller, a, err, tc.want)
		}
	}
	for text, want := range map[string]string{
		`[]`:                                "not a list of accounts",
		`{}`:                                "has no accounts",
		`{"accounts": [{"account": "x"}]}`:  "accounts[0]: names nobody",
		`{"accounts": [{"subject": "x"}]}`:  "accounts[0]: names a subject without its issuer",
		`{"accounts": [{"username": ""}]}`:  "accounts[0]: names nobody",
		`{"accounts": [null]}`:              "accounts[0]: names nobody",
		`{"accounts": [{"user": "x"}]}`:     `unknown field "user"`,
		`{"accounts": []} {"accounts": []}`: "more than one JSON value",
	} {
		if _, err := token.ParseList([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

func TestAccountsInATopic(t *testing.T) {
	var mark, content string
	reads := 0
	list := token.NewTopic("accounts", func(_ context.Context, topic, known string) (string, []byte, error) {
		if mark == known {
			return mark, nil, nil
		}
		reads++
		return mark, []byte(content), nil
	})
	who := &token.Caller{ID: "x", Username: "jdoe"}
	if _, err := list.Of(t.Context(), who); !errors.Is(err, token.ErrNoAccount) {
		t.Errorf("no message: %v", err)
	}
	mark, content = "1", `{"accounts": [{"username": "jdoe", "account": "one"}]}`
	for range 3 {
		if a, err := list.Of(t.Context(), who); err != nil || a.Name != "one" {
			t.Errorf("%+v, %v", a, err)
		}
	}
	mark, content = "2", `nonsense`
	if _, err := list.Of(t.Context(), who); err == nil || errors.Is(err, token.ErrNoAccount) {
		t.Errorf("a message that is no list: %v", err)
	}
	mark, content = "3", `{"accounts": []}`
	if _, err := list.Of(t.Context(), who); !errors.Is(err, token.ErrNoAccount) {
		t.Errorf("an empty list: %v", err)
	}
	if reads != 3 {
		t.Errorf("read %d times, want 3", reads)
	}
}

func TestAccountsAtAURL(t *testing.T) {
	var asked atomic.Int32
	hold := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		switch user := r.URL.Query().Get("username"); user {
		case "slow":
			<-hold
			fallthrough
		case "jdoe":
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"account": "at %s %s", "claims": {"n": 12345678901234567890}}`, user, r.URL.Query().Get("target_system"))
		case "big":
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"account": "%s"}`, strings.Repeat("x", 100_000))
		case "moved":
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		case "html":
			fmt.Fprint(w, "<html>")
		case "broken":
			w.WriteHeader(500)
		default:
			w.WriteHeader(404)
		}
	}))
	defer srv.Close()
	now := atomic.Int64{}
	r, err := token.NewRemote(srv.URL+"/accounts?system=hr", http.DefaultTransport, func() time.Time { return time.Unix(now.Load(), 0) })
	if err != nil {
		t.Fatal(err)
	}
	of := func(user string) (*token.Account, error) {
		return r.Of(t.Context(), &token.Caller{ID: "x", Username: user, TargetSystem: "HRMS"})
	}
	for range 3 {
		if a, err := of("jdoe"); err != nil || a.Name != "at jdoe HRMS" || fmt.Sprint(a.Claims["n"]) != "12345678901234567890" {
			t.Errorf("%+v, %v", a, err)
		}
		if _, err := of("nobody"); !errors.Is(err, token.ErrNoAccount) {
			t.Errorf("nobody: %v", err)
		}
	}
	if n := asked.Load(); n != 2 {
		t.Errorf("asked %d times, want 2", n)
	}
	now.Store(11) // the no has ended, the yes has not
	_, _ = of("jdoe")
	_, _ = of("nobody")
	if n := asked.Load(); n != 3 {
		t.Errorf("asked %d times, want 3", n)
	}
	now.Store(61)
	_, _ = of("jdoe")
	if n := asked.Load(); n != 4 {
		t.Errorf("asked %d times, want 4", n)
	}
	for _, user := range []string{"big", "moved", "html", "broken"} { // that is no answer
		if a, err := of(user); err == nil || errors.Is(err, token.ErrNoAccount) || strings.Contains(err.Error(), user) {
			t.Errorf("%s: %+v, %v", user, a, err)
		}
	}
	// Many who ask for one account share a question.
	before, wg := asked.Load(), sync.WaitGroup{}
	for range 20 {
		wg.Go(func() {
			if a, err := of("slow"); err != nil || a.Name != "at slow HRMS" {
				t.Errorf("%+v, %v", a, err)
			}
		})
	}
	for asked.Load() == before {
		time.Sleep(time.Millisecond)
	}
	close(hold)
	wg.Wait()
	if n := asked.Load() - before; n != 1 {
		t.Errorf("20 callers asked %d times", n)
	}
}

func TestCheckClaim(t *testing.T) {
	for _, ok := range []any{"x", 1, true, "{subject}", "{account.roles}", []any{"{id}", map[string]any{"a": "{method}"}}, "{", "}", "{}x"} {
		if err := token.CheckClaim(ok); err != nil {
			t.Errorf("%v: %v", ok, err)
		}
	}
	for _, bad := range []any{"{nobody}", "{account.}", "{account}", "{}", []any{map[string]any{"a": "{x}"}}} {
		if err := token.CheckClaim(bad); err == nil {
			t.Errorf("%v: accepted", bad)
		}
	}
}
