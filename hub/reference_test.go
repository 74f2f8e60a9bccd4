package hub_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

func referenceKeys(names ...string) hub.ReferenceKeys {
	return func() (out [][]byte) {
		for _, n := range names {
			out = append(out, []byte(strings.Repeat(n, 32)))
		}
		return out
	}
}

func TestTickets(t *testing.T) {
	r := &hub.Reference{Subscription: 7, Offset: 1 << 40, Until: time.Unix(1_800_000_000, 0).UTC(), Uses: 3, SamePrincipal: true}
	ticket, err := referenceKeys("a").Ticket(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, keys := range []hub.ReferenceKeys{referenceKeys("a"), referenceKeys("b", "a")} {
		if got, err := keys.Parse(ticket); err != nil || *got != *r {
			t.Errorf("got %+v, %v", got, err)
		}
	}
	if _, err := referenceKeys("b").Parse(ticket); !errors.Is(err, hub.ErrNoReference) {
		t.Errorf("with another key: %v", err)
	}
	for i := range ticket { // each of its characters counts
		forged := []byte(ticket)
		if forged[i]++; forged[i] == ticket[i] {
			continue
		}
		if got, err := referenceKeys("a").Parse(string(forged)); err == nil {
			t.Errorf("character %d changed: %+v", i, got)
		}
	}
	for _, bad := range []string{"", ticket[1:], ticket + "A", ticket + "=", strings.Repeat("A", len(ticket))} {
		if _, err := referenceKeys("a").Parse(bad); !errors.Is(err, hub.ErrNoReference) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := referenceKeys().Ticket(r); err == nil {
		t.Error("a ticket without keys")
	}
}

// sharing is a topic with one subscription and messages that are given out by reference.
type sharing struct {
	*world
	sub hub.SubscriptionID
}

func newSharing(t *testing.T, messages int) *sharing {
	t.Helper()
	w := newWorld(t)
	w.apply(levelSet(hub.FeatureLevel))
	sub := w.subscribed("reports", "https://s.example/cb", 864000, "")
	w.published("reports", messages)
	w.content(&hubpb.TopicContent{ByReference: true, Uses: 2, ValidFor: int64(time.Hour)})
	return &sharing{w, sub}
}

func (w *world) content(c *hubpb.TopicContent) hub.Result {
	return w.apply(&hubpb.Event{Kind: &hubpb.Event_TopicContentSet{TopicContentSet: &hubpb.TopicContentSet{Topic: "reports", Content: c}}})
}

// fetch takes bytes of the 100 of a message; all of them are no range.
func (s *sharing) fetch(offset, bytes uint64) hub.Outcome {
	s.Helper()
	return s.apply(&hubpb.Event{Kind: &hubpb.Event_SharedContentFetched{SharedContentFetched: &hubpb.SharedContentFetched{Subscription: uint64(s.sub), Offset: offset,
		Uses: 2, Until: s.now.Add(3 * time.Hour).UnixNano(), Bytes: bytes, Size: 100, Range: bytes < 100}}}).Outcome
}

func (s *sharing) wants(what string, got, want hub.Outcome) {
	s.Helper()
	if got != want {
		s.Errorf("%s: outcome %d, want %d", what, got, want)
	}
	s.check()
}

func TestUsesOfAReference(t *testing.T) {
	s := newSharing(t, 2)
	const ok, usedUp = hub.OutcomeOK, hub.OutcomeStale
	s.wants("the first use", s.fetch(1, 100), ok)
	s.wants("what it lacked", s.fetch(1, 60), ok)
	s.wants("and once more", s.fetch(1, 40), ok)
	s.wants("more than the whole again: the second use", s.fetch(1, 1), ok)
	s.wants("the rest of its ranges", s.fetch(1, 99), ok)
	s.wants("and once more", s.fetch(1, 99), ok)
	s.wants("more than twice the whole", s.fetch(1, 2), usedUp)
	s.wants("the last byte", s.fetch(1, 1), ok)
	s.wants("a third use", s.fetch(1, 100), usedUp)
	s.wants("another message", s.fetch(2, 100), ok)
	s.now = s.now.Add(time.Hour - time.Second)
	s.wants("another message, ranges", s.fetch(2, 50), ok)
	s.now = s.now.Add(time.Second)
	s.wants("an hour later: the second use", s.fetch(2, 50), ok)
	s.now = s.now.Add(time.Hour)
	s.wants("another hour later", s.fetch(2, 50), usedUp)
	s.wants("no such message", s.fetch(3, 100), hub.OutcomeNotFound)
}

// A reference ends with its time, its subscription, its topic and its revocation, and what was counted is forgotten.
func TestEndsOfReferences(t *testing.T) {
	const ok, gone = hub.OutcomeOK, hub.OutcomeNotFound
	revoke := func(s *sharing, offset uint64, owner string) hub.Outcome {
		return s.apply(&hubpb.Event{Kind: &hubpb.Event_SharedContentRevoked{SharedContentRevoked: &hubpb.SharedContentRevoked{Topic: "reports", Offset: offset, Owner: owner}}}).Outcome
	}
	s := newSharing(t, 4)
	s.wants("fetched", s.fetch(1, 100), ok)
	s.wants("revoked", revoke(s, 1, ""), ok)
	s.wants("revoked twice", revoke(s, 1, ""), ok)
	s.wants("after it was revoked", s.fetch(1, 100), gone)
	s.wants("the next one", s.fetch(2, 100), ok)
	s.wants("the settings do not bring it back", s.content(&hubpb.TopicContent{ByReference: true, Uses: 5, ValidFor: int64(time.Hour)}).Outcome, ok)
	s.wants("after the settings", s.fetch(1, 100), gone)
	s.wants("revoked by somebody else", revoke(s, 2, "somebody"), hub.OutcomeNotOwner)
	s.wants("revoked before there is one", revoke(s, 5, ""), gone)
	s.wants("all revoked", revoke(s, 0, ""), ok)
	s.wants("after all were revoked", s.fetch(3, 100), gone)
	s.published("reports", 1)
	s.wants("a newer one", s.fetch(5, 100), ok)

	s.apply(&hubpb.Event{Kind: &hubpb.Event_SubscriptionsEnded{SubscriptionsEnded: &hubpb.SubscriptionsEnded{Subscriptions: []uint64{uint64(s.sub)}, Reason: hubpb.EndReason_END_OPERATOR}}})
	s.wants("after the end of the subscription", s.fetch(5, 100), gone)
	if n := s.rows(hub.TableFetched); n != 0 {
		t.Errorf("%d rows are left of a subscription that has ended", n)
	}

	s = newSharing(t, 2)
	s.fetch(1, 100)
	s.now = s.now.Add(3*time.Hour + time.Second)
	s.wants("another one, after the end of the first", s.fetch(2, 100), ok)
	if n := s.rows(hub.TableFetched); n != 1 {
		t.Errorf("%d rows, want 1: the first has ended", n)
	}
}

// rows counts the rows of a table.
func (w *world) rows(table hub.Table) (n int) {
	w.Helper()
	if err := w.Rows(func(k hub.RowKey, _ []byte) error {
		if k.Table == table {
			n++
		}
		return nil
	}); err != nil {
		w.Fatal(err)
	}
	return n
}

// check compares the state with what its rows make.
func (s *sharing) check() {
	s.Helper()
	l := hub.NewLoader()
	rows := map[string][]byte{}
	if err := s.Rows(func(k hub.RowKey, v []byte) error {
		rows[string(k.Append(nil))] = v
		return l.Add(k, v)
	}); err != nil {
		s.Fatal(err)
	}
	loaded, err := l.State()
	if err != nil {
		s.Fatal(err)
	}
	if err := loaded.Rows(func(k hub.RowKey, v []byte) error {
		if !bytes.Equal(rows[string(k.Append(nil))], v) {
			s.Errorf("row %v differs after loading", k)
		}
		delete(rows, string(k.Append(nil)))
		return nil
	}); err != nil || len(rows) > 0 {
		s.Errorf("%d rows are lost by loading (%v)", len(rows), err)
	}
	for k := range rows {
		s.Errorf("row %x", k)
	}
}

func TestTopicContentsFollowsTheLog(t *testing.T) {
	s := newSharing(t, 1)
	contents := hub.NewTopicContents(viewOf{s.State})
	if c := contents.Of(1); !c.References() || c.Uses != 2 {
		t.Errorf("got %+v", c)
	}
	s.content(nil)
	contents.Applied(&hub.Effects{Content: []hub.TopicID{1}})
	if c := contents.Of(1); c != nil {
		t.Errorf("got %+v, want none", c)
	}
}

type viewOf struct{ s *hub.State }

func (v viewOf) View(f func(*hub.State)) { f(v.s) }
