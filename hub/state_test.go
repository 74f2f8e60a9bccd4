package hub_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"maps"
	"reflect"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

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
		{Topic: 3, Offset: 4, Body: []byte("hello"), Headers: []hub.Header{{Name: "X-Hub-Key", Value: "k"}, {Name: "Ce-Subject", Value: ""}}},
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
	tables := []hub.Table{hub.TableNode, hub.TableAPIKey, hub.TableAccessRule, hub.TableNonce, hub.TableGroup}
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

// anyEvent draws an event that may or may not fit the state: IDs, offsets and names come from a small set, and half
// of the requests are really pending.
func anyEvent(t *rapid.T, s *hub.State, now time.Time) *hubpb.Event {
	topic := rapid.SampledFrom([]string{"news", "other", "https://example.com/feed", hub.EventsTopic}).Draw(t, "topic")
	callback := cb + rapid.SampledFrom([]string{"", "2", "3"}).Draw(t, "callback")
	small := func(name string) uint64 { return rapid.Uint64Range(0, 8).Draw(t, name) }
	switch rapid.IntRange(0, 20).Draw(t, "kind") {
	case 0, 1:
		return published(topic, rapid.StringN(0, 4, -1).Draw(t, "body"))
	case 2:
		return publishedOnce(topic, rapid.SampledFrom([]string{"a", "b"}).Draw(t, "body"), rapid.SampledFrom([]string{"k", "l"}).Draw(t, "key"))
	case 3, 4:
		mode := rapid.SampledFrom([]hubpb.Mode{hub.ModeSubscribe, hub.ModeSubscribe, hub.ModeUnsubscribe}).Draw(t, "mode")
		e := requested(mode, topic, callback, rapid.Int64Range(1, 100).Draw(t, "lease"), rapid.SampledFrom([]string{"", "s"}).Draw(t, "secret"))
		if rapid.Bool().Draw(t, "options") {
			e.GetSubscriptionRequested().Options = &hubpb.SubscriptionOptions{
				Mode: rapid.SampledFrom([]hub.DeliveryMode{0, 1, 2}).Draw(t, "mode"), Group: rapid.SampledFrom([]string{"", "g", "h"}).Draw(t, "group")}
		}
		return e
	case 5, 6:
		request := small("request")
		if pending := s.Requests(0, 1, nil); len(pending) > 0 && rapid.Bool().Draw(t, "pending") {
			request = uint64(pending[0].ID)
		}
		e := verifiedFrom(request, now, small("start"))
		for range rapid.IntRange(0, 3).Draw(t, "candidates") {
			e.GetRequestVerified().Candidates = append(e.GetRequestVerified().Candidates,
				&hubpb.Candidate{Node: aNode.Draw(t, "candidate"), Weight: rapid.Uint32Range(0, 3).Draw(t, "weight")})
		}
		return e
	case 7:
		return failed(small("request"))
	case 8:
		reason := rapid.SampledFrom([]hubpb.EndReason{hubpb.EndReason_END_EXPIRED, hubpb.EndReason_END_GONE, hubpb.EndReason_END_OPERATOR}).Draw(t, "reason")
		return ended(reason, hub.SubscriptionID(small("a")), hub.SubscriptionID(small("b")))
	case 9:
		return advanced(hub.SubscriptionID(small("subscription")), small("offset"), func(c *hubpb.Cursor) {
			c.Attempts, c.Delivered, c.Failures = uint32(small("attempts")), small("delivered"), small("failures")
			c.Epoch, c.Released = rapid.Uint64Range(0, 3).Draw(t, "epoch"), rapid.Bool().Draw(t, "released")
			c.Group = anyGroup.Draw(t, "group")
			ahead(t, c)
		})
	case 10:
		e := deadLettered(hub.SubscriptionID(small("subscription")), small("offset"))
		d := e.GetMessageDeadLettered()
		if d.Epoch = rapid.Uint64Range(0, 3).Draw(t, "epoch"); rapid.Bool().Draw(t, "cursor") {
			d.Cursor = &hubpb.Cursor{Offset: small("cursor")}
			ahead(t, d.Cursor)
		}
		return e
	case 11:
		return rapid.SampledFrom([]*hubpb.Event{registered(topic), deregistered(topic), pinged(topic), initialized(topic)}).Draw(t, "event")
	case 12:
		outcome := hubpb.FetchOutcome(rapid.Int32Range(1, 4).Draw(t, "outcome"))
		return fetched(hub.TopicID(small("topic id")), small("ping"), outcome, rapid.SampledFrom([]string{"a", "b"}).Draw(t, "body"))
	case 13, 14:
		return assigned(&hubpb.Assignment{Subscription: small("subscription"), Group: anyGroup.Draw(t, "group"), Node: aNode.Draw(t, "node"),
			Epoch: rapid.Uint64Range(0, 3).Draw(t, "epoch"), Drain: rapid.Bool().Draw(t, "drain")})
	case 15, 19:
		node, files := aNode.Draw(t, "node"), rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "files")
		return rapid.SampledFrom([]*hubpb.Event{admitted(node, files, rapid.Bool().Draw(t, "member")),
			nodeChanged(node, hub.NodePhase(rapid.Int32Range(0, 4).Draw(t, "phase")), hubpb.NodeVote(rapid.Int32Range(0, 2).Draw(t, "vote"))),
			runChanged(node, files, hubpb.NodeRun(rapid.Int32Range(1, 3).Draw(t, "run")))}).Draw(t, "event")
	case 16:
		return replaying(small("letter"), small("another"))
	case 17:
		return tried(small("letter"), rapid.IntRange(0, 2).Draw(t, "what came of it"))
	case 18:
		return droppedLetters(small("letter"))
	}
	switch rapid.IntRange(0, 2).Draw(t, "other kind") {
	case 0:
		return rewound(hub.SubscriptionID(small("subscription")), small("offset"))
	case 1:
		return paused(hub.SubscriptionID(small("subscription")), rapid.Bool().Draw(t, "paused"))
	}
	return trimmed(hub.TopicID(small("topic id")), small("through"))
}

