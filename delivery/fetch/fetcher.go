package fetch

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"time"

	"quorumhub/delivery/egress"
	"quorumhub/delivery/retry"
	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// fetchBytes bounds the content fetched at a time, unless Options.Concurrency is given.
const fetchBytes = 64 << 20

// Options configures a Fetcher. Fields without a default are required.
type Options struct {
	Reader     *Reader
	Namer      *hub.TopicNamer
	State      hub.StateReader
	Proposer   hub.Proposer
	Leadership hub.Leadership
	Log        *slog.Logger

	Attempts    int           // per ping, including the first; 0: 5
	Backoff     retry.Backoff // between attempts; zero: 1 s doubling up to 1 min
	Concurrency int           // fetches in flight; 0: 16, or as many as fit into 64 MiB
}

// Fetcher fetches topics after thin pings and records the result: new content, which is thereby published, no change,
// or a failure. Pings come from the log, so a restart loses none; only the leader fetches. One fetch answers all
// pings of a topic; a ping that arrives during a fetch causes another one.
//
// The Fetcher is a hub.Observer. Register it before the log starts to move, then call Start.
type Fetcher struct {
	o   Options
	rec retry.Recorder

	mu    sync.Mutex
	due   map[hub.TopicID]bool // true: in flight, false: queued
	again map[hub.TopicID]bool // pinged while in flight
	queue []hub.TopicID
	busy  int
	loop  *retry.Loop
}

// NewFetcher returns a fetcher that only listens until Start.
func NewFetcher(o Options) *Fetcher {
	if o.Attempts <= 0 {
		o.Attempts = 5
	}
	if o.Concurrency <= 0 {
		// Content is held in memory as a whole.
		o.Concurrency = 16
		if o.Reader != nil && o.Reader.MaxBytes > 0 {
			o.Concurrency = int(min(max(fetchBytes/o.Reader.MaxBytes, 1), 16))
		}
	}
	if o.Backoff.Initial <= 0 {
		o.Backoff.Initial = time.Second
	}
	if o.Backoff.Max <= 0 {
		o.Backoff.Max = time.Minute
	}
	return &Fetcher{o: o, rec: retry.Recorder{Proposer: o.Proposer, Log: o.Log}, due: map[hub.TopicID]bool{}, again: map[hub.TopicID]bool{},
		loop: retry.NewLoop()}
}

// Start takes over all unanswered pings and begins to fetch.
func (f *Fetcher) Start(ctx context.Context) {
	f.Reload()
	f.loop.Begin(ctx, f.run)
}

// Reload adopts the unanswered pings of a state that replaced the previous one, after a snapshot was installed.
func (f *Fetcher) Reload() {
	var topics []hub.Topic
	f.o.State.View(func(s *hub.State) { topics = s.Topics(0, 0) })
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range topics {
		if topics[i].Ping > topics[i].FetchedPing {
			f.addLocked(topics[i].ID)
		}
	}
	f.loop.Wake()
}

// Close cuts off fetches in flight and waits for them. Their pings stay unanswered in the log.
func (f *Fetcher) Close() { f.loop.Close() }

// Applied implements hub.Observer.
func (f *Fetcher) Applied(fx *hub.Effects) {
	if len(fx.Pinged) == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range fx.Pinged {
		f.addLocked(id)
	}
	f.loop.Wake()
}

func (f *Fetcher) addLocked(id hub.TopicID) {
	underway, ok := f.due[id]
	switch {
	case !ok:
		f.due[id] = false
		f.queue = append(f.queue, id)
	case underway:
		f.again[id] = true
	}
}

// run starts queued fetches while this node leads.
func (f *Fetcher) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-f.loop.Woken():
		case <-timer.C:
		case <-f.loop.Done():
			return
		}
		leads := f.o.Leadership.IsLeader()
		f.mu.Lock()
		for leads && !f.loop.Closing() && f.busy < f.o.Concurrency && len(f.queue) > 0 {
			id := f.queue[0]
			f.queue = f.queue[1:]
			f.due[id] = true
			f.busy++
			f.loop.Go(func() { f.do(id) })
		}
		waiting := len(f.queue) > 0
		f.mu.Unlock()
		if waiting && !leads {
			timer.Reset(retry.LeaderCheck)
		}
	}
}

