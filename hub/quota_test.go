package hub_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

func quotaSet(name string, stored, letters uint64) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_QuotaSet{QuotaSet: &hubpb.QuotaSet{Name: name, Quotas: []byte(`{}`), MaxStoredBytes: &stored, MaxDeadLetterBytes: &letters}}}
}

func quotaRemoved(name string) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_QuotaRemoved{QuotaRemoved: &hubpb.QuotaRemoved{Name: name}}}
}

// storing limits the bytes of a caller's topics.
func storing(most uint64) func(*hubpb.Caller) {
	return func(c *hubpb.Caller) { c.MaxStoredBytes = most }
}

func large(topic string, bytes int) *hubpb.Event { return published(topic, strings.Repeat("x", bytes)) }

// What is stored in a principal's topics counts as its own, whoever publishes it, until it is dropped: by retention,
// with the topic, or by what replaces its owner.
func TestStoredBytesCountForTheTopicsOwner(t *testing.T) {
	w := newOwners(t)
	stored := func(of string) int { return int(w.Usage(of).StoredBytes) }
	w.apply(by(alice, large("a", 10_000), storing(1_000_000)))
	one := stored(alice)
	if one < 10_000 || one > 10_200 {
		t.Fatalf("%d bytes stored for a message of 10,000", one)
	}
	w.apply(by(bob, large("a", 10_000)))
	w.apply(large("a", 10_000))
	w.apply(by(bob, large("b", 10_000)))
	if stored(alice) != 3*one || stored(bob) != one {
		t.Errorf("alice %d, bob %d; a message is %d", stored(alice), stored(bob), one)
	}
	batch := &hubpb.BatchPublished{Topic: "a"}
	for range 2 {
		batch.Items = append(batch.Items, &hubpb.BatchPublished_Item{ContentType: "text/plain", Body: []byte(strings.Repeat("x", 10_000))})
	}
	w.apply(&hubpb.Event{Kind: &hubpb.Event_BatchPublished{BatchPublished: batch}})
	w.apply(partAdded("blob", 0, strings.Repeat("x", 200_000)))
	w.apply(publishBlob("a", "blob", 1, 200_000, ""))
	if got, want := stored(alice), 5*one+200_000; got < want || got > want+200 {
		t.Errorf("with a batch and a large body %d, want %d", got, want)
	}
	w.State = reloaded(t, w.State)
	before := stored(alice)
	w.apply(trimmed(1, 2))
	if got := stored(alice); got != before-2*one {
		t.Errorf("two messages were trimmed: %d, want %d", got, before-2*one)
	}
	w.apply(trimmed(1, 100))
	if got := stored(alice); got != 0 {
		t.Errorf("all messages were trimmed: %d", got)
	}
	w.apply(large("a", 10_000))
	w.apply(deregistered("a"))
	if got := stored(alice); got != 0 || stored(bob) != one {
		t.Errorf("the topic is gone: %d", got)
	}
	w.apply(registered("nobody's"))
	w.apply(large("nobody's", 10_000))
	if stored("") != 0 {
		t.Error("nobody has stored something")
	}
}