var aNode = rapid.SampledFrom([]string{"", "node-1", "node-2", "node-3"})

// Invariant I6: nodes that applied the same entries have the same state, results and effects, even if one of them was
// restarted in between; and the rows written one by one add up to the whole state.
func TestStateIsTheFoldOfItsEntriesI6(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		a, b := hub.NewState(), hub.NewState()
		disk := map[hub.RowKey][]byte{}
		now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
		seq := map[string]uint64{}
		var lastEntry []byte
		for i := range rapid.IntRange(1, 40).Draw(rt, "entries") {
			now = now.Add(time.Duration(rapid.Int64Range(-1, 60).Draw(rt, "seconds")) * time.Second)
			if rapid.IntRange(0, 30).Draw(rt, "pause") == 0 {
				now = now.Add(25 * time.Hour)
			}
			data := lastEntry
			if data == nil || rapid.IntRange(0, 9).Draw(rt, "repeat") > 0 {
				origin := rapid.SampledFrom([]string{"node-1/a", "node-2/a"}).Draw(rt, "origin")
				seq[origin]++
				var events []*hubpb.Event
				for range rapid.IntRange(1, 3).Draw(rt, "events") {
					events = append(events, anyEvent(rt, a, now))
				}
				data = entry(t, now, origin, seq[origin], events...)
			}
			lastEntry = data
			var fa, fb hub.Effects
			ra, err := a.Apply(data, &fa)
			if err != nil {
				rt.Fatal(err)
			}
			rb, err := b.Apply(data, &fb)
			if err != nil {
				rt.Fatal(err)
			}
			if !reflect.DeepEqual(ra, rb) || !reflect.DeepEqual(fa, fb) || a.Hash() != b.Hash() {
				rt.Fatalf("entry %d: results %+v and %+v, effects %+v and %+v, hashes %x and %x", i, ra, rb, fa, fb, a.Hash(), b.Hash())
			}
			checkState(rt, a)
			if rapid.IntRange(0, 3).Draw(rt, "flush") == 0 {
				if err := flush(a, disk); err != nil {
					rt.Fatal(err)
				}
			}
			if rapid.IntRange(0, 3).Draw(rt, "restart") == 0 {
				b = reloaded(t, b)
			}
		}
		whole := rows(t, a)
		if !bytes.Equal(whole, rows(t, b)) {
			rt.Fatalf("the rows differ:\n%q\n%q", whole, rows(t, b))
		}
		if err := flush(a, disk); err != nil {
			rt.Fatal(err)
		}
		l := hub.NewLoader()
		for k, v := range disk { // in any order
			if err := l.Add(k, v); err != nil {
				rt.Fatal(err)
			}
		}
		c, err := l.State()
		if err != nil {
			rt.Fatal(err)
		}
		if !bytes.Equal(whole, rows(t, c)) {
			rt.Fatalf("the rows flushed one by one differ:\n%q\n%q", whole, rows(t, c))
		}
	})
}

