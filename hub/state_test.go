package hub_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"reflect"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// A batch proposed again after an ambiguous error gets the first result and is not applied again.
func TestRepeatedBatchIsAppliedOnce(t *testing.T) {
	w := newWorld(t)
	data := w.entry(published("news", "a"), published("news", "b"))
	first := w.applyEntry(data)
	hash := w.Hash()
	again := w.applyEntry(data)
	if !reflect.DeepEqual(first, again) || len(w.fx.Messages) != 0 || w.topic("news").Head != 2 {
		t.Errorf("first %+v, again %+v, effects %+v", first, again, w.fx)
	}
	if w.Hash() == hash {
		t.Error("the hash does not count the second entry")
	}
	// The same holds after a restart, in another order, and together with a new batch.
	w.State = reloaded(t, w.State)
	if again := w.applyEntry(data); !reflect.DeepEqual(first, again) {
		t.Errorf("after a restart: %+v", again)
	}
	late, early := entry(t, w.now, "node-2/b", 2, published("news", "2")), entry(t, w.now, "node-2/b", 1, published("news", "1"))
	for _, e := range [][]byte{late, early, late, early} {
		w.applyEntry(e)
	}
	if w.topic("news").Head != 4 {
		t.Errorf("the topic holds %d messages, want 4", w.topic("news").Head)
	}
	// The same sequence number from another boot is another batch.
	if w.applyEntry(entry(t, w.now, "node-1/b", 1, published("news", "x"))); w.topic("news").Head != 5 {
		t.Error("batches of two boots were confused")
	}
}

func TestForgottenBatchIsNotApplied(t *testing.T) {
	w := newWorld(t)
	old := w.entry(published("news", "old"))
	w.applyEntry(old)
	for range 100 {
		w.published("news", 1)
	}
	res := w.applyEntry(old)
	if got := res[0].Proposals[0][0].Outcome; got != hub.OutcomeForgotten || w.topic("news").Head != 101 {
		t.Errorf("outcome %d, head %d", got, w.topic("news").Head)
	}
	if hub.CodeOf(res[0].Proposals[0][0].Err("news")) != hub.CodeUnavailable {
		t.Error("the proposer does not learn that the outcome is unknown")
	}
}

func TestIdleOriginsAreForgotten(t *testing.T) {
	w := newWorld(t)
	w.applyEntry(entry(t, w.now, "node-1/old", 1, published("news", "x")))
	w.advance(25 * time.Hour)
	w.applyEntry(entry(t, w.now, "node-1/new", 1, initialized("c")))
	for k := range w.disk {
		if k.Table == hub.TableOrigin && k.Name != "node-1/new" {
			t.Errorf("the origin %s, silent for a day, is kept", k.Name)
		}
	}
}

func TestClusterIsInitializedOnce(t *testing.T) {
	w := newWorld(t)
	w.apply(initialized("first"))
	if r := w.apply(initialized("second")); r.Outcome != hub.OutcomeStale || w.ClusterID() != "first" {
		t.Errorf("%+v, id %q", r, w.ClusterID())
	}
}

func TestEventsOfOneProposalAreAppliedInOrder(t *testing.T) {
	w := newWorld(t)
	res := w.applyEntry(w.entry(registered("a"), published("a", "1"), registered("a"), deregistered("a"), deregistered("a")))
	want := []hub.Outcome{hub.OutcomeOK, hub.OutcomeOK, hub.OutcomeTopicExists, hub.OutcomeOK, hub.OutcomeNoTopic}
	for i, r := range res[0].Proposals[0] {
		if r.Outcome != want[i] {
			t.Errorf("event %d: outcome %d, want %d", i, r.Outcome, want[i])
		}
	}
}