// The quota refuses what does not fit, in whatever way it is published and by whomever, and nothing of it happens.
func TestQuotaOfStoredBytesHoldsInTheFold(t *testing.T) {
	const most = 25_000
	for name, e := range map[string]func(w *world) *hubpb.Event{
		"the owner":        func(*world) *hubpb.Event { return large("a", 10_000) },
		"another":          func(*world) *hubpb.Event { return by(bob, large("a", 10_000)) },
		"nobody":           func(*world) *hubpb.Event { return large("a", 10_000) },
		"to another topic": func(*world) *hubpb.Event { return by(alice, large("new", 10_000), storing(most)) },
		"to a registered topic": func(w *world) *hubpb.Event {
			w.apply(by(alice, registered("later"), storing(most)))
			return large("later", 10_000)
		},
		"a batch": func(*world) *hubpb.Event {
			items := []*hubpb.BatchPublished_Item{{ContentType: "a/b", Body: make([]byte, 1000)}, {ContentType: "a/b", Body: make([]byte, 9000)}}
			return &hubpb.Event{Kind: &hubpb.Event_BatchPublished{BatchPublished: &hubpb.BatchPublished{Topic: "a", Items: items}}}
		},
		"a large body": func(w *world) *hubpb.Event {
			w.apply(partAdded("blob", 0, strings.Repeat("x", 10_000)))
			return publishBlob("a", "blob", 1, 10_000, "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newOwners(t)
			w.apply(by(alice, large("a", 10_000), storing(most)))
			w.apply(large("a", 10_000))
			w.State = reloaded(t, w.State)
			ev := e(w)
			topics, used := len(w.Topics(0, 0)), w.Usage(alice).StoredBytes
			r := w.apply(ev)
			want := &hub.QuotaUse{Quota: hub.QuotaStoredBytes, Limit: most, Used: int64(used)}
			if got := quotaOf(r.Err("a")); got == nil || *got != *want || len(w.fx.Messages) != 0 {
				t.Errorf("refused with %+v, want %+v", got, want)
			}
			if len(w.Topics(0, 0)) != topics || w.Usage(alice).StoredBytes != used {
				t.Error("a refused publication has changed something")
			}
			if r := w.apply(large("a", 4000)); r.Outcome != hub.OutcomeOK {
				t.Errorf("what fits is refused: %+v", r)
			}
			w.apply(trimmed(1, 2))
			if r := w.apply(ev); r.Outcome != hub.OutcomeOK && name != "a large body" { // whose parts are gone
				t.Errorf("with room again: %+v", r)
			}
		})
	}
}

func quotaOf(err error) *hub.QuotaUse {
	var e *hub.Error
	if errors.As(err, &e) {
		return e.Quota
	}
	return nil
}

// A repetition under the same idempotency key is no new message, so it is not refused.
func TestRepetitionsNeedNoRoom(t *testing.T) {
	w := newOwners(t)
	once := func() *hubpb.Event {
		e := by(alice, publishedOnce("a", strings.Repeat("x", 10_000), "k"), storing(15_000))
		e.GetMessagePublished().KeyWindow = 3600
		return e
	}
	w.apply(once())
	if r := w.apply(once()); r.Outcome != hub.OutcomeDuplicate {
		t.Errorf("%+v", r)
	}
	if r := w.apply(by(alice, large("a", 10_000), storing(15_000))); r.Outcome != hub.OutcomeQuota {
		t.Errorf("another message: %+v", r)
	}
}

// A fetch that does not fit publishes nothing and remembers nothing, so the next ping fetches again.
func TestFetchesNeedRoom(t *testing.T) {
	w := newOwners(t)
	const feed = "https://example.com/feed"
	w.owned(alice, feed, cb)
	w.apply(by(alice, pinged(feed), storing(5000)))
	w.apply(fetched(1, 1, hubpb.FetchOutcome_FETCH_CHANGED, strings.Repeat("x", 10_000)))
	if top, _ := w.TopicByID(1); top.Head != 0 || top.FetchError != hub.FailedQuota || top.ETag != "" {
		t.Fatalf("head %d, error %q, etag %.10q", top.Head, top.FetchError, top.ETag)
	}
	w.apply(by(alice, pinged(feed), storing(50_000)))
	w.apply(fetched(1, 2, hubpb.FetchOutcome_FETCH_CHANGED, strings.Repeat("x", 10_000)))
	if top, _ := w.TopicByID(1); top.Head != 1 || top.FetchError != "" {
		t.Errorf("with more room: head %d, error %q", top.Head, top.FetchError)
	}
	w.apply(by(alice, pinged(feed), storing(5000)))
	if r := w.apply(by(alice, pinged(feed), storing(5000))); r.Outcome != hub.OutcomeQuota {
		t.Errorf("a ping without room: %+v", r)
	}
}

