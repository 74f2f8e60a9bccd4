package hub_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// grantWorld is a state with a session, as the log folds it.
type grantWorld struct {
	t   *testing.T
	s   *hub.State
	now time.Time
	seq uint64
}

func newGrantWorld(t *testing.T) *grantWorld {
	t.Helper()
	w := &grantWorld{t: t, s: hub.NewState(), now: time.Unix(1_800_000_000, 0)}
	w.apply(levelSet(hub.FeatureLevel))
	w.session(1, "", false)
	return w
}

func (w *grantWorld) apply(e *hubpb.Event) hub.Outcome {
	w.t.Helper()
	p, err := hub.EncodeProposal([]*hubpb.Event{e})
	if err != nil {
		w.t.Fatal(err)
	}
	w.seq++
	var b hub.EntryBuilder
	b.AddBatch("test/1", w.seq, [][]byte{p})
	res, err := w.s.Apply(b.Encode(w.now.UnixNano()), new(hub.Effects))
	if err != nil {
		w.t.Fatal(err)
	}
	w.reload()
	return res[0].Proposals[0][0].Outcome
}

// reload replaces the state by what a node has that starts from its rows.
func (w *grantWorld) reload() {
	w.t.Helper()
	l := hub.NewLoader()
	if err := w.s.Rows(func(k hub.RowKey, v []byte) error { return l.Add(k, v) }); err != nil {
		w.t.Fatal(err)
	}
	s, err := l.State()
	if err != nil {
		w.t.Fatal(err)
	}
	w.s = s
}

func sessionOf(n int) hub.SessionID { return sha256.Sum256([]byte{byte(n)}) }

func (w *grantWorld) session(n int, replaces string, continues bool) {
	w.t.Helper()
	id := sessionOf(n)
	e := &hubpb.SessionStarted{Id: id[:], Principal: "issuer:idp/alice", Ends: w.now.Add(12 * time.Hour).UnixNano(), Continues: continues,
		Passed: []*hubpb.PassedStep{{Authenticator: "idp", At: w.now.UnixNano()}}}
	if replaces != "" {
		e.Replaces = []byte(replaces)
	}
	if o := w.apply(&hubpb.Event{Kind: &hubpb.Event_SessionStarted{SessionStarted: e}}); o != hub.OutcomeOK {
		w.t.Fatalf("session: %v", o)
	}
}

func (w *grantWorld) endSession(n int) {
	w.t.Helper()
	id := sessionOf(n)
	if o := w.apply(&hubpb.Event{Kind: &hubpb.Event_SessionsEnded{SessionsEnded: &hubpb.SessionsEnded{Ids: [][]byte{id[:]}}}}); o != hub.OutcomeOK {
		w.t.Fatalf("end: %v", o)
	}
}

func grantOf(n int) hub.GrantID { return hub.GrantID(bytes.Repeat([]byte{byte(n), byte(n >> 8)}, 8)) }

func (w *grantWorld) use(grant int, generation uint32, session int) hub.Outcome {
	w.t.Helper()
	id, of := grantOf(grant), sessionOf(session)
	e := &hubpb.GrantAdvanced{Grant: id[:], Generation: generation}
	if generation == 0 {
		e.Session, e.Client, e.Until = of[:], "shop", w.now.Add(time.Hour).UnixNano()
	}
	return w.apply(&hubpb.Event{Kind: &hubpb.Event_GrantAdvanced{GrantAdvanced: e}})
}

func (w *grantWorld) lives(grant int) bool {
	_, ok := w.s.Grant(grantOf(grant))
	return ok
}

// A code makes a grant once, and each refresh token renews it once. Whoever uses one again ends the grant, and with it what was issued.
func TestEachTokenOfAGrantIsUsedOnce(t *testing.T) {
	w := newGrantWorld(t)
	for generation := range uint32(4) {
		if o := w.use(1, generation, 1); o != hub.OutcomeOK || !w.lives(1) {
			t.Fatalf("generation %d: got %v", generation, o)
		}
	}
	if g, _ := w.s.Grant(grantOf(1)); g.Session != sessionOf(1) || g.Client != "shop" || g.Generation != 4 {
		t.Errorf("got %+v", g)
	}
	for _, again := range []uint32{0, 1, 3, 9} {
		grant := 10 + int(again)
		for generation := range uint32(4) {
			w.use(grant, generation, 1)
		}
		if o := w.use(grant, again, 1); o != hub.OutcomeStale || w.lives(grant) {
			t.Errorf("generation %d again: got %v, lives %v", again, o, w.lives(grant))
		}
		for _, later := range []uint32{4, 5, 0} {
			if o := w.use(grant, later, 1); o != hub.OutcomeNotFound {
				t.Errorf("generation %d after the reuse: got %v", later, o)
			}
		}
	}
	if o := w.use(99, 1, 1); o != hub.OutcomeNotFound {
		t.Errorf("a refresh token without a code: got %v", o)
	}
}