// An entry that cannot be applied as a whole must change nothing: the node stops there.
func TestInvalidEntriesAreRejected(t *testing.T) {
	w := newWorld(t)
	w.published("news", 1)
	before := rows(t, w.State)
	good := w.entry(published("news", "x"))
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	newer := bytes.Clone(good)
	newer[0] = 2
	unknown, err := hub.EncodeProposal([]*hubpb.Event{published("news", "x"), {}})
	if err != nil {
		t.Fatal(err)
	}
	var b hub.EntryBuilder
	b.AddBatch("node-1/a", 99, [][]byte{unknown})
	for name, tc := range map[string]struct {
		data    []byte
		corrupt bool
	}{
		"empty": {nil, true}, "short": {good[:4], true}, "cut off": {good[:len(good)-1], true}, "a bit flipped": {flipped, true},
		"newer format": {newer, false}, "an event of a newer program": {b.Encode(1), false}, "not protobuf": {withHeader([]byte{0xff, 0xff}), true},
	} {
		_, err := w.Apply(tc.data, &hub.Effects{})
		if err == nil || errors.Is(err, hub.ErrCorrupt) != tc.corrupt {
			t.Errorf("%s: %v", name, err)
		}
		if !bytes.Equal(rows(t, w.State), before) {
			t.Fatalf("%s: the state changed", name)
		}
	}
}

// withHeader makes an entry out of arbitrary bytes.
func withHeader(body []byte) []byte {
	out := append([]byte{1, 0, 0, 0, 0}, body...)
	binary.BigEndian.PutUint32(out[1:], crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
	return out
}

// The builder joins batches without decoding them; the result is what protobuf would encode.
func TestEntryBuilder(t *testing.T) {
	var b hub.EntryBuilder
	p1, err := hub.EncodeProposal([]*hubpb.Event{published("a", "1"), registered("b")})
	if err != nil {
		t.Fatal(err)
	}
	p2, err := hub.EncodeProposal([]*hubpb.Event{initialized("c")})
	if err != nil {
		t.Fatal(err)
	}
	for round := range 2 { // the builder is reusable
		b.AddBatch("node-1/a", 300, [][]byte{p1, p2})
		b.AddBatch("node-2/b", 1, nil)
		got, err := hub.DecodeEntry(b.Encode(-5))
		if err != nil {
			t.Fatal(err)
		}
		want := &hubpb.Entry{Time: -5, Batches: []*hubpb.Batch{
			{Origin: "node-1/a", Seq: 300, Proposals: []*hubpb.Proposal{
				{Events: []*hubpb.Event{published("a", "1"), registered("b")}}, {Events: []*hubpb.Event{initialized("c")}}}},
			{Origin: "node-2/b", Seq: 1}}}
		if !proto.Equal(got, want) {
			t.Errorf("round %d: got %v, want %v", round, got, want)
		}
		if b.Len() != 0 {
			t.Errorf("round %d: %d bytes are left", round, b.Len())
		}
	}
}

func TestRecords(t *testing.T) {
	for _, m := range []hub.Message{
		{Topic: 3, Offset: 4, Time: -1, ContentType: "text/plain", Body: []byte("hello"), LinkSelf: "https://example.com/"},
		{Topic: 3, Offset: 4, Body: []byte("hello"), Headers: []hub.Header{{Name: "X-Hub-Key", Value: "k"}, {Name: "Ce-Subject", Value: ""}, {Name: "X-Github-Event", Value: "push", Carried: true}}},
		{Topic: 3, Offset: 4, Time: 1 << 60, ContentType: "", Body: []byte{}},
	} {
		data := hub.AppendRecord([]byte("before"), &m)[6:]
		if len(data) != hub.RecordSize(&m) {
			t.Errorf("%d bytes, RecordSize says %d", len(data), hub.RecordSize(&m))
		}
		got, err := hub.ParseRecord(3, 4, data)
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("got %+v (%v), want %+v", got, err, m)
		}
		for cut := 1; cut < len(data); cut++ {
			if got, err := hub.ParseRecord(3, 4, data[:cut]); err == nil && reflect.DeepEqual(got, m) {
				t.Errorf("no error when cut at %d of %d", cut, len(data))
			}
		}
	}
}

