package hub_test

import (
	"bytes"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// world is a state with a leader's clock that only moves when told to.
type world struct {
	testing.TB
	*hub.State
	now time.Time
	seq uint64
	fx  hub.Effects // of the last apply

	disk map[hub.RowKey][]byte // the result of writing only the changed rows
}

func newWorld(tb testing.TB) *world {
	return &world{TB: tb, State: hub.NewState(), disk: map[hub.RowKey][]byte{}, now: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)}
}

// entry encodes events as a single proposal in a single batch.
func (w *world) entry(events ...*hubpb.Event) []byte {
	w.Helper()
	w.seq++
	return entry(w, w.now, "node-1/a", w.seq, events...)
}

func entry(tb testing.TB, now time.Time, origin string, seq uint64, events ...*hubpb.Event) []byte {
	tb.Helper()
	proposal, err := hub.EncodeProposal(events)
	if err != nil {
		tb.Fatal(err)
	}
	var b hub.EntryBuilder
	b.AddBatch(origin, seq, [][]byte{proposal})
	return b.Encode(now.UnixNano())
}

// apply applies events together and returns the first one's result.
func (w *world) apply(events ...*hubpb.Event) hub.Result {
	w.Helper()
	return w.applyEntry(w.entry(events...))[0].Proposals[0][0]
}

func (w *world) applyEntry(data []byte) []hub.BatchResult {
	w.Helper()
	w.fx = hub.Effects{}
	res, err := w.Apply(data, &w.fx)
	if err != nil {
		w.Fatal(err)
	}
	if err := flush(w.State, w.disk); err != nil {
		w.Fatal(err)
	}
	// Every change must mark its rows dirty, or it would be lost by the next restart.
	n := 0
	err = w.Rows(func(k hub.RowKey, v []byte) error {
		if n++; !bytes.Equal(w.disk[k], v) {
			w.Fatalf("row %v was changed but not marked dirty: the disk has %q, the state %q", k, w.disk[k], v)
		}
		return nil
	})
	if err != nil {
		w.Fatal(err)
	}
	if n != len(w.disk) {
		w.Fatalf("the disk has %d rows, the state %d: a removed row was not marked dirty", len(w.disk), n)
	}
	return res
}

// flush writes the changed rows, as the store does.
func flush(s *hub.State, disk map[hub.RowKey][]byte) error {
	for k := range s.TakeDirty() {
		v, ok, err := s.Row(k)
		if err != nil {
			return err
		}
		if ok {
			disk[k] = v
		} else {
			delete(disk, k)
		}
	}
	return nil
}

func (w *world) advance(d time.Duration) { w.now = w.now.Add(d) }

const (
	cb = "https://subscriber.example/cb"
	hr = int64(3600)
)

// subscribed creates a verified subscription to a topic that need not exist yet.
func (w *world) subscribed(topic, callback string, lease int64, secret string) hub.SubscriptionID {
	w.Helper()
	r := w.apply(requested(hub.ModeSubscribe, topic, callback, lease, secret))
	return hub.SubscriptionID(w.apply(w.verified(r.ID)).ID)
}

// verified confirms a request now, starting at the topic's head.
func (w *world) verified(request uint64) *hubpb.Event {
	var start uint64
	if r, ok := w.Request(hub.RequestID(request)); ok {
		t, _ := w.TopicByName(r.TopicName)
		start = t.Head
	}
	return verifiedFrom(request, w.now, start)
}

func (w *world) published(topic string, n int) {
	w.Helper()
	for range n {
		if r := w.apply(published(topic, "x")); r.Outcome != hub.OutcomeOK {
			w.Fatalf("publish: %+v", r)
		}
	}
}

func (w *world) sub(id hub.SubscriptionID) hub.Subscription {
	w.Helper()
	sub, ok := w.Subscription(id)
	if !ok {
		w.Fatalf("%s does not exist", id)
	}
	return sub
}

func (w *world) topic(name string) *hub.Topic {
	w.Helper()
	t, ok := w.TopicByName(name)
	if !ok {
		w.Fatalf("topic %q does not exist", name)
	}
	return &t
}

func verifiedFrom(request uint64, at time.Time, start uint64) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_RequestVerified{RequestVerified: &hubpb.RequestVerified{
		Request: request, VerifiedFrom: at.UnixNano(), StartOffset: start}}}
}

func requested(mode hubpb.Mode, topic, callback string, lease int64, secret string) *hubpb.Event {
	e := &hubpb.SubscriptionRequested{Mode: mode, Topic: topic, TopicRaw: "raw:" + topic, Callback: callback, CallbackKey: callback,
		LeaseSeconds: lease, AutoRegister: true}
	if secret != "" {
		e.SealedSecret = []byte(secret)
	}
	return &hubpb.Event{Kind: &hubpb.Event_SubscriptionRequested{SubscriptionRequested: e}}
}

func failed(request uint64) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_RequestFailed{RequestFailed: &hubpb.RequestFailed{Request: request, Reason: "timeout"}}}
}

func published(topic, body string) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_MessagePublished{MessagePublished: &hubpb.MessagePublished{
		Topic: topic, ContentType: "text/plain", Body: []byte(body), AutoRegister: true}}}
}

