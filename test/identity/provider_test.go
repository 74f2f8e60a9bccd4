package identity_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v3/jwk"

	"quorumhub/auth"
	"quorumhub/auth/oidc"
	"quorumhub/auth/sequence"
	"quorumhub/auth/session"
	"quorumhub/test/hubtest"
	"quorumhub/test/idp"
)

const (
	clientID = "quorumhub"
	secret   = "the hub's secret"
	callback = "http://127.0.0.1:1/login/callback/corp" // nobody listens there; the browser stops in front of it
	goodbye  = "http://127.0.0.1:1/login/bye"
)

func atCallback(u *url.URL) bool { return strings.HasPrefix(u.String(), callback) }

// used remembers what was used.
type used struct{ sync.Map }

func (u *used) Claim(_ context.Context, _ string, nonce [32]byte, _ time.Time) (bool, error) {
	_, twice := u.LoadOrStore(nonce, true)
	return !twice, nil
}

// at makes an authenticator for a real provider and waits until it is ready.
func at(t *testing.T, p *idp.Provider, change func(*oidc.Options)) *oidc.Provider {
	t.Helper()
	o := oidc.Options{Name: "corp", Issuer: p.Issuer, ClientID: clientID, Secret: []byte(secret), Scopes: []string{"profile", "email"}, Transport: http.DefaultTransport,
		Claims: auth.ClaimMapping{Subject: []string{"/sub"}, User: []string{"/preferred_username"}, Roles: []string{"/roles"}}, EndSession: true,
		Used: &used{}, Log: slog.New(slog.DiscardHandler), Now: time.Now}
	if change != nil {
		change(&o)
	}
	out := oidc.New(o)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { out.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	hubtest.Eventually(t, "the provider is ready", func() error { return out.Ready(t.Context()) })
	return out
}

// logIn logs in as a person would, up to the callback, and returns what Finish makes of it.
func logIn(t *testing.T, b *idp.Browser, p *oidc.Provider, name string, ask sequence.Start, between func()) (*sequence.Identity, error) {
	t.Helper()
	ask.State, ask.Callback = "a-state-of-256-bits", callback
	next, private, err := p.Start(t.Context(), &ask)
	if err != nil {
		return nil, err
	}
	page := b.LogIn(t, b.Go(t, next.Redirect, atCallback), name, "verysecure", atCallback)
	if !atCallback(page.URL) {
		t.Fatalf("the provider sent the browser to %s", page)
	}
	form := page.URL.Query()
	if form.Get("state") != ask.State {
		t.Fatalf("callback %s", page.URL)
	}
	if between != nil {
		between()
	}
	return p.Finish(t.Context(), &sequence.Finish{Form: form, Private: private, Callback: callback, MaxAge: ask.MaxAge, Anew: ask.Anew})
}

// Both providers, one in Go and one in JavaScript, one with its clock 30 s in front: log in, again without a page, and anew.
func TestLoginWithRealProviders(t *testing.T) {
	client := idp.Client{ID: clientID, Secret: secret, Redirects: []string{callback}, Logouts: []string{goodbye}}
	for name, c := range map[string]struct {
		start          func(*testing.T) *idp.Provider
		person         string
		subject, calls string
		roles, again   bool // again: the provider remembers who has logged in
	}{
		"zitadel":           {func(t *testing.T) *idp.Provider { return idp.Zitadel(t, client) }, "test-user2", "id2", "Test User2", false, false},
		"panva":             {func(t *testing.T) *idp.Provider { return idp.Panva(t, client, 0) }, "ada", "ada", "ada of panva", true, true},
		"panva, 29 s early": {func(t *testing.T) *idp.Provider { return idp.Panva(t, client, 29*time.Second) }, "ada", "ada", "ada of panva", true, true},
		"panva, 29 s late":  {func(t *testing.T) *idp.Provider { return idp.Panva(t, client, -29*time.Second) }, "ada", "ada", "ada of panva", true, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			real := c.start(t)
			p := at(t, real, func(o *oidc.Options) {
				if c.roles {
					o.Wanted = []string{"/roles"}
				}
			})
			b := idp.NewBrowser(t)
			for _, ask := range []sequence.Start{{}, {MaxAge: time.Hour}, {Anew: true}} {
				who, err := logIn(t, b, p, c.person, ask, nil)
				if err != nil {
					t.Fatalf("%+v: %v", ask, err)
				}
				if who.Principal.ID != "issuer:corp/"+c.subject || who.Principal.User != c.person || who.Name != c.calls || who.Principal.HasRole("staff") != c.roles {
					t.Errorf("%+v, %+v", who, who.Principal)
				}
				if !session.KeyMatches(who.Passed.Key, session.Key(c.subject, "")) {
					t.Errorf("key %x", who.Passed.Key)
				}
				if ask.Anew && time.Since(who.Passed.At).Abs() > 35*time.Second {
					t.Errorf("logged in anew %s ago", time.Since(who.Passed.At))
				}
				// And out: the provider takes the URL and, asked to confirm or not, comes back to where it was told.
				if to := p.EndSession(who.IDToken, goodbye, "back"); !strings.HasPrefix(to, real.Issuer) {
					t.Errorf("end session: %s", to)
				}
			}
			next, _, err := p.Start(t.Context(), &sequence.Start{State: "s", Callback: callback})
			if err != nil {
				t.Fatal(err)
			}
			if page := b.Go(t, next.Redirect, atCallback); atCallback(page.URL) != c.again {
				t.Errorf("a login while logged in: %s", page)
			}
			who, err := logIn(t, idp.NewBrowser(t), p, c.person, sequence.Start{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			bye := func(u *url.URL) bool { return strings.HasPrefix(u.String(), goodbye) }
			page := b.Go(t, p.EndSession(who.IDToken, goodbye, "back"), bye)
			if !bye(page.URL) {
				page = b.Send(t, page.Forms[0], url.Values{"logout": {"yes"}}, bye)
			}
			if !bye(page.URL) || page.URL.Query().Get("state") != "back" {
				t.Errorf("after logging out: %s", page)
			}
			// It does not come back to anywhere else.
			evil := b.Go(t, p.EndSession(who.IDToken, "https://evil.example/", "back"), func(u *url.URL) bool { return u.Host == "evil.example" })
			if evil.URL.Host == "evil.example" || evil.Status < 400 {
				t.Errorf("logged out to another place: %s", evil)
			}
		})
	}
}

// The hub proves who it is in each way that there is, as a certified provider understands it.
func TestRealClientAuthentication(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := jwk.Import(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]any{"kid": "hub-1", "alg": "ES256", "use": "sig"} {
		if err := public.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
	set, err := json.Marshal(map[string]any{"keys": []any{public}})
	if err != nil {
		t.Fatal(err)
	}
	for method, change := range map[string]func(*oidc.Options){
		"client_secret_basic": nil,
		"client_secret_post":  func(o *oidc.Options) { o.Auth = "client_secret_post" },
		"private_key_jwt":     func(o *oidc.Options) { o.Secret, o.Key, o.KeyAlgorithm, o.KeyID = nil, key, "ES256", "hub-1" },
		"none":                func(o *oidc.Options) { o.Secret = nil },
	} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			c := idp.Client{ID: clientID, Secret: secret, Redirects: []string{callback}, Auth: method}
			if method == "private_key_jwt" {
				c.Keys = set
			}
			real := idp.Panva(t, c, 0)
			if _, err := logIn(t, idp.NewBrowser(t), at(t, real, change), "ada", sequence.Start{}, nil); err != nil {
				t.Error(err)
			}
			if method == "none" {
				return
			}
			// The wrong secret, or key, is trouble of the hub's and no refusal of the person.
			other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			wrong := at(t, real, func(o *oidc.Options) {
				if change != nil {
					change(o)
				}
				if o.Key != nil {
					o.Key = other
				} else {
					o.Secret = []byte("another secret")
				}
			})
			var refused *auth.RefusalError
			if _, err := logIn(t, idp.NewBrowser(t), wrong, "ada", sequence.Start{}, nil); !errors.Is(err, auth.ErrUnavailable) || errors.As(err, &refused) {
				t.Errorf("with wrong credentials: %v", err)
			}
		})
	}
}