func TestInconsistentRowsAreRejected(t *testing.T) {
	w := newWorld(t)
	w.subscribed("news", cb, hr, "s")
	for _, missing := range []hub.Table{hub.TableTopic, hub.TableCursor} {
		l := hub.NewLoader()
		err := w.Rows(func(k hub.RowKey, v []byte) error {
			if k.Table == missing {
				return nil
			}
			return l.Add(k, v)
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.State(); !errors.Is(err, hub.ErrCorrupt) {
			t.Errorf("without the rows of table %d: %v", missing, err)
		}
	}
	tables := []hub.Table{hub.TableNode, hub.TableAPIKey, hub.TableAccessRule, hub.TableNonce, hub.TableGroup, hub.TableFailedRequest, hub.TableCallback}
	for table := hub.TableMeta; table <= hub.TableOrigin; table++ {
		tables = append(tables, table)
	}
	for _, table := range tables {
		if err := hub.NewLoader().Add(hub.RowKey{Table: table, ID: 1}, []byte{0xff}); !errors.Is(err, hub.ErrCorrupt) {
			t.Errorf("garbage in table %d: %v", table, err)
		}
	}
	if err := hub.NewLoader().Add(hub.RowKey{Table: 99}, nil); !errors.Is(err, hub.ErrCorrupt) {
		t.Errorf("an unknown table: %v", err)
	}
	for _, key := range [][]byte{nil, {1}, {0, 0, 0, 0, 0, 0, 0, 0, 0}, {99, 0, 0, 0, 0, 0, 0, 0, 0}} {
		if _, err := hub.ParseRowKey(key); !errors.Is(err, hub.ErrCorrupt) {
			t.Errorf("key %x: %v", key, err)
		}
	}
}

// FuzzDecodeEntry: arbitrary log data is rejected or applied but never crashes the program, and the resulting state
// can be written and read back.
func FuzzDecodeEntry(f *testing.F) {
	now := time.Unix(0, 1)
	for _, events := range [][]*hubpb.Event{
		{published("news", "x"), publishedOnce("news", "x", "k")},
		{requested(hub.ModeSubscribe, "news", cb, hr, "s"), verifiedFrom(1, now, 0), published("news", "x"), advanced(1, 1)},
		{registered("a"), deregistered("a"), initialized("c")},
		{requested(hub.ModeSubscribe, "news", cb, hr, ""), verifiedFrom(1, now, 0), assigned(&hubpb.Assignment{Subscription: 1, Node: "a", Drain: true}),
			&hubpb.Event{Kind: &hubpb.Event_DeliveryResumed{DeliveryResumed: &hubpb.DeliveryResumed{Node: "a", Mark: 1}}}},
		{requested(hub.ModeDenied, "news", cb, -1, ""), failed(1), ended(hubpb.EndReason_END_OPERATOR, 1)},
		{requested(hub.ModeSubscribe, "news", cb, hr, ""), verifiedFrom(1, now, 0), published("news", "x"), published("news", "y"), deadLettered(1, 1),
			deadLettered(1, 2), replaying(1, 2), tried(1, 0), tried(2, 1), droppedLetters(2)},
		{published("news", "x"), deadLettered(1, 1), trimmed(1, 1), pinged("news"), fetched(1, 1, hubpb.FetchOutcome_FETCH_CHANGED, "x")},
	} {
		f.Add(entry(f, now, "node-1/a", 1, events...)[5:])
	}
	f.Add([]byte{})
	f.Add([]byte{0x12, 0x02, 0x1a, 0x00})
	f.Fuzz(func(t *testing.T, body []byte) {
		if e, err := hub.DecodeEntry(body); err == nil && e == nil {
			t.Fatal("nothing was decoded")
		}
		data := withHeader(body)
		s := hub.NewState()
		_, err := s.Apply(data, &hub.Effects{})
		if err != nil {
			if len(rows(t, s)) != len(rows(t, hub.NewState())) {
				t.Fatalf("rejected with %v, but applied", err)
			}
			return
		}
		if got, want := rows(t, reloaded(t, s)), rows(t, s); !bytes.Equal(got, want) {
			t.Fatalf("read back differently:\n%q\n%q", got, want)
		}
	})
}