func publishedOnce(topic, body, key string) *hubpb.Event {
	e := published(topic, body)
	p := e.GetMessagePublished()
	p.IdempotencyKey, p.ContentHash = []byte(key), hub.ContentHash(p.ContentType, p.Body)
	return e
}

func registered(topic string) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_TopicRegistered{TopicRegistered: &hubpb.TopicRegistered{Topic: topic}}}
}

func deregistered(topic string) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_TopicDeregistered{TopicDeregistered: &hubpb.TopicDeregistered{Topic: topic}}}
}

func ended(reason hubpb.EndReason, ids ...hub.SubscriptionID) *hubpb.Event {
	e := &hubpb.SubscriptionsEnded{Reason: reason}
	for _, id := range ids {
		e.Subscriptions = append(e.Subscriptions, uint64(id))
	}
	return &hubpb.Event{Kind: &hubpb.Event_SubscriptionsEnded{SubscriptionsEnded: e}}
}

func advanced(id hub.SubscriptionID, offset uint64, change ...func(*hubpb.Cursor)) *hubpb.Event {
	c := &hubpb.Cursor{Subscription: uint64(id), Offset: offset}
	for _, f := range change {
		f(c)
	}
	return &hubpb.Event{Kind: &hubpb.Event_CursorsAdvanced{CursorsAdvanced: &hubpb.CursorsAdvanced{Node: "node-1", Cursors: []*hubpb.Cursor{c}}}}
}

func deadLettered(id hub.SubscriptionID, offset uint64) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_MessageDeadLettered{MessageDeadLettered: &hubpb.MessageDeadLettered{
		Subscription: uint64(id), Offset: offset, Attempts: 5, Status: 500, Reason: "status", Size: 10 * offset, ContentType: "text/plain",
		PublishedAt: 7, Tries: []*hubpb.Attempt{{At: 5, Status: 503, Latency: 1e6, Reason: "status", Node: "node-1"}, {At: 9, Reason: "timeout"}}}}}
}

func replaying(letters ...uint64) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_DeadLetterReplayRequested{DeadLetterReplayRequested: &hubpb.DeadLetterReplayRequested{Letters: letters}}}
}

// tried records a replay that was delivered (0), failed (1), or was not attempted (2).
func tried(letter uint64, outcome int) *hubpb.Event {
	try := &hubpb.ReplayResult{Letter: letter, Delivered: outcome == 0}
	if outcome == 1 {
		try.Attempt = &hubpb.Attempt{At: 11, Status: 404, Latency: 2e6, Reason: "http-status", Node: "node-2"}
	}
	return &hubpb.Event{Kind: &hubpb.Event_DeadLettersReplayed{DeadLettersReplayed: &hubpb.DeadLettersReplayed{Results: []*hubpb.ReplayResult{try}}}}
}

func droppedLetters(letters ...uint64) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_DeadLettersDropped{DeadLettersDropped: &hubpb.DeadLettersDropped{Letters: letters}}}
}

func pinged(topic string) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_TopicPinged{TopicPinged: &hubpb.TopicPinged{Topic: topic, AutoRegister: true}}}
}

func fetched(topic hub.TopicID, ping uint64, outcome hubpb.FetchOutcome, body string) *hubpb.Event {
	e := &hubpb.TopicFetched{Topic: uint64(topic), Ping: ping, Outcome: outcome}
	if outcome == hubpb.FetchOutcome_FETCH_CHANGED {
		e.Etag, e.ContentType, e.Body, e.LinkSelf = `"`+body+`"`, "text/plain", []byte(body), "https://example.com/self"
		e.ContentHash = hub.ContentHash(e.ContentType, e.Body)
	}
	if outcome == hubpb.FetchOutcome_FETCH_FAILED {
		e.Reason = "timeout"
	}
	return &hubpb.Event{Kind: &hubpb.Event_TopicFetched{TopicFetched: e}}
}

func trimmed(topic hub.TopicID, through uint64) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_LogTrimmed{LogTrimmed: &hubpb.LogTrimmed{
		Ranges: []*hubpb.LogTrimmed_Range{{Topic: uint64(topic), Through: through}}}}}
}

func initialized(id string) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_ClusterInitialized{ClusterInitialized: &hubpb.ClusterInitialized{ClusterId: id}}}
}

// rows returns the whole state as bytes.
func rows(tb testing.TB, s *hub.State) []byte {
	tb.Helper()
	var b bytes.Buffer
	err := s.Rows(func(k hub.RowKey, v []byte) error {
		b.Write(k.Append(nil))
		b.WriteByte('=')
		b.Write(v)
		b.WriteByte('\n')
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// reloaded returns the state as a restarted node loads it.
func reloaded(tb testing.TB, s *hub.State) *hub.State {
	tb.Helper()
	l := hub.NewLoader()
	err := s.Rows(func(k hub.RowKey, v []byte) error {
		back, err := hub.ParseRowKey(k.Append(nil))
		if err != nil || back != k {
			tb.Fatalf("the key %v is read back as %v (%v)", k, back, err)
		}
		return l.Add(back, bytes.Clone(v))
	})
	if err != nil {
		tb.Fatal(err)
	}
	out, err := l.State()
	if err != nil {
		tb.Fatal(err)
	}
	return out
}