// The provider replaces its keys after the browser has left it and before its code is redeemed, and just after that.
func TestRealKeysRotateInTheMiddle(t *testing.T) {
	t.Parallel()
	real := idp.Zitadel(t, idp.Client{ID: clientID, Secret: secret, Redirects: []string{callback}})
	p := at(t, real, nil)
	for i := range 3 {
		if _, err := logIn(t, idp.NewBrowser(t), p, "test-user2", sequence.Start{}, func() { real.Rotate(t) }); err != nil {
			t.Fatalf("rotation %d: %v", i+1, err)
		}
	}
}

// A provider that is killed is found out before a browser is sent there; one killed in the middle is trouble and no refusal; one that has
// come back is used again, though its keys are others.
func TestRealProviderIsKilled(t *testing.T) {
	t.Parallel()
	real := idp.Zitadel(t, idp.Client{ID: clientID, Secret: secret, Redirects: []string{callback}})
	p := at(t, real, nil)
	var refused *auth.RefusalError
	_, err := logIn(t, idp.NewBrowser(t), p, "test-user2", sequence.Start{}, func() { real.Kill(t) })
	if !errors.Is(err, auth.ErrUnavailable) || errors.As(err, &refused) {
		t.Errorf("killed in the middle: %v", err)
	}
	hubtest.Eventually(t, "the hub notices", func() error {
		if err := p.Ready(t.Context()); !errors.Is(err, auth.ErrUnavailable) {
			return errors.New("it has not")
		}
		return nil
	})
	real.Start(t)
	hubtest.Eventually(t, "the hub notices", func() error { return p.Ready(t.Context()) })
	hubtest.Eventually(t, "people log in again", func() error {
		_, err := logIn(t, idp.NewBrowser(t), p, "test-user2", sequence.Start{}, nil)
		return err
	})
}