// The count is never too low, and too high by a sixteenth of what is retained and two messages at most. It needs a
// bounded number of marks, whatever is published and dropped.
func TestStoredBytesAreAlmostExact(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newOwners(t)
		w.apply(by(alice, registered("a")))
		var sizes []uint64 // of all messages
		first, most := 0, uint64(0)
		for range rapid.IntRange(1, 120).Draw(rt, "steps") {
			if rapid.IntRange(0, 5).Draw(rt, "trim") > 0 || first == len(sizes) {
				body := rapid.SampledFrom([]int{0, 10, 500, 5000, 60_000}).Draw(rt, "size")
				before := w.Usage(alice).StoredBytes
				w.apply(large("a", body))
				sizes = append(sizes, w.Usage(alice).StoredBytes-before)
			} else {
				first += rapid.IntRange(1, len(sizes)-first).Draw(rt, "messages")
				w.apply(trimmed(1, uint64(first)))
			}
			exact := uint64(0)
			for _, n := range sizes[first:] {
				exact += n
			}
			most = max(most, exact)
			extra := 8<<10 + 2*65_000 + most/16
			if got := w.Usage(alice).StoredBytes; got < exact || got > exact+extra {
				rt.Fatalf("%d messages from %d: %d bytes, want %d to %d", len(sizes), first, got, exact, exact+extra)
			}
			if rapid.IntRange(0, 9).Draw(rt, "restart") == 0 {
				w.State = reloaded(t, w.State)
			}
		}
		value, _, err := w.Row(hub.RowKey{Table: hub.TableTopic, ID: 1})
		if err != nil || len(value) > 600 {
			rt.Fatalf("the topic's row has %d bytes, error %v", len(value), err)
		}
		w.apply(trimmed(1, uint64(len(sizes))))
		if got := w.Usage(alice).StoredBytes; got != 0 {
			rt.Fatalf("%d bytes of no message", got)
		}
	})
}

// Before every member knows the quotas nothing is counted, as older programs would not count it.
func TestBytesAreCountedFromTheirLevelOn(t *testing.T) {
	w := newWorld(t)
	w.apply(levelSet(2))
	w.apply(by(alice, large("a", 10_000)))
	if n := w.Usage(alice).StoredBytes; n != 0 {
		t.Errorf("level 2 counts %d", n)
	}
	w.apply(levelSet(3))
	w.apply(large("a", 10_000))
	w.apply(trimmed(1, 1))
	if n := w.Usage(alice).StoredBytes; n < 10_000 || n > 11_000 {
		t.Errorf("one counted message has %d", n)
	}
	w.apply(trimmed(1, 2))
	if n := w.Usage(alice).StoredBytes; n != 0 {
		t.Errorf("%d are left", n)
	}
	for _, e := range []*hubpb.Event{quotaSet(alice, 1, 1), quotaRemoved(alice), by(alice, registered("b"), storing(5)),
		{Kind: &hubpb.Event_RetentionSet{RetentionSet: &hubpb.RetentionSet{Topic: "a", Owner: alice}}}} {
		if n := hub.LevelOf(e); n != 3 {
			t.Errorf("%s needs level %d", hub.EventName(e), n)
		}
	}
}

// A principal whose dead letters exceed its quota loses its own oldest ones, and nobody else's; the newest stays.
func TestQuotaOfDeadLetterBytes(t *testing.T) {
	w := newOwners(t)
	w.owned(bob, "news", cb+"bob")
	id := w.owned(alice, "news", cb)
	w.apply(by(alice, requested(hub.ModeSubscribe, "news", cb, hr, ""), func(c *hubpb.Caller) { c.MaxDeadLetterBytes = 100 }))
	give := func(sub hub.SubscriptionID, size uint64) {
		offset := w.apply(published("news", "x")).Offset
		e := deadLettered(sub, offset)
		e.GetMessageDeadLettered().Size = size
		e.GetMessageDeadLettered().Epoch = w.sub(sub).Assignment.Epoch
		if r := w.apply(e); r.Outcome != hub.OutcomeOK {
			t.Fatalf("%+v", r)
		}
	}
	give(1, 90)
	for range 4 {
		give(id, 40)
	}
	if u := w.Usage(alice); u.DeadLetters != 2 || u.DeadLetterBytes != 80 || u.DeadLettersDropped != 2 {
		t.Errorf("%+v", u)
	}
	if u := w.Usage(bob); u.DeadLetters != 1 {
		t.Errorf("bob has %+v", u)
	}
	if ids := w.DeadLetterIDs(func(d *hub.DeadLetter) bool { return d.Owner == alice }); len(ids) != 2 || ids[0] != 4 {
		t.Errorf("left are %v", ids)
	}
	w.State = reloaded(t, w.State)
	give(id, 500)
	if u := w.Usage(alice); u.DeadLetters != 1 || u.DeadLetterBytes != 500 {
		t.Errorf("after one that exceeds the quota: %+v", u)
	}
	w.apply(droppedLetters(6))
	if u := w.Usage(alice); u.DeadLetters != 0 || u.DeadLetterBytes != 0 {
		t.Errorf("a deleted dead letter still counts: %+v", u)
	}
	give(id, 60)
	w.apply(replaying(7))
	w.apply(tried(7, 0))
	if u := w.Usage(alice); u.DeadLetterBytes != 0 {
		t.Errorf("a delivered replay still counts: %+v", u)
	}
}