// do answers the pings a topic has so far.
func (f *Fetcher) do(id hub.TopicID) {
	f.fetchTopic(id)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.busy--
	delete(f.due, id)
	if f.again[id] {
		delete(f.again, id)
		f.addLocked(id)
	}
	f.loop.Wake()
}

func (f *Fetcher) fetchTopic(id hub.TopicID) {
	for n := 1; ; n++ {
		var t hub.Topic
		var subscribers int
		f.o.State.View(func(s *hub.State) {
			t, _ = s.TopicByID(id)
			subscribers = t.Subscribers()
		})
		if t.Ping <= t.FetchedPing {
			return // answered, or the topic is gone
		}
		e := &hubpb.TopicFetched{Topic: uint64(id), Ping: t.Ping, Outcome: hubpb.FetchOutcome_FETCH_NO_SUBSCRIBERS}
		if subscribers > 0 {
			wait, again := f.fetch(&t, n, e)
			if !again && len(e.Body) > hub.MaxInlineBytes && !f.loop.Closing() {
				if err := f.storeBlob(e); err != nil {
					f.o.Log.Warn("cannot record the fetch of a large topic yet; will retry", "topic", t.Name, "error", err)
					wait, again = f.o.Backoff.Delay(n, 0), true
				}
			}
			if f.loop.Closing() {
				return
			}
			if again {
				if retry.Sleep(f.loop.Context(), wait) != nil {
					return
				}
				continue
			}
		}
		_, _ = f.rec.Record(f.loop.Context(), "the fetch of "+t.Name, &hubpb.Event{Kind: &hubpb.Event_TopicFetched{TopicFetched: e}})
		return // fails only if the hub stops, which leaves the ping unanswered
	}
}

// storeBlob writes a large body into the log and makes e refer to it.
func (f *Fetcher) storeBlob(e *hubpb.TopicFetched) error {
	up := hub.NewBlobWriter(f.o.Proposer, e.ContentType)
	if err := up.WriteAll(f.loop.Context(), e.Body); err != nil {
		return err
	}
	up.AttachTo(e)
	return nil
}

// urlOf returns the URL of a foreign topic as its first subscriber gave it: nothing in it is decoded, although topics whose URLs
// differ in that are one (WebSub 5.1.1).
func (f *Fetcher) urlOf(t *hub.Topic) string {
	raw := ""
	f.o.State.View(func(s *hub.State) {
		for _, sub := range s.SubscriptionsOf(t.Name, 0, 1) {
			raw = sub.TopicRaw
		}
	})
	if raw == "" || hub.NormalizeURL(raw) != t.Name {
		return t.Name // it was subscribed to by way of a hosted topic's URL
	}
	return raw
}

// fetch fetches once and fills in e. again means that there was no definite response and attempts are left.
func (f *Fetcher) fetch(t *hub.Topic, n int, e *hubpb.TopicFetched) (wait time.Duration, again bool) {
	if f.o.Namer.Hosted(t.Name) {
		e.Outcome, e.Reason = hubpb.FetchOutcome_FETCH_FAILED, string(egress.ReasonURL)
		return 0, false
	}
	res := f.o.Reader.Fetch(f.loop.Context(), Request{URL: f.urlOf(t), ETag: t.ETag, LastModified: t.LastModified})
	if res.Outcome == Retryable && n < f.o.Attempts {
		return f.o.Backoff.Delay(n, res.RetryAfter), true
	}
	switch res.Outcome {
	case Content:
		e.Etag, e.LastModified = res.ETag, res.LastModified
		e.ContentHash = hub.ContentHash(res.ContentType, res.Body)
		e.Outcome = hubpb.FetchOutcome_FETCH_UNCHANGED
		if !bytes.Equal(e.ContentHash, t.ContentHash) {
			e.Outcome = hubpb.FetchOutcome_FETCH_CHANGED
			e.ContentType, e.Body = res.ContentType, res.Body
			if res.Self != "" && hub.NormalizeURL(res.Self) != t.Name {
				e.LinkSelf = res.Self
			}
		}
	case NotModified:
		e.Outcome, e.Etag, e.LastModified = hubpb.FetchOutcome_FETCH_UNCHANGED, t.ETag, t.LastModified
	default:
		e.Outcome, e.Reason = hubpb.FetchOutcome_FETCH_FAILED, string(res.Reason)
		f.o.Log.Warn("topic fetch failed", "topic", t.Name, "reason", string(res.Reason), "status", res.Status, "attempts", n)
	}
	return 0, false
}
