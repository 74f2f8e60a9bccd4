package hub_test

import (
	"bytes"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

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
func TestStateIsTheFoldOfItsEntriesI6(t *testing.T) { checkFold(t, anyEvent) }

// checkFold checks invariant I6 with events that draw makes.
func checkFold(t *testing.T, draw func(*rapid.T, *hub.State, time.Time) *hubpb.Event) {
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
					events = append(events, draw(rt, a, now))
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
			sameUsage(rt, a, b)
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
		key := r.TopicName + " " + r.CallbackKey + " " + r.Owner
		if r.Mode != hub.ModeDenied && pending[key] {
			rt.Fatalf("two requests for %s are pending", key)
		}
		pending[key] = pending[key] || r.Mode != hub.ModeDenied
	}
}

// sameUsage checks that two states agree on what principals have, and that it is what they own.
func sameUsage(rt *rapid.T, a, b *hub.State) {
	principals := a.Principals()
	if !slices.Equal(principals, b.Principals()) {
		rt.Fatalf("principals %v and %v", principals, b.Principals())
	}
	for _, p := range principals {
		if x, y := a.Usage(p), b.Usage(p); x != y {
			rt.Fatalf("%s has %+v and, after a restart, %+v", p, x, y)
		}
		var want, got []hub.SubscriptionID
		for _, sub := range a.Subscriptions(0, 0, func(sub *hub.Subscription) bool { return sub.Owner == p }) {
			want = append(want, sub.ID)
		}
		for _, sub := range a.OwnedBy(p, 0, 0) {
			got = append(got, sub.ID)
		}
		u := a.Usage(p)
		topics, letters := 0, 0
		for _, top := range a.Topics(0, 0) {
			if top.Owner == p {
				topics++
			}
		}
		for _, d := range a.DeadLetters(0, 0, nil) {
			if d.Owner == p {
				letters++
			}
		}
		requests := len(a.PendingRequests(hub.RequestFilter{Owner: p}, 0, 0))
		if !slices.Equal(want, got) || u.Subscriptions != len(got) || u.Topics != topics || u.DeadLetters != letters || u.PendingRequests != requests {
			rt.Fatalf("%s owns %v, %d topics, %d letters and %d requests; counted are %v and %+v", p, want, topics, letters, requests, got, u)
		}
	}
}