// Quotas of a principal in bytes apply as soon as they are set; those of a role or of everybody when it acts again.
func TestQuotasAreSetAtRunTime(t *testing.T) {
	w := newTenants(t)
	w.quotas.StoredBytes = 100_000
	publish := func(who string, size int) error {
		_, err := w.Service.Publish(as(who), hub.Publication{Topic: "a", ContentType: "text/plain", Body: make([]byte, size)})
		return err
	}
	if err := publish(alice, 10_000); err != nil {
		t.Fatal(err)
	}
	less := int64(15_000)
	if err := w.SetQuotas(context.Background(), hub.QuotaSetting{Name: alice, Quotas: []byte(`{"stored_bytes":15000}`), By: "root", StoredBytes: &less}); err != nil {
		t.Fatal(err)
	}
	if got := w.QuotaSettings(); len(got) != 1 || got[0].Name != alice || got[0].By != "root" || got[0].SetAt.IsZero() {
		t.Errorf("%+v", got)
	}
	if err := publish(bob, 10_000); quotaOf(err) == nil || hub.CodeOf(err) != hub.CodeForbidden || strings.Contains(err.Error(), "\n") {
		t.Errorf("over the new quota: %v", err)
	}
	w.quotas.StoredBytes = 15_000
	if err := w.AuthorizePublish(as(bob), "a"); err != nil {
		t.Errorf("there is room: %v", err)
	}
	if err := publish(alice, 4_800); err != nil {
		t.Error(err)
	}
	for range 3 {
		_ = publish(bob, 10)
	}
	w.quotas.StoredBytes = 10
	if err := publish(alice, 1); quotaOf(err) == nil || quotaOf(err).Limit != 10 {
		t.Errorf("the owner's own limit changed: %v", err)
	}
	for _, who := range []string{alice, bob, ""} {
		if err := w.AuthorizePublish(as(who), "a"); quotaOf(err) == nil {
			t.Errorf("%q may send a body that cannot fit: %v", who, err)
		}
	}
	w.quotas.StoredBytes = 0
	if err := w.AuthorizePublish(as(alice), "a"); err != nil {
		t.Errorf("the owner has no limit any more: %v", err)
	}
	for _, who := range []string{alice, bob} {
		if err := publish(who, 10_000); err != nil {
			t.Errorf("without a limit: %v", err)
		}
	}
	w.State = reloaded(t, w.State)
	if err := w.RemoveQuotas(context.Background(), alice, "root"); err != nil {
		t.Fatal(err)
	}
	if err := w.RemoveQuotas(context.Background(), alice, "root"); hub.CodeOf(err) != hub.CodeNotFound {
		t.Errorf("removed twice: %v", err)
	}
}

