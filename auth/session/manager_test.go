package session_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"quorumhub/auth"
	"quorumhub/auth/keyring"
	"quorumhub/auth/session"
	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/test/memory"
)

const corpSettings = `
identity_providers:
  - {name: corp, kind: oidc, issuer: https://idp.example.org, client_id: hub}
  - {name: partner, kind: oidc, issuer: https://idp.example.com, client_id: hub}
  - name: emergency
    kind: local
    enabled: true
    accounts: [{name: root, password_hash: "$argon2id$v=19$m=65536,t=3,p=4$c29tZXNhbHRzb21lc2FsdA$K9FbSlqRvGjkD5mUGWKD5lKdHQ4Z0Nw9OJzjxgDgGPA", roles: [admin]}]
  - {name: keys, kind: key}
sequences:
  staff: {steps: [{strategy: multi, of: [corp, partner, emergency, keys]}]}
service_providers:
  - {name: console, protocol: pages, sequence: staff}
sessions: {idle: 30m, absolute: 12h}
`

// rig is a node with sessions, whose time is that of the test.
type rig struct {
	*testing.T
	*session.Manager
	log      *memory.Log
	ring     *keyring.Ring
	settings *auth.Settings
	service  *hub.Service
	slow     time.Duration // how far the node's state is behind the log
}

// Propose implements hub.Proposer.
func (r *rig) Propose(ctx context.Context, events ...*hubpb.Event) ([]hub.Result, error) {
	if r.slow > 0 {
		other := memory.NewLog() // the leader's results are those of any node
		if _, _, err := other.Apply(time.Now(), &hubpb.Event{Kind: &hubpb.Event_FeatureLevelSet{FeatureLevelSet: &hubpb.FeatureLevelSet{Level: hub.FeatureLevel}}}); err != nil {
			return nil, err
		}
		res, _, err := other.Apply(time.Now(), events...)
		time.AfterFunc(r.slow, func() { _, _, _ = r.log.Apply(time.Now(), events...) })
		return res, err
	}
	res, _, err := r.log.Apply(time.Now(), events...)
	return res, err
}

func keyOf(n byte) []byte { return []byte(strings.Repeat(string(rune('a'+n)), 32)) }

