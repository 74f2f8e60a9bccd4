package hub_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// A full table refuses new logins with a word about when to try again, lets sessions that are there go on, and empties.
func TestAFullTableOfSessions(t *testing.T) {
	w := newTenants(t)
	s := hub.NewState()
	seq := uint64(0)
	apply := func(events ...*hubpb.Event) []hub.Result {
		seq++
		res, err := s.Apply(entry(t, w.now, "node-1/a", seq, events...), new(hub.Effects))
		if err != nil {
			t.Fatal(err)
		}
		return res[0].Proposals[0]
	}
	apply(levelSet(hub.FeatureLevel))
	started := func(n int, ends time.Duration) *hubpb.Event {
		id := sessionIDOf(n)
		return &hubpb.Event{Kind: &hubpb.Event_SessionStarted{SessionStarted: &hubpb.SessionStarted{Id: id[:], Principal: fmt.Sprint("issuer:corp/", n), Ends: w.now.Add(ends).UnixNano()}}}
	}
	for n := 0; n < hub.MaxSessions; n += 1000 {
		var batch []*hubpb.Event
		for i := range 1000 {
			batch = append(batch, started(n+i, time.Duration(1+n/1000)*time.Minute))
		}
		apply(batch...)
	}
	if r := apply(started(hub.MaxSessions, time.Hour)); r[0].Outcome != hub.OutcomeFull || s.Counts().Sessions != hub.MaxSessions {
		t.Fatalf("%+v, %d sessions", r[0], s.Counts().Sessions)
	}
	further := started(hub.MaxSessions, time.Hour)
	old := sessionIDOf(5)
	further.GetSessionStarted().Replaces = old[:]
	if r := apply(further); r[0].Outcome != hub.OutcomeOK || s.Counts().Sessions != hub.MaxSessions {
		t.Errorf("one in place of another: %+v", r[0])
	}
	w.now = w.now.Add(time.Minute)
	if r := apply(started(hub.MaxSessions+1, time.Hour)); r[0].Outcome != hub.OutcomeOK || s.Counts().Sessions != hub.MaxSessions-1000+2 {
		t.Errorf("when some have ended: %+v, %d sessions", r[0], s.Counts().Sessions)
	}
	if r := apply(&hubpb.Event{Kind: &hubpb.Event_SessionsEnded{SessionsEnded: &hubpb.SessionsEnded{All: true}}}); r[0].ID != hub.MaxSessions-1000+2 || s.Counts().Sessions != 0 {
		t.Errorf("%+v, %d sessions", r[0], s.Counts().Sessions)
	}
}

// Lists come in pages, each of which looks at few sessions, and miss none.
func TestSessionsAreListedInPages(t *testing.T) {
	w := newTenants(t)
	const count = 10_000
	var events []*hubpb.Event
	for n := range count {
		id, who, by := sessionIDOf(n), fmt.Sprint("issuer:corp/", n/40), "corp"
		if n%1000 == 0 {
			by = "partner"
		}
		events = append(events, &hubpb.Event{Kind: &hubpb.Event_SessionStarted{SessionStarted: &hubpb.SessionStarted{Id: id[:], Principal: who,
			Passed: []*hubpb.PassedStep{{Authenticator: by}}, Ends: w.now.Add(time.Hour).UnixNano()}}})
	}
	s := hub.NewState()
	if _, err := s.Apply(entry(t, w.now, "node-1/a", 1, events...), new(hub.Effects)); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		f                 hub.SessionFilter
		max, found, pages int
	}{
		"all":                 {hub.SessionFilter{}, 100, count, count / 100},
		"of a principal":      {hub.SessionFilter{Principal: "issuer:corp/7"}, 30, 40, 2},
		"of nobody":           {hub.SessionFilter{Principal: "issuer:corp/x"}, 30, 0, 1},
		"of an authenticator": {hub.SessionFilter{Authenticator: "partner"}, 100, 10, 3}, // three looks at a part of all
		"of both":             {hub.SessionFilter{Principal: "issuer:corp/0", Authenticator: "partner"}, 100, 1, 1},
		"of an unknown one":   {hub.SessionFilter{Authenticator: "x"}, 100, 0, 3},
	} {
		var after hub.SessionID
		seen, pages := []string{}, 0
		for more := true; more; pages++ {
			var page []hub.Session
			page, after, more = s.Sessions(tc.f, after, tc.max)
			for _, one := range page {
				seen = append(seen, string(one.ID[:]))
			}
		}
		if !slices.IsSorted(seen) || len(slices.Compact(seen)) != tc.found || pages != tc.pages {
			t.Errorf("%s: %d sessions on %d pages", name, len(seen), pages)
		}
	}
	id := sessionIDOf(77)
	if got := s.SessionsByPrefix(id[:6]); len(got) != 1 || got[0].ID != id {
		t.Errorf("by prefix: %v", got)
	}
	if got := s.SessionsByPrefix(id[:1]); len(got) != 2 {
		t.Errorf("by one byte: %d", len(got))
	}
}