// checkState checks what must hold after every entry.
func checkState(rt *rapid.T, s *hub.State) {
	subscribers := map[hub.TopicID]int{}
	owned, unowned := map[string]int{}, 0
	groups := map[hub.GroupID]hub.Subscription{}
	for _, sub := range s.Subscriptions(0, 0, nil) {
		top, ok := s.TopicByID(sub.Topic)
		if !ok {
			rt.Fatalf("%s is subscribed to a topic that does not exist", sub.ID)
		}
		subscribers[sub.Topic]++
		if sub.Group != 0 {
			if first, ok := groups[sub.Group]; !ok {
				groups[sub.Group] = sub
			} else {
				if first.Assignment != sub.Assignment || first.Cursor.Offset != sub.Cursor.Offset || first.Topic != sub.Topic ||
					first.Options.Group != sub.Options.Group || !first.Options.SameOrder(sub.Options) {
					rt.Fatalf("the members %+v and %+v of one group differ", first, sub)
				}
				continue // counted with the first member
			}
		}
		if a := sub.Assignment; a.Node == "" {
			unowned++
			if a.Next != "" {
				rt.Fatalf("%s has no owner but the assignment %+v", sub.ID, a)
			}
		} else if owned[a.Node]++; a.Epoch == 0 || a.Next == a.Node {
			rt.Fatalf("%s is assigned: %+v", sub.ID, a)
		}
		if c := sub.Cursor; c.Offset > top.Head || c.Offset+1 < top.First {
			rt.Fatalf("%s has cursor %d, outside the topic's %d to %d", sub.ID, c.Offset, top.First, top.Head)
		}
		last := sub.Cursor.Offset
		for i, o := range sub.Cursor.Open {
			if o.Offset <= last || o.Offset > sub.Cursor.Through || i == 0 && o.Offset != last+1 {
				rt.Fatalf("%s has the cursor %+v", sub.ID, sub.Cursor)
			}
			last = o.Offset
		}
		if through := sub.Cursor.Through; through > top.Head || through > 0 && len(sub.Cursor.Open) == 0 {
			rt.Fatalf("%s has the cursor %+v", sub.ID, sub.Cursor)
		}
		if byKey, ok := s.SubscriptionByKey(top.Name, sub.CallbackKey); !ok || byKey.ID != sub.ID {
			rt.Fatalf("%s is not found by its key", sub.ID)
		}
	}
	if all, none := s.Owners(); !maps.Equal(all, owned) || none != unowned {
		rt.Fatalf("%v are owned and %d not, counted %v and %d", owned, unowned, all, none)
	}
	for _, top := range s.Topics(0, 0) {
		if top.First < 1 || top.First > top.Head+1 || top.FetchedPing > top.Ping {
			rt.Fatalf("topic %+v", top)
		}
		if top.Subscribers() != subscribers[top.ID] {
			rt.Fatalf("topic %q counts %d subscribers, there are %d", top.Name, top.Subscribers(), subscribers[top.ID])
		}
	}
	size := uint64(0)
	replays := 0
	for _, d := range s.DeadLetters(0, 0, nil) {
		size += d.Size
		if !d.Replaying.IsZero() {
			replays++
			if _, ok := s.Subscription(d.Subscription); !ok {
				rt.Fatalf("%s is to be replayed to an ended subscription", hub.DeadLetterID(d.ID))
			}
		}
	}
	if size != s.DeadLetterBytes() || replays != len(s.Replays()) {
		rt.Fatalf("%d bytes of dead letters and %d replays, counted %d and %d", size, replays, s.DeadLetterBytes(), len(s.Replays()))
	}
	pending := map[string]bool{}
	for _, r := range s.Requests(0, 0, nil) {
		key := r.TopicName + " " + r.CallbackKey
		if r.Mode != hub.ModeDenied && pending[key] {
			rt.Fatalf("two requests for %s are pending", key)
		}
		pending[key] = pending[key] || r.Mode != hub.ModeDenied
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