func parse(t *testing.T, text string) *auth.Settings {
	t.Helper()
	s, err := auth.ParseSettings([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newRig(t *testing.T) *rig {
	t.Helper()
	ring, err := keyring.New(keyOf(0))
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{T: t, log: memory.NewLog(), ring: ring, settings: parse(t, corpSettings)}
	r.service = hub.NewService(hub.Policy{}, nil, r, r.log, ring)
	r.Manager = r.manager()
	if _, err := r.Propose(t.Context(), &hubpb.Event{Kind: &hubpb.Event_FeatureLevelSet{FeatureLevelSet: &hubpb.FeatureLevelSet{Level: hub.FeatureLevel}}}); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) manager() *session.Manager {
	return session.NewManager(session.Options{Box: box{r}, State: r.log, Sessions: func() session.Log { return r.service }, Now: time.Now,
		Limits:   func() auth.SessionSettings { return r.settings.Sessions },
		Standing: session.Standing(func() *auth.Settings { return r.settings }, auth.NewAPIKeyLookup(nil, r.log), time.Now), Log: slog.New(slog.DiscardHandler)})
}

// box is the ring that the rig has now.
type box struct{ r *rig }

func (b box) Seal(secret []byte, bound string) ([]byte, error) { return b.r.ring.Seal(secret, bound) }
func (b box) Open(sealed []byte, bound string) ([]byte, error) { return b.r.ring.Open(sealed, bound) }

func alice(change ...func(*session.New)) *session.New {
	n := &session.New{Principal: &auth.Principal{Method: auth.MethodSession, ID: "issuer:corp/alice", Authority: "corp", Subject: "alice", User: "al", Client: "hub",
		Scopes: []string{"openid"}, Roles: []string{"staff", "ops"}}, Name: "Alice Example", Client: "Firefox on Linux",
		Passed: []session.Passed{{Authenticator: "corp", Method: []string{"pwd", "otp"}, At: time.Now(), Key: session.Key("alice", "sid-1")}}, IDToken: "a.b.c"}
	for _, f := range change {
		f(n)
	}
	return n
}

func (r *rig) login(change ...func(*session.New)) (*session.Session, string) {
	r.Helper()
	s, cookie, err := r.Start(r.Context(), alice(change...))
	if err != nil {
		r.Fatal(err)
	}
	return s, cookie
}

func (r *rig) open(cookie string) (*session.Session, string) {
	r.Helper()
	s, fresh, err := r.Open(r.Context(), cookie)
	if err != nil {
		r.Fatal(err)
	}
	return s, fresh
}

func (r *rig) ended(what, cookie string) {
	r.Helper()
	if s, _, err := r.Open(r.Context(), cookie); !errors.Is(err, session.ErrEnded) {
		r.Errorf("%s: %+v, %v; want an end", what, s, err)
	}
}

// What a login was comes back with its cookie, on any node that has the keys.
func TestASessionComesBackWithItsCookie(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		began, cookie := r.login()
		r.Manager = r.manager() // another node
		s, fresh := r.open(cookie)
		want := alice()
		want.Principal.Passed = []auth.PassedStep{{Authenticator: "corp", At: want.Passed[0].At}}
		for name, pair := range map[string][2]any{
			"principal": {s.Principal, want.Principal}, "name": {s.Name, want.Name}, "ID token": {s.IDToken, want.IDToken}, "ID": {s.ID, began.ID},
			"authenticator": {s.Passed[0].Authenticator, "corp"}, "methods": {s.Passed[0].Method, want.Passed[0].Method}, "key": {s.Passed[0].Key, want.Passed[0].Key},
			"start": {s.Started.UTC(), time.Now().UTC()}, "end": {s.Ends.UTC(), time.Now().Add(12 * time.Hour).UTC()}, "seen": {s.Seen.UTC(), time.Now().UTC()},
		} {
			if got, want := fmt.Sprintf("%+v", pair[0]), fmt.Sprintf("%+v", pair[1]); got != want && name != "principal" {
				t.Errorf("%s: %s, want %s", name, got, want)
			}
		}
		if p := s.Principal; p.String() != "session:corp/alice" || p.ID != "issuer:corp/alice" || p.User != "al" || p.Client != "hub" || !p.HasRole("ops") || !p.HasScope("openid") ||
			p.Method != auth.MethodSession || len(p.Passed) != 1 || p.Passed[0].Authenticator != "corp" || !p.Passed[0].At.Equal(time.Now()) {
			t.Errorf("%+v", p)
		}
		if fresh != "" || !s.Fresh("corp", time.Now()) {
			t.Errorf("a cookie of this moment is made anew: %q", fresh)
		}
	})
}

// The idle time counts from the last use that the cookie knows; it is told at most once a minute. The absolute time counts from the
// login.
func TestSessionsEndByTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		_, cookie := r.login()
		time.Sleep(time.Minute - 1)
		if _, fresh := r.open(cookie); fresh != "" {
			t.Error("the cookie is made anew within a minute")
		}
		time.Sleep(1 * time.Nanosecond)
		s, fresh := r.open(cookie)
		if fresh == "" || fresh == cookie || !s.Seen.Equal(time.Now()) {
			t.Errorf("the use after a minute is not noted: %+v", s)
		}
		time.Sleep(29*time.Minute - 1)
		r.open(cookie)
		time.Sleep(1 * time.Nanosecond)
		r.ended("the former cookie after 30 idle minutes", cookie)
		r.open(fresh)
		time.Sleep(time.Minute)
		r.ended("the new cookie after 30 idle minutes", fresh)

		_, cookie = r.login()
		for range 12*60 - 1 {
			time.Sleep(time.Minute)
			if _, fresh := r.open(cookie); fresh != "" {
				cookie = fresh
			}
		}
		time.Sleep(time.Minute - 1)
		r.open(cookie)
		time.Sleep(1 * time.Nanosecond)
		r.ended("after 12 busy hours", cookie)

		for what, change := range map[string]func(*session.New){
			"after the time that the login said": func(n *session.New) { n.Ends = time.Now().Add(10 * time.Minute) },
			"after the API key has ended":        func(n *session.New) { n.Principal.Until = time.Now().Add(10 * time.Minute) },
		} {
			_, cookie = r.login(change)
			time.Sleep(10*time.Minute - 1)
			r.open(cookie)
			time.Sleep(1 * time.Nanosecond)
			r.ended(what, cookie)
		}
	})
}

