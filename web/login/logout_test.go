package login_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"quorumhub/auth"
	"quorumhub/auth/keyring"
	"quorumhub/auth/session"
	"quorumhub/web/login"
)

// ending ends sessions, or fails.
type ending struct{ err error }

func (e *ending) End(context.Context, string, [32]byte) error { return e.err }

// The URL that somebody goes on to after the identity provider comes back as it was, only from the hub, and only for some minutes.
func TestLogoutReturn(t *testing.T) {
	ring := func(key byte) *keyring.Ring {
		r, err := keyring.New(bytes.Repeat([]byte{key}, 32))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	now, state, ends := time.Now(), "", &ending{}
	l := &login.Logout{PublicURL: "https://hub.example.org/x/", Sessions: ends, Box: ring(1), Now: func() time.Time { return now },
		EndSession: func(_ context.Context, _ *session.Session, returnTo, s string) string {
			state = s
			return "https://idp.example/?to=" + returnTo
		}}
	who := &session.Session{Principal: &auth.Principal{ID: "issuer:corp/7"}}
	const then = "https://shop.example.org/bye?state=a%26b"
	end := func() (*httptest.ResponseRecorder, string, error) {
		w := httptest.NewRecorder()
		to, err := l.End(w, httptest.NewRequest(http.MethodGet, "/", nil), who, then)
		return w, to, err
	}
	w, to, err := end()
	if err != nil || to != "https://idp.example/?to=https://hub.example.org/x/login/bye" || len(w.Result().Cookies()) != 1 {
		t.Fatalf("sent to %q: %v", to, err)
	}
	if got := l.Return(state); got != then {
		t.Errorf("back: %q", got)
	}
	raw, err := base64.RawURLEncoding.DecodeString(state)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)-1] ^= 1
	foreign, err := ring(1).Seal([]byte(strings.Repeat("\x7f", 8)+"https://evil.example/"), "another purpose")
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{"none": "", "no base64": "!", "a URL": "https://evil.example/", "changed": base64.RawURLEncoding.EncodeToString(raw),
		"sealed for something else": base64.RawURLEncoding.EncodeToString(foreign)} {
		if got := l.Return(bad); got != "" {
			t.Errorf("%s: sent to %q", name, got)
		}
	}
	if got := (&login.Logout{Box: ring(2), Now: l.Now}).Return(state); got != "" {
		t.Errorf("another hub's: %q", got)
	}
	now = now.Add(11 * time.Minute)
	if got := l.Return(state); got != "" {
		t.Errorf("long after: %q", got)
	}
	ends.err = errors.New("no leader")
	if w, to, err := end(); err == nil || to != "" || len(w.Result().Cookies()) != 0 {
		t.Errorf("a logout that the log did not take: %q, %v, %v", to, err, w.Result().Cookies())
	}
}
