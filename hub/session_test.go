package hub_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

func sessionIDOf(n int) hub.SessionID { return sha256.Sum256(fmt.Append(nil, "session ", n)) }

// stepKey returns the key of a step: the principal's half, and that of a session at the identity provider.
func stepKey(principal string, session int) (key [16]byte) {
	if principal != "" {
		key[0], key[7] = principal[0], byte(len(principal))
	}
	key[15] = byte(session)
	return key
}

// login returns a login that ends in twelve hours.
func (w *world) login(principal string, n int, change ...func(*hub.NewSession)) *hub.NewSession {
	s := &hub.NewSession{Session: hub.Session{ID: sessionIDOf(n), Principal: principal, Name: "Alice Example", Client: "Firefox on Linux", SealedWith: "01020304",
		Passed: []hub.PassedStep{{Authenticator: "corp", At: w.now, Key: stepKey(principal, n)}}, Ends: w.now.Add(12 * time.Hour)}}
	for _, f := range change {
		f(s)
	}
	return s
}

func (w *tenants) mustLogin(principal string, n int, change ...func(*hub.NewSession)) hub.SessionID {
	w.world.Helper()
	if _, err := w.StartSession(as(""), w.login(principal, n, change...)); err != nil {
		w.world.Fatal(err)
	}
	return sessionIDOf(n)
}

// active returns the numbers of the sessions, of at most 100, that have not ended, now and after a restart.
func (w *tenants) active() (out []int) {
	w.world.Helper()
	again := reloaded(w.world, w.State)
	for n := range 100 {
		one, ok := w.Session(sessionIDOf(n))
		if other, there := again.Session(sessionIDOf(n)); there != ok || !reflect.DeepEqual(one, other) {
			w.world.Errorf("session %d is %+v after a restart, was %+v", n, other, one)
		}
		if ok {
			out = append(out, n)
		}
	}
	return out
}

// told returns what hub.events says about sessions: type, session, how many, reason and principal.
func (w *tenants) told() (out []string) {
	w.world.Helper()
	for _, m := range w.fx.Messages {
		var e hub.Lifecycle
		if err := json.Unmarshal(m.Body, &e); err != nil {
			w.world.Fatal(err)
		}
		if strings.Contains(string(m.Body), `"topic"`) || strings.Contains(string(m.Body), `"callback"`) || e.Time == "" {
			w.world.Errorf("%s", m.Body)
		}
		out = append(out, strings.Join(strings.Fields(fmt.Sprint(e.Type, " ", e.Session, " ", e.Sessions, " ", e.Reason, " ", e.Owner)), " "))
	}
	return out
}

func TestASessionIsKnownUntilItEnds(t *testing.T) {
	w := newTenants(t)
	w.apply(registered(hub.EventsTopic))
	id := w.mustLogin(alice, 1)
	first := id.String()
	if len(first) != 12 || !slices.Equal(w.told(), []string{"session.started " + first + " 1 " + alice}) {
		t.Errorf("told %q", w.told())
	}
	want := w.login(alice, 1).Session
	want.Started = w.now
	if got, ok := w.Session(id); !ok || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	w.advance(12*time.Hour - 1)
	w.apply(published("news", "x"))
	if !slices.Equal(w.active(), []int{1}) {
		t.Error("it ended before its time")
	}
	w.advance(1)
	w.apply(published("news", "x")) // whatever moves the log's clock
	if len(w.active()) != 0 || w.Counts().Sessions != 0 {
		t.Error("it has not ended at its time")
	}
}