// Limits that become shorter hold for the sessions that are there.
func TestShorterLimitsHoldAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		_, cookie := r.login()
		time.Sleep(10 * time.Minute)
		_, fresh := r.open(cookie)
		r.settings = parse(t, strings.Replace(corpSettings, "idle: 30m, absolute: 12h", "idle: 15m, absolute: 15m", 1))
		if s, _ := r.open(fresh); s.Ends.Sub(s.Started) != 15*time.Minute {
			t.Errorf("ends after %s", s.Ends.Sub(s.Started))
		}
		time.Sleep(5 * time.Minute)
		r.ended("absolute", fresh)
		_, cookie = r.login()
		r.settings = parse(t, strings.Replace(corpSettings, "idle: 30m", "idle: 2m", 1))
		time.Sleep(30 * time.Second)
		if _, fresh = r.open(cookie); fresh == "" {
			t.Error("a use that a short idle time needs is not noted")
		}
		time.Sleep(90 * time.Second)
		r.ended("idle", cookie)
		r.open(fresh)
	})
}

func TestWhatEndsASession(t *testing.T) {
	for name, end := range map[string]func(r *rig, s *session.Session) error{
		"logout": func(r *rig, s *session.Session) error { return r.End(r.Context(), "issuer:corp/alice", s.ID) },
		"an operator": func(r *rig, s *session.Session) error {
			_, err := r.service.EndSessions(r.Context(), &hub.EndingSessions{IDs: []hub.SessionID{s.ID}, Reason: hub.SessionOperator})
			return err
		},
		"the end of the principal's access": func(r *rig, _ *session.Session) error {
			_, err := r.service.EndOwner(r.Context(), "issuer:corp/alice", hub.PauseOwnerEnded, nil, "")
			return err
		},
		"the identity provider, by its session": func(r *rig, _ *session.Session) error {
			_, err := r.EndPassed(r.Context(), "corp", session.Key("", "sid-1"))
			return err
		},
		"the identity provider, by the subject": func(r *rig, _ *session.Session) error {
			_, err := r.EndPassed(r.Context(), "corp", session.Key("alice", ""))
			return err
		},
		"the removal of the identity provider": func(r *rig, _ *session.Session) error {
			r.settings = parse(r.T, strings.NewReplacer("  - {name: corp, kind: oidc, issuer: https://idp.example.org, client_id: hub}\n", "", "[corp, ", "[").Replace(corpSettings))
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				s, cookie := r.login()
				_, other := r.login(func(n *session.New) {
					n.Principal.ID, n.Passed[0].Authenticator, n.Passed[0].Key = "issuer:partner/bob", "partner", session.Key("bob", "sid-2")
				})
				if err := end(r, s); err != nil {
					t.Fatal(err)
				}
				r.ended(name, cookie)
				r.open(other)
			})
		})
	}
}

// Nobody ends what is another's, and a logout that repeats is none.
func TestLogoutIsOnesOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s, cookie := r.login()
		if err := r.End(t.Context(), "issuer:partner/bob", s.ID); err != nil {
			t.Error(err)
		}
		if n, err := r.EndPassed(t.Context(), "corp", [16]byte{}); n != 0 || err != nil {
			t.Errorf("a logout token that names nobody ended %d sessions (%v)", n, err)
		}
		if n, err := r.EndPassed(t.Context(), "partner", session.Key("alice", "sid-1")); n != 0 || err != nil {
			t.Errorf("another identity provider ended %d sessions (%v)", n, err)
		}
		r.open(cookie)
		for range 2 {
			if err := r.End(t.Context(), "issuer:corp/alice", s.ID); err != nil {
				t.Error(err)
			}
		}
		r.ended("logout", cookie)
	})
}

func TestLocalAccountsAndKeysEndTheirSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		local := func(n *session.New) {
			n.Principal.ID, n.Principal.Authority, n.Passed[0].Authenticator = "local/root", "emergency", "emergency"
		}
		_, cookie := r.login(local)
		r.open(cookie)
		r.settings = parse(t, strings.Replace(corpSettings, "name: root", "name: admin", 1))
		r.ended("an account that is gone", cookie)
		r.settings = parse(t, corpSettings)
		r.open(cookie)
		r.settings = parse(t, strings.Replace(corpSettings, "enabled: true", "enabled: false", 1))
		r.ended("accounts that are switched off", cookie)
		r.settings = parse(t, corpSettings)

		byKey := func(id string) func(*session.New) {
			return func(n *session.New) { n.Principal.ID, n.Passed[0].Authenticator = "key/"+id, "keys" }
		}
		if err := r.service.CreateAPIKey(t.Context(), hub.APIKey{ID: "0123456789ab", Name: "k", Hash: make([]byte, 32), ExpiresAt: time.Now().Add(5 * time.Minute)}); err != nil {
			t.Fatal(err)
		}
		_, cookie = r.login(byKey("0123456789ab"))
		r.open(cookie)
		time.Sleep(5 * time.Minute)
		r.ended("a key that has expired", cookie)
		_, cookie = r.login(byKey("ffffffffffff"))
		r.ended("a key that is not there", cookie)
	})
}