// An owner's decision about its topic does nothing once the topic belongs to somebody else.
func TestTopicsFormerOwnersAreFenced(t *testing.T) {
	w := newOwners(t)
	w.apply(by(alice, large("a", 10)))
	limits := &hubpb.Event{Kind: &hubpb.Event_RetentionSet{RetentionSet: &hubpb.RetentionSet{Topic: "a", Owner: alice, Retention: &hubpb.Retention{MaxBytes: new(int64)}}}}
	gone := &hubpb.Event{Kind: &hubpb.Event_TopicDeregistered{TopicDeregistered: &hubpb.TopicDeregistered{Topic: "a", Owner: alice}}}
	if r := w.apply(limits); r.Outcome != hub.OutcomeOK {
		t.Errorf("the owner: %+v", r)
	}
	w.apply(deregistered("a"))
	w.apply(by(bob, large("a", 10)))
	for _, e := range []*hubpb.Event{limits, gone} {
		if r := w.apply(e); r.Outcome != hub.OutcomeNotOwner {
			t.Errorf("%s of a former owner: %+v", hub.EventName(e), r)
		}
	}
	if top, ok := w.TopicByName("a"); !ok || !top.Retention.IsDefault() {
		t.Errorf("%v %+v", ok, top.Retention)
	}
	// A topic that only a subscription has made does not belong to its subscriber.
	w.owned(alice, "p", cb)
	e := &hubpb.Event{Kind: &hubpb.Event_RetentionSet{RetentionSet: &hubpb.RetentionSet{Topic: "p", Owner: alice}}}
	if r := w.apply(e); r.Outcome != hub.OutcomeNotOwner {
		t.Errorf("a subscriber: %+v", r)
	}
}

// What is uploaded counts for whoever uploads it until it is published, dropped or too much: it fills the disk as well.
func TestUploadsCountForWhoMakesThem(t *testing.T) {
	stored := func(w *world, of string) int { return int(w.Usage(of).StoredBytes) }
	part := func(blob string, index, size int) *hubpb.Event {
		e := partAdded(blob, index, strings.Repeat("x", size))
		if index == 0 {
			by(bob, e, storing(50_000))
		}
		return e
	}
	w := newOwners(t)
	w.apply(by(alice, registered("a")))
	w.apply(part("one", 0, 10_000))
	w.apply(part("one", 0, 10_000)) // a repetition
	w.apply(part("one", 1, 10_000))
	if got := stored(w, bob); got != 20_000 {
		t.Fatalf("bob's uploads have %d bytes", got)
	}
	w.State = reloaded(t, w.State)
	w.apply(publishBlob("a", "one", 2, 20_000, ""))
	if got := stored(w, alice); stored(w, bob) != 0 || got < 20_000 || got > 20_100 {
		t.Errorf("published to alice's topic: bob has %d, alice %d", stored(w, bob), got)
	}
	w.apply(part("two", 0, 30_000))
	if r := w.apply(part("three", 0, 30_000)); quotaOf(r.Err("")) == nil {
		t.Errorf("a first part beyond the quota: %+v", r)
	}
	if r := w.apply(part("two", 1, 30_000)); quotaOf(r.Err("")) == nil {
		t.Errorf("another part beyond the quota: %+v", r)
	}
	if got := stored(w, bob); got != 0 || !w.fx.PartsReleased {
		t.Errorf("an upload that is refused leaves %d bytes", got)
	}
	if r := w.apply(part("two", 1, 10)); r.Outcome != hub.OutcomeStale {
		t.Errorf("it goes on: %+v", r)
	}
	w.apply(part("four", 0, 30_000))
	w.apply(dropped(w.now.Add(time.Hour).UnixNano()))
	if got := stored(w, bob); got != 0 {
		t.Errorf("an upload that was given up leaves %d bytes", got)
	}
	// With room for one message of its own a principal can upload it.
	w.apply(part("five", 0, 40_000))
	if r := w.apply(by(bob, publishBlob("b", "five", 1, 40_000, ""), storing(50_000))); r.Outcome != hub.OutcomeOK || stored(w, bob) > 40_100 {
		t.Errorf("to its own topic: %+v, %d bytes", r, stored(w, bob))
	}
	if hub.LevelOf(part("x", 0, 1)) != 3 || hub.LevelOf(part("x", 1, 1)) != 1 {
		t.Error("older programs would not count it")
	}
}