func TestSessionsEnd(t *testing.T) {
	for name, tc := range map[string]struct {
		end  func(w *tenants) (int, error)
		left []int
		told string // what hub.events says, after session.ended
	}{
		"logout": {func(w *tenants) (int, error) {
			return w.EndSessions(as(alice), &hub.EndingSessions{IDs: []hub.SessionID{sessionIDOf(1)}, Owner: alice, Reason: hub.SessionLogout})
		}, []int{2, 3, 4}, sessionIDOf(1).String() + " 1 logout " + alice},
		"of a principal": {func(w *tenants) (int, error) {
			return w.EndSessions(as(""), &hub.EndingSessions{Filter: hub.SessionFilter{Principal: alice}, Reason: hub.SessionOperator})
		}, []int{3, 4}, "2 operator"},
		"of an authenticator": {func(w *tenants) (int, error) {
			return w.EndSessions(as(""), &hub.EndingSessions{Filter: hub.SessionFilter{Authenticator: "partner"}, Reason: hub.SessionOperator})
		}, []int{1, 2, 4}, sessionIDOf(3).String() + " 1 operator " + bob},
		"by the identity provider's session": {func(w *tenants) (int, error) {
			return w.EndSessions(as(""), &hub.EndingSessions{Filter: hub.SessionFilter{Authenticator: "corp", Key: stepKey("", 2)}, Reason: hub.SessionProvider})
		}, []int{1, 3, 4}, sessionIDOf(2).String() + " 1 provider " + alice},
		"by subject and session there": {func(w *tenants) (int, error) {
			return w.EndSessions(as(""), &hub.EndingSessions{Filter: hub.SessionFilter{Authenticator: "corp", Key: stepKey(alice, 2)}, Reason: hub.SessionProvider})
		}, []int{1, 3, 4}, sessionIDOf(2).String() + " 1 provider " + alice},
		"by the subject there": {func(w *tenants) (int, error) {
			return w.EndSessions(as(""), &hub.EndingSessions{Filter: hub.SessionFilter{Authenticator: "corp", Key: stepKey(alice, 0)}, Reason: hub.SessionProvider})
		}, []int{3, 4}, "2 provider"},
		"all": {func(w *tenants) (int, error) {
			return w.EndSessions(as(""), &hub.EndingSessions{All: true, Reason: hub.SessionOperator})
		}, nil, "4 operator"},
		"of an API key that is revoked": {func(w *tenants) (int, error) {
			_, err := w.RevokeAPIKey(as(operator), "4", "", false)
			return 1, err
		}, []int{1, 2, 3}, sessionIDOf(4).String() + " 1 key_revoked key/4"},
		"of a principal whose access has ended": {func(w *tenants) (int, error) {
			_, err := w.EndOwner(as(operator), alice, hub.PauseOwnerEnded, nil, "")
			return 2, err
		}, []int{3, 4}, "2 owner_ended"},
		"of an API key that expires": {func(w *tenants) (int, error) {
			w.advance(time.Hour)
			w.apply(&hubpb.Event{Kind: &hubpb.Event_ApiKeysExpired{ApiKeysExpired: &hubpb.ApiKeysExpired{Ids: []string{"4"}}}})
			return 1, nil
		}, []int{1, 2, 3}, sessionIDOf(4).String() + " 1 owner_ended key/4"},
		"of a backup that is restored": {func(w *tenants) (int, error) {
			w.apply(&hubpb.Event{Kind: &hubpb.Event_NewClusterForced{NewClusterForced: &hubpb.NewClusterForced{ClusterId: "new", FormerClusterId: "old", Node: "node-1"}}})
			return 4, nil
		}, nil, "4 new_cluster"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newTenants(t)
			w.apply(initialized("old"))
			w.apply(registered(hub.EventsTopic))
			w.apply(keyCreated("4", w.now.Add(time.Hour)))
			w.mustLogin(alice, 1)
			w.mustLogin(alice, 2)
			w.mustLogin(bob, 3, func(s *hub.NewSession) { s.Passed[0].Authenticator, s.Passed[0].Key = "partner", stepKey(alice, 2) })
			w.mustLogin("key/4", 4, func(s *hub.NewSession) { s.Passed[0].Authenticator, s.Passed[0].Key = "key", [16]byte{} })
			n, err := tc.end(w)
			if err != nil || n != 4-len(tc.left) || !slices.Equal(w.active(), tc.left) {
				t.Errorf("%d have ended (%v), left are %v", n, err, w.active())
			}
			if got := w.told(); !slices.Equal(got, []string{"session.ended " + tc.told}) {
				t.Errorf("told %q", got)
			}
		})
	}
}