// Each login and each further step has a secret of its own. A former cookie is worth nothing afterwards, and a step that comes after
// the end brings nothing back.
func TestTheSecretIsRotated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		first, one := r.login()
		time.Sleep(10 * time.Minute)
		before := r.log.Batches()
		second, two := r.login(func(n *session.New) {
			n.Former = first
			n.Passed = append(slices.Clone(first.Passed), session.Passed{Authenticator: "emergency", At: time.Now()})
		})
		if got := r.log.Batches() - before; got != 1 {
			t.Errorf("a further step took %d entries", got)
		}
		r.ended("the cookie before the step", one)
		if s, _ := r.open(two); s.ID == first.ID || !s.Started.Equal(first.Started) || !s.Ends.Equal(first.Ends) || len(s.Passed) != 2 || !second.Ends.Equal(first.Ends) {
			t.Errorf("%+v after %+v", s, first)
		}
		_, three := r.login(func(n *session.New) { n.Former = second }) // all steps anew: another login
		again := time.Now()
		r.ended("the cookie before the login", two)
		s, _ := r.open(three)
		if !s.Started.Equal(again) {
			t.Errorf("a new login counts from %s", s.Started)
		}
		if err := r.End(t.Context(), "issuer:corp/alice", s.ID); err != nil {
			t.Fatal(err)
		}
		if _, cookie, err := r.Start(t.Context(), alice(func(n *session.New) { n.Former, n.Passed = s, s.Passed })); !errors.Is(err, session.ErrEnded) || cookie != "" {
			t.Errorf("a step after the logout: %q, %v", cookie, err)
		}
		r.login(func(n *session.New) { n.Former, n.Passed[0].At = s, time.Now().Add(time.Second) }) // a login after it is one
	})
}

// Cookies open during a rotation of the sealing key, and are sealed with the new key within a minute of use.
func TestCookiesOutliveAKeyRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		_, cookie := r.login()
		old := r.ring.ID()
		if r.log.State().SealedCounts()[old].Sessions != 1 {
			t.Errorf("nobody knows that %s is needed: %v", old, r.log.State().SealedCounts())
		}
		r.ring, _ = keyring.New(keyOf(1), keyOf(0))
		r.open(cookie)
		time.Sleep(time.Minute)
		_, fresh := r.open(cookie)
		r.ring, _ = keyring.New(keyOf(1))
		r.open(fresh)
		var refusal *auth.RefusalError
		if _, _, err := r.Open(t.Context(), cookie); !errors.As(err, &refusal) {
			t.Errorf("a key that nobody knows: %v", err)
		}
		retire := func() hub.Outcome {
			res, err := r.Propose(t.Context(), &hubpb.Event{Kind: &hubpb.Event_SealingKeyRetired{SealingKeyRetired: &hubpb.SealingKeyRetired{Key: old}}})
			if err != nil {
				t.Fatal(err)
			}
			return res[0].Outcome
		}
		if retire() != hub.OutcomeStale {
			t.Error("the key of a session's cookie was retired")
		}
		if _, err := r.service.EndSessions(t.Context(), &hub.EndingSessions{All: true}); err != nil || retire() != hub.OutcomeOK {
			t.Errorf("the key of no session was not retired (%v)", err)
		}
		r.ended("a cookie of a retired key", cookie)
	})
}

// A node that has not applied a login yet waits for it, but not for ever, and not for what began long ago.
func TestASessionOfThisMomentIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.slow = 400 * time.Millisecond
		_, cookie := r.login()
		before := time.Now()
		r.open(cookie)
		if took := time.Since(before); took < 400*time.Millisecond || took > 500*time.Millisecond {
			t.Errorf("waited for %s", took)
		}
		r.slow = 10 * time.Second
		_, cookie = r.login()
		before = time.Now()
		r.ended("a node far behind", cookie)
		if took := time.Since(before); took != time.Second {
			t.Errorf("waited for %s", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		before = time.Now()
		if _, _, err := r.Open(ctx, cookie); err == nil || time.Since(before) > 60*time.Millisecond {
			t.Errorf("the client is gone: %v after %s", err, time.Since(before))
		}
		time.Sleep(5 * time.Second)
		before = time.Now()
		r.ended("not of this moment", cookie)
		if time.Since(before) != 0 {
			t.Errorf("waited for %s", time.Since(before))
		}
		time.Sleep(10 * time.Second)
		r.open(cookie)
	})
}