func TestALoginIsContinuedOnce(t *testing.T) {
	w := newTenants(t)
	state := sha256.Sum256([]byte("state"))
	for i := range 3 {
		fresh, err := w.ClaimLogin(as(""), state, "192.0.2.1", w.now.Add(10*time.Minute))
		if err != nil || fresh != (i == 0) {
			t.Errorf("claim %d: %v, %v", i, fresh, err)
		}
	}
	w.State = reloaded(t, w.State)
	if fresh, _ := w.ClaimLogin(as(""), state, "192.0.2.9", w.now.Add(10*time.Minute)); fresh {
		t.Error("fresh after a restart, from another network")
	}
	w.advance(11 * time.Minute)
	if fresh, _ := w.ClaimLogin(as(""), state, "192.0.2.1", w.now.Add(-time.Minute)); fresh {
		t.Error("fresh after its time")
	}
	if _, err := w.ClaimLogin(as(""), state, strings.Repeat("x", 65), w.now.Add(time.Minute)); hub.CodeOf(err) != hub.CodeInvalid {
		t.Errorf("a client of 65 bytes: %v", err)
	}
}

// Strangers who log in without end keep neither others from logging in nor signed requests from being accepted.
func TestLoginsOfStrangersCrowdNobodyOut(t *testing.T) {
	w := newTenants(t)
	n := 0
	claim := func(client string) error {
		n++
		_, err := w.ClaimLogin(as(""), sha256.Sum256(fmt.Append(nil, n)), client, w.now.Add(10*time.Minute))
		return err
	}
	var refused error
	for refused == nil && n < 1000 {
		refused = claim("192.0.2.1")
	}
	var e *hub.Error
	if !errors.As(refused, &e) || e.Code != hub.CodeLimited || e.Quota.Quota != hub.QuotaLogins || e.RetryAfter <= 0 || n != 301 {
		t.Fatalf("after %d: %v", n, refused)
	}
	seq := w.seq
	if err := claim("192.0.2.1"); err == nil || w.seq != seq {
		t.Error("a refused login writes to the log")
	}
	if err := claim("192.0.2.2"); err != nil {
		t.Errorf("another network: %v", err)
	}
	// The fold itself: many networks, minute after minute.
	s, seq := hub.NewState(), uint64(0)
	apply := func(events ...*hubpb.Event) []hub.Result {
		seq++
		res, err := s.Apply(entry(t, w.now, "node-1/a", seq, events...), new(hub.Effects))
		if err != nil {
			t.Fatal(err)
		}
		return res[0].Proposals[0]
	}
	nonce := func(client string, login bool) *hubpb.Event {
		n++
		sum := sha256.Sum256(fmt.Append(nil, n))
		return by(client, &hubpb.Event{Kind: &hubpb.Event_NonceClaimed{NonceClaimed: &hubpb.NonceClaimed{Nonce: sum[:], Until: w.now.Add(10 * time.Minute).UnixNano(), Login: login}}})
	}
	for network := range 25 {
		var batch []*hubpb.Event
		for range hub.MaxLogins / 20 {
			batch = append(batch, nonce(fmt.Sprint("network/", network), true))
		}
		apply(batch...)
	}
	s = reloaded(t, s)
	if r := apply(nonce("network/fresh", true)); r[0].Outcome != hub.OutcomeOK {
		t.Errorf("a network that has not logged in: %+v", r[0])
	}
	if r := apply(nonce("network/0", true)); r[0].Outcome != hub.OutcomeQuota {
		t.Errorf("a network that has logged in often: %+v", r[0])
	}
	for range 100 {
		if r := apply(nonce(bob, false)); r[0].Outcome != hub.OutcomeOK {
			t.Fatalf("a signed request: %+v", r[0])
		}
	}
	w.now = w.now.Add(11 * time.Minute)
	if r := apply(nonce("network/0", true)); r[0].Outcome != hub.OutcomeOK {
		t.Errorf("later: %+v", r[0])
	}
}