// The provider tells the hub when somebody logs out there, in a token that the hub accepts once.
func TestRealBackChannelLogout(t *testing.T) {
	t.Parallel()
	tokens := make(chan string, 1)
	server := &http.Server{ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tokens <- r.PostFormValue("logout_token")
		_, _ = io.WriteString(w, "")
	})}
	ln := listenAnywhere(t)
	go func() { _ = server.Serve(ln) }()
	t.Cleanup(func() { _ = server.Close() })
	real := idp.Panva(t, idp.Client{ID: clientID, Secret: secret, Redirects: []string{callback}, Logouts: []string{goodbye}, BackChannel: "http://" + ln.Addr().String() + "/login/backchannel/corp"}, 0)
	p := at(t, real, nil)
	b := idp.NewBrowser(t)
	who, err := logIn(t, b, p, "ada", sequence.Start{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	page := b.Go(t, p.EndSession(who.IDToken, goodbye, ""), nil)
	if len(page.Forms) == 0 {
		t.Fatal(page)
	}
	b.Send(t, page.Forms[0], url.Values{"logout": {"yes"}}, func(u *url.URL) bool { return strings.HasPrefix(u.String(), goodbye) })
	select {
	case raw := <-tokens:
		out, err := p.Logout(t.Context(), raw)
		if err != nil || !session.KeyMatches(who.Passed.Key, out.Key) || out.SID == "" {
			t.Fatalf("%+v, %v", out, err)
		}
		other, err := logIn(t, idp.NewBrowser(t), p, "eve", sequence.Start{}, nil)
		if err != nil || session.KeyMatches(other.Passed.Key, out.Key) {
			t.Errorf("ends another's session, too: %v", err)
		}
		var refused *auth.RefusalError
		if _, err := p.Logout(t.Context(), raw); !errors.As(err, &refused) {
			t.Errorf("once more: %v", err)
		}
		if _, err := p.Logout(t.Context(), who.IDToken); !errors.As(err, &refused) {
			t.Errorf("the ID token: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("no logout token came")
	}
}