// A grant ends with its session, and goes on with it when its ID is replaced.
func TestGrantsEndWithTheirSession(t *testing.T) {
	w := newGrantWorld(t)
	w.use(1, 0, 1)
	former := sessionOf(1)
	w.session(2, string(former[:]), true)
	if !w.lives(1) {
		t.Fatal("the grant ended although its session goes on under another ID")
	}
	if o := w.use(1, 1, 1); o != hub.OutcomeOK {
		t.Errorf("refresh after the session's ID was replaced: got %v", o)
	}
	if o := w.use(3, 0, 1); o != hub.OutcomeNotFound {
		t.Errorf("a code of the former ID: got %v", o)
	}
	w.endSession(2)
	if w.lives(1) || w.use(1, 2, 2) != hub.OutcomeNotFound || w.use(1, 0, 2) != hub.OutcomeNotFound {
		t.Error("the grant outlives its session")
	}
	w.session(4, "", false)
	w.use(5, 0, 4)
	w.now = w.now.Add(13 * time.Hour)
	if o := w.use(5, 1, 4); o != hub.OutcomeNotFound || w.lives(5) {
		t.Errorf("after the session's time: got %v", o)
	}
}

// Grants are bounded, in number for a session and in time.
func TestGrantsAreBounded(t *testing.T) {
	w := newGrantWorld(t)
	for i := range hub.MaxSessionGrants + 3 {
		w.now = w.now.Add(time.Second)
		if o := w.use(i, 0, 1); o != hub.OutcomeOK {
			t.Fatalf("grant %d: got %v", i, o)
		}
	}
	for i := range hub.MaxSessionGrants + 3 {
		if w.lives(i) != (i >= 3) {
			t.Errorf("grant %d lives: %v; expected the oldest three to have ended", i, w.lives(i))
		}
	}
	w.now = w.now.Add(time.Hour)
	w.use(200, 0, 1)
	if w.lives(hub.MaxSessionGrants) || !w.lives(200) {
		t.Error("grants outlive their time")
	}
	if o := w.apply(&hubpb.Event{Kind: &hubpb.Event_GrantAdvanced{GrantAdvanced: &hubpb.GrantAdvanced{Grant: []byte("short")}}}); o != hub.OutcomeNotFound {
		t.Errorf("a grant with a bad ID: got %v", o)
	}
	id := grantOf(200)
	w.apply(&hubpb.Event{Kind: &hubpb.Event_GrantsEnded{GrantsEnded: &hubpb.GrantsEnded{Grants: [][]byte{id[:]}}}})
	if w.lives(200) || w.use(200, 0, 1) != hub.OutcomeNotFound {
		t.Error("a grant that was ended goes on, or begins again")
	}
}

func (w *grantWorld) device(n int, code, network string) hub.Outcome {
	id := sha256.Sum256(fmt.Append(nil, "device", n))
	return w.apply(&hubpb.Event{Kind: &hubpb.Event_DeviceRequested{DeviceRequested: &hubpb.DeviceRequested{
		Device: id[:], UserCode: code, Client: "terminal", From: "laptop", Network: network, Until: w.now.Add(10 * time.Minute).UnixNano()}}})
}

func (w *grantWorld) decide(n int, denied bool, session int) hub.Outcome {
	id, of := sha256.Sum256(fmt.Append(nil, "device", n)), sessionOf(session)
	e := &hubpb.DeviceDecided{Device: id[:], Denied: denied}
	if !denied {
		e.Session, e.Ticket = of[:], []byte("{}")
	}
	return w.apply(&hubpb.Event{Kind: &hubpb.Event_DeviceDecided{DeviceDecided: e}})
}

// A program that waits is decided about once, while it waits, and no network takes the place of others.
func TestDevicesAreDecidedAboutOnce(t *testing.T) {
	w := newGrantWorld(t)
	if o := w.device(1, "BCDFGHJK", "192.0.2.1"); o != hub.OutcomeOK {
		t.Fatalf("got %v", o)
	}
	if o := w.device(2, "BCDFGHJK", "192.0.2.2"); o != hub.OutcomeStale {
		t.Errorf("a user code in use: got %v", o)
	}
	if o := w.decide(1, false, 7); o != hub.OutcomeNotFound {
		t.Errorf("for a session that does not exist: got %v", o)
	}
	if o := w.decide(1, false, 1); o != hub.OutcomeOK {
		t.Errorf("got %v", o)
	}
	if o := w.decide(1, true, 1); o != hub.OutcomeNotFound {
		t.Errorf("decided again: got %v", o)
	}
	if d, ok := w.s.DeviceByUserCode("BCDFGHJK"); !ok || !d.Decided || d.Denied || d.Session != sessionOf(1) || string(d.Ticket) != "{}" {
		t.Errorf("got %+v", d)
	}
	for i := range hub.MaxNetworkDevices {
		if o := w.device(10+i, fmt.Sprintf("CODE%04d", i), "192.0.2.3"); o != hub.OutcomeOK {
			t.Fatalf("%d of a network: got %v", i, o)
		}
	}
	if o := w.device(90, "ONEMORE", "192.0.2.3"); o != hub.OutcomeQuota {
		t.Errorf("one more of a network: got %v", o)
	}
	if o := w.device(91, "ANOTHER", "192.0.2.4"); o != hub.OutcomeOK {
		t.Errorf("of another network: got %v", o)
	}
	w.now = w.now.Add(10 * time.Minute)
	if o := w.decide(91, false, 1); o != hub.OutcomeNotFound {
		t.Errorf("after its time: got %v", o)
	}
	if o := w.device(92, "ONEMORE", "192.0.2.3"); o != hub.OutcomeOK {
		t.Errorf("once the others have expired: got %v", o)
	}
	if _, ok := w.s.DeviceByUserCode("CODE0001"); ok {
		t.Error("an expired program is still known")
	}
}