// A session that somebody else could end is not ended, and a pause for a missing rule logs nobody out.
func TestSessionsThatDoNotEnd(t *testing.T) {
	w := newTenants(t)
	id := w.mustLogin(alice, 1)
	for name, e := range map[string]*hub.EndingSessions{
		"another's":             {IDs: []hub.SessionID{id}, Owner: bob},
		"another's principal":   {Filter: hub.SessionFilter{Principal: alice}, Owner: bob},
		"unknown":               {IDs: []hub.SessionID{sessionIDOf(2)}},
		"another authenticator": {Filter: hub.SessionFilter{Authenticator: "partner", Key: stepKey(alice, 1)}},
		"another session there": {Filter: hub.SessionFilter{Authenticator: "corp", Key: stepKey(alice, 2)}},
		"another key":           {Filter: hub.SessionFilter{Authenticator: "corp", Key: stepKey(bob, 1)}},
	} {
		if n, err := w.EndSessions(as(""), e); hub.CodeOf(err) != hub.CodeNotFound || n != 0 {
			t.Errorf("%s: %d, %v", name, n, err)
		}
	}
	for name, e := range map[string]*hub.EndingSessions{
		"nothing":  {},
		"two ways": {All: true, Filter: hub.SessionFilter{Principal: alice}},
		"too many": {IDs: make([]hub.SessionID, hub.MaxEndedSessions+1)},
	} {
		if _, err := w.EndSessions(as(""), e); hub.CodeOf(err) != hub.CodeInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := w.EndOwner(as(operator), alice, hub.PauseNotAllowed, nil, ""); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(w.active(), []int{1}) {
		t.Error("the session has ended")
	}
}

// A login replaces the browser's former session, and a further step lets it go on under another ID; neither extends it.
func TestASessionIsReplaced(t *testing.T) {
	w := newTenants(t)
	w.apply(registered(hub.EventsTopic))
	start := w.now
	first := w.mustLogin(alice, 1)
	w.advance(time.Hour)
	further := func(from hub.SessionID) func(*hub.NewSession) {
		return func(s *hub.NewSession) { s.Replaces, s.Continues = from, true }
	}
	second := w.mustLogin(alice, 2, further(first))
	if one, _ := w.Session(second); !one.Started.Equal(start) || !one.Ends.Equal(start.Add(12*time.Hour)) || !slices.Equal(w.active(), []int{2}) || len(w.told()) != 0 {
		t.Errorf("%+v of %v, told %q", one, w.active(), w.told())
	}
	for name, n := range map[string]*hub.NewSession{
		"one that has ended": w.login(alice, 3, further(first)),
		"another's":          w.login(bob, 3, further(second)),
	} {
		if _, err := w.StartSession(as(""), n); hub.CodeOf(err) != hub.CodeNotFound || !slices.Equal(w.active(), []int{2}) {
			t.Errorf("%s: %v, %v", name, err, w.active())
		}
	}
	w.mustLogin(bob, 4, func(s *hub.NewSession) { s.Replaces = second })
	if want := []string{"session.ended " + second.String() + " 1 replaced " + alice, "session.started " + sessionIDOf(4).String() + " 1 " + bob}; !slices.Equal(w.active(), []int{4}) || !slices.Equal(w.told(), want) {
		t.Errorf("%v, told %q", w.active(), w.told())
	}
	w.mustLogin(alice, 5, func(s *hub.NewSession) { s.Replaces = second }) // it has ended: no matter
	if !slices.Equal(w.active(), []int{4, 5}) {
		t.Error(w.active())
	}
}

func TestAPrincipalHasSoManySessions(t *testing.T) {
	w := newTenants(t)
	w.apply(registered(hub.EventsTopic))
	few := func(s *hub.NewSession) { s.MaxOfPrincipal = 3 }
	w.mustLogin(bob, 9)
	for n := range 5 {
		ended, err := w.StartSession(as(""), w.login(alice, n, few))
		if want := max(0, n-2) - max(0, n-3); err != nil || ended != want {
			t.Errorf("login %d ended %d (%v)", n, ended, err)
		}
		if got := w.told(); n > 2 && (len(got) != 2 || got[0] != "session.ended "+sessionIDOf(n-3).String()+" 1 limit "+alice) {
			t.Errorf("told %q", got)
		}
		w.advance(time.Second)
	}
	if got := w.active(); !slices.Equal(got, []int{2, 3, 4, 9}) {
		t.Errorf("left are %v", got)
	}
	// A further step takes no place of another session.
	if _, err := w.StartSession(as(""), w.login(alice, 5, few, func(s *hub.NewSession) { s.Replaces, s.Continues = sessionIDOf(3), true })); err != nil || !slices.Equal(w.active(), []int{2, 4, 5, 9}) {
		t.Errorf("%v, %v", err, w.active())
	}
}

func TestSessionsAreBounded(t *testing.T) {
	w := newTenants(t)
	for name, change := range map[string]func(*hub.NewSession){
		"no principal":               func(s *hub.NewSession) { s.Principal = "" },
		"a name that is too long":    func(s *hub.NewSession) { s.Name = strings.Repeat("x", hub.MaxSessionText+1) },
		"a name that is not UTF-8":   func(s *hub.NewSession) { s.Name = "\xff" },
		"control characters":         func(s *hub.NewSession) { s.Client = "a\nb" },
		"no steps":                   func(s *hub.NewSession) { s.Passed = nil },
		"too many steps":             func(s *hub.NewSession) { s.Passed = make([]hub.PassedStep, hub.MaxPassedSteps+1) },
		"a step of no authenticator": func(s *hub.NewSession) { s.Passed[0].Authenticator = "" },
	} {
		if _, err := w.StartSession(as(""), w.login(alice, 1, change)); hub.CodeOf(err) != hub.CodeInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := w.StartSession(as(""), w.login(alice, 1, func(s *hub.NewSession) { s.Ends = w.now })); err == nil {
		t.Error("a session that has ended already")
	}
	w.mustLogin(alice, 1)
	if _, err := w.StartSession(as(""), w.login(bob, 1)); err == nil {
		t.Error("the same ID twice")
	}
	if len(w.active()) != 1 {
		t.Error(w.active())
	}
}

// A sealing key is not retired while cookies may be sealed with it, and none is accepted afterwards.
func TestASealingKeyOfCookiesIsNotRetired(t *testing.T) {
	w := newTenants(t)
	retire := func() hub.Outcome {
		return w.apply(&hubpb.Event{Kind: &hubpb.Event_SealingKeyRetired{SealingKeyRetired: &hubpb.SealingKeyRetired{Key: "01020304"}}}).Outcome
	}
	w.mustLogin(alice, 1)
	if c := w.SealedCounts()["01020304"]; c.Sessions != 1 || c.Total() != 0 || slices.Contains(w.NeededKeys(), "01020304") {
		t.Errorf("%+v: a node without the key can go on", c)
	}
	if o := retire(); o != hub.OutcomeStale {
		t.Errorf("retired while a session needs it: %d", o)
	}
	w.advance(12 * time.Hour)
	if o := retire(); o != hub.OutcomeOK {
		t.Errorf("not retired after the session: %d", o)
	}
	_, err := w.StartSession(as(""), w.login(alice, 2))
	if hub.CodeOf(err) != hub.CodeUnavailable || len(w.active()) != 0 {
		t.Errorf("a cookie with a retired key: %v", err)
	}
}

// Programs of the former release stop at these events, so none is written before every member knows them.
func TestSessionsNeedTheirLevel(t *testing.T) {
	id := sessionIDOf(1)
	for _, e := range []*hubpb.Event{
		{Kind: &hubpb.Event_SessionStarted{SessionStarted: &hubpb.SessionStarted{Id: id[:]}}},
		{Kind: &hubpb.Event_SessionsEnded{SessionsEnded: &hubpb.SessionsEnded{All: true}}},
		{Kind: &hubpb.Event_NonceClaimed{NonceClaimed: &hubpb.NonceClaimed{Login: true}}},
	} {
		if got := hub.LevelOf(e); got != 4 {
			t.Errorf("%s requires level %d", hub.EventName(e), got)
		}
	}
	if got := hub.LevelOf(&hubpb.Event{Kind: &hubpb.Event_NonceClaimed{NonceClaimed: &hubpb.NonceClaimed{}}}); got != 1 {
		t.Errorf("the nonce of a signed request requires level %d", got)
	}
}

// anySessionEvent draws an event about one of few sessions of few principals.
func anySessionEvent(t *rapid.T, s *hub.State, now time.Time) *hubpb.Event {
	id := func(name string) []byte {
		sum := sessionIDOf(rapid.IntRange(0, 12).Draw(t, name))
		return sum[:]
	}
	principal := rapid.SampledFrom([]string{alice, bob, hub.KeyPrincipal("k1")})
	key := rapid.SampledFrom([][]byte{nil, []byte("0123456789abcdef"), []byte("01234567xxxxxxxx"), []byte("01234567\x00\x00\x00\x00\x00\x00\x00\x00"), []byte("\x00\x00\x00\x00\x00\x00\x00\x00xxxxxxxx"), []byte("another key 1234")})
	authenticator := rapid.SampledFrom([]string{"corp", "partner"})
	switch rapid.IntRange(0, 9).Draw(t, "kind of session event") {
	case 0, 1, 2, 3, 4:
		e := &hubpb.SessionStarted{Id: id("id"), Principal: principal.Draw(t, "principal"), Name: "A", Client: "B", SealedWith: rapid.Uint32Range(0, 2).Draw(t, "sealed with"),
			Ends: now.Add(time.Duration(rapid.IntRange(0, 600).Draw(t, "ends")) * time.Second).UnixNano(), MaxSessions: rapid.Uint32Range(0, 3).Draw(t, "max")}
		for range rapid.IntRange(0, 2).Draw(t, "steps") {
			e.Passed = append(e.Passed, &hubpb.PassedStep{Authenticator: authenticator.Draw(t, "authenticator"), At: now.UnixNano(), Key: key.Draw(t, "key")})
		}
		if rapid.Bool().Draw(t, "replaces") {
			e.Replaces, e.Continues = id("replaces"), rapid.Bool().Draw(t, "continues")
		}
		return &hubpb.Event{Kind: &hubpb.Event_SessionStarted{SessionStarted: e}}
	case 5, 6:
		return &hubpb.Event{Kind: &hubpb.Event_SessionsEnded{SessionsEnded: rapid.SampledFrom([]*hubpb.SessionsEnded{
			{Ids: [][]byte{id("a"), id("b")}, Owner: rapid.SampledFrom([]string{"", alice}).Draw(t, "owner")},
			{Principal: principal.Draw(t, "of")}, {Authenticator: authenticator.Draw(t, "by"), Key: key.Draw(t, "with")}, {All: true}}).Draw(t, "ended")}}
	case 7:
		return registered(hub.EventsTopic)
	case 8:
		n := []byte{byte(rapid.IntRange(0, 20).Draw(t, "nonce"))}
		return by("network/1", &hubpb.Event{Kind: &hubpb.Event_NonceClaimed{NonceClaimed: &hubpb.NonceClaimed{Nonce: n, Until: now.Add(time.Minute).UnixNano(), Login: rapid.Bool().Draw(t, "login")}}})
	}
	return anyOwnedEvent(t, s, now)
}

// Invariant I6 with sessions.
func TestSessionsAreTheFoldOfTheirEntriesI6(t *testing.T) { checkFold(t, anySessionEvent) }
