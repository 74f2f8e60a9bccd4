package sweep

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"quorumhub/delivery/retry"
	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// Retention finds what may be dropped from the message log.
type Retention interface {
	// TrimCandidates returns what is older than maxAge at now, or exceeds maxBytes in total; zero is no bound.
	TrimCandidates(maxAge time.Duration, maxBytes int64, now time.Time) []hub.Trim
	// TopicTrims returns what single topics' own limits drop at now.
	TopicTrims(limits []hub.TopicLimit, now time.Time) ([]hub.Trim, error)
}

// Options configures a Sweeper. Fields without a default are required.
type Options struct {
	State      hub.StateReader
	Proposer   hub.Proposer
	Leadership hub.Leadership
	Clock      hub.Clock
	Log        *slog.Logger

	LeaseInterval time.Duration // how often expired leases are looked for; 0: 5 s

	Retention         Retention     // nil: the log is not trimmed
	MaxAge            time.Duration // 0: no bound
	MaxBytes          int64         // 0: no bound
	RetentionInterval time.Duration // 0: a quarter of the shorter age, from 1 s to 1 min

	// Grown receives a value when the log may have exceeded MaxBytes; nil: only the interval counts.
	Grown <-chan struct{}
	// DiskShort reports whether the disk is short of space. All of retention is then due every second; nil: it never is.
	DiskShort func() bool

	BlobIdle time.Duration // after which an unfinished upload is dropped; 0: 10 min

	// Recipients tell which encryption keys of subscriptions end; nil: nobody is told.
	Recipients Recipients

	// Letters bounds the stored dead letters.
	Letters LetterRetention
}

// LetterRetention bounds the stored dead letters; the oldest are dropped first. 0: no bound.
type LetterRetention struct {
	MaxAge   time.Duration
	MaxCount int
	MaxBytes int64 // bodies only
}

// Sweeper proposes, on the leader, what is due with time: the end of subscriptions whose lease has expired (they get
// nothing from that moment, swept or not), the pause of those whose API key has expired, the end of retired topics, and the trimming of the message log, the dead letters and abandoned
// uploads. All of these are events, so that all nodes drop the same.
type Sweeper struct {
	o      Options
	cancel context.CancelFunc
	work   sync.WaitGroup
}

// NewSweeper returns a sweeper that does nothing until Start.
func NewSweeper(o Options) *Sweeper {
	o.LeaseInterval = cmp.Or(o.LeaseInterval, 5*time.Second)
	o.RetentionInterval = cmp.Or(o.RetentionInterval, retentionInterval(o.MaxAge, o.Letters.MaxAge))
	o.BlobIdle = cmp.Or(o.BlobIdle, 10*time.Minute)
	return &Sweeper{o: o}
}

// retentionInterval returns an interval that is short enough for the given ages.
func retentionInterval(ages ...time.Duration) time.Duration {
	interval := time.Minute
	for _, age := range ages {
		if age > 0 {
			interval = min(interval, max(age/4, time.Second))
		}
	}
	return interval
}

// Start begins to sweep.
func (s *Sweeper) Start(ctx context.Context) {
	ctx, s.cancel = context.WithCancel(ctx)
	s.work.Add(1)
	go s.every(ctx, s.o.LeaseInterval, s.sweepLeases)
	s.work.Add(1)
	go s.every(ctx, s.o.LeaseInterval, s.sweepKeys)
	s.work.Add(1)
	go s.every(ctx, s.o.LeaseInterval, s.sweepTopics)
	if s.o.Recipients != nil {
		s.work.Add(1)
		go s.every(ctx, recipientInterval, s.sweepRecipients)
	}
	if s.o.Retention != nil {
		s.work.Add(1)
		go s.every(ctx, s.o.RetentionInterval, s.sweepLog)
	}
	if s.o.Grown != nil && s.o.Retention != nil && s.o.MaxBytes > 0 {
		s.work.Add(1)
		go s.whenGrown(ctx)
	}
	s.work.Add(1)
	go s.every(ctx, s.o.RetentionInterval, s.sweepBlobs)
	if s.o.Letters != (LetterRetention{}) {
		s.work.Add(1)
		go s.every(ctx, s.o.RetentionInterval, s.sweepLetters)
	}
	if s.o.DiskShort != nil {
		s.work.Add(1)
		go s.every(ctx, shortInterval, s.sweepShort)
	}
}

// shortInterval is how often a disk that is short of space is looked at.
const shortInterval = time.Second

// sweepShort applies all of retention while the disk is short of space.
func (s *Sweeper) sweepShort(ctx context.Context) error {
	if !s.o.DiskShort() {
		return nil
	}
	err := s.sweepBlobs(ctx)
	if s.o.Letters != (LetterRetention{}) {
		err = errors.Join(err, s.sweepLetters(ctx))
	}
	if s.o.Retention != nil {
		err = errors.Join(err, s.sweepLog(ctx))
	}
	return err
}

// whenGrown applies the hub's size as soon as the log has exceeded it: until the next interval a publisher could fill the
// disk.
func (s *Sweeper) whenGrown(ctx context.Context) {
	defer s.work.Done()
	for {
		select {
		case <-s.o.Grown:
		case <-ctx.Done():
			return
		}
		s.attempt(ctx, func(ctx context.Context) error {
			return s.dropFromLog(ctx, s.o.Retention.TrimCandidates(0, s.o.MaxBytes, s.o.Clock.Now()))
		})
	}
}

// Close stops sweeping and waits for it to end.
func (s *Sweeper) Close() {
	if s.cancel != nil {
		s.cancel()
		s.work.Wait()
	}
}

func (s *Sweeper) every(ctx context.Context, interval time.Duration, sweep func(context.Context) error) {
	defer s.work.Done()
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		s.attempt(ctx, sweep)
	}
}

// attempt sweeps if this node leads.
func (s *Sweeper) attempt(ctx context.Context, sweep func(context.Context) error) {
	if !s.o.Leadership.IsLeader() {
		return
	}
	if err := sweep(ctx); err != nil && ctx.Err() == nil {
		s.o.Log.Warn("cannot sweep; will retry at the next interval", "error", err)
	}
}

// maxEnded is how many subscriptions one event ends.
const maxEnded = 1000

func (s *Sweeper) sweepLeases(ctx context.Context) error {
	var after hub.SubscriptionID
	for {
		now := s.o.Clock.Now()
		var expired []uint64
		s.o.State.View(func(st *hub.State) {
			for _, sub := range st.Subscriptions(after, maxEnded, func(sub *hub.Subscription) bool { return sub.Expired(now) }) {
				expired = append(expired, uint64(sub.ID))
			}
		})
		if len(expired) == 0 {
			return nil
		}
		if err := s.propose(ctx, &hubpb.Event{Kind: &hubpb.Event_SubscriptionsEnded{SubscriptionsEnded: &hubpb.SubscriptionsEnded{
			Subscriptions: expired, Reason: hubpb.EndReason_END_EXPIRED}}}); err != nil {
			return err
		}
		s.o.Log.Info("leases expired", "subscriptions", len(expired))
		if len(expired) < maxEnded {
			return nil
		}
		after = hub.SubscriptionID(expired[maxEnded-1])
	}
}

// maxKeys is how many expired API keys one event names.
const maxKeys = 100

// sweepKeys pauses the subscriptions of API keys that have expired.
func (s *Sweeper) sweepKeys(ctx context.Context) error {
	for {
		var ids []string
		now := s.o.Clock.Now()
		s.o.State.View(func(st *hub.State) { ids = st.ExpiredAPIKeys(now, maxKeys) })
		if len(ids) == 0 {
			return nil
		}
		done, err := retry.ProposeOnce(ctx, s.o.Proposer, &hubpb.Event{Kind: &hubpb.Event_ApiKeysExpired{ApiKeysExpired: &hubpb.ApiKeysExpired{Ids: ids}}})
		if err != nil {
			return err
		}
		s.o.Log.Info("API keys expired; what they own is paused", "keys", len(ids))
		if len(ids) < maxKeys || done[0].ID < uint64(len(ids)) { // the log's clock is behind: the rest waits
			return nil
		}
	}
}

// sweepTopics retires the topics whose sunset has passed, and ends the subscriptions of retired topics that have received
// everything.
func (s *Sweeper) sweepTopics(ctx context.Context) error {
	var due []hub.TopicID
	var drained []hub.SubscriptionID
	now := s.o.Clock.Now()
	s.o.State.View(func(st *hub.State) { due, drained = st.PastSunset(now), st.Drained(maxEnded) })
	if len(due) > 0 {
		e := &hubpb.TopicsRetired{}
		for _, id := range due {
			e.Topics = append(e.Topics, uint64(id))
		}
		if err := s.propose(ctx, &hubpb.Event{Kind: &hubpb.Event_TopicsRetired{TopicsRetired: e}}); err != nil {
			return err
		}
		s.o.Log.Info("topics retired; their sunset has passed", "topics", len(due))
	}
	if len(drained) > 0 {
		e := &hubpb.SubscriptionsEnded{Reason: hubpb.EndReason_END_TOPIC_RETIRED}
		for _, id := range drained {
			e.Subscriptions = append(e.Subscriptions, uint64(id))
		}
		if err := s.propose(ctx, &hubpb.Event{Kind: &hubpb.Event_SubscriptionsEnded{SubscriptionsEnded: e}}); err != nil {
			return err
		}
		s.o.Log.Info("subscriptions of retired topics have received everything", "subscriptions", len(drained))
	}
	return nil
}

func (s *Sweeper) sweepLog(ctx context.Context) error {
	trims, err := s.trims(s.o.Clock.Now())
	if err != nil {
		return err
	}
	return s.dropFromLog(ctx, trims)
}

func (s *Sweeper) dropFromLog(ctx context.Context, trims []hub.Trim) error {
	if len(trims) == 0 {
		return nil
	}
	e := &hubpb.LogTrimmed{Reason: "retention"}
	for _, t := range trims {
		e.Ranges = append(e.Ranges, &hubpb.LogTrimmed_Range{Topic: uint64(t.Topic), Through: t.Through})
	}
	if err := s.propose(ctx, &hubpb.Event{Kind: &hubpb.Event_LogTrimmed{LogTrimmed: e}}); err != nil {
		return err
	}
	s.o.Log.Info("messages dropped by retention", "topics", len(trims))
	return nil
}

// maxDropped is how many dead letters one event drops.
const maxDropped = 2000

func (s *Sweeper) sweepLetters(ctx context.Context) error {
	for {
		var ids []uint64
		l, now := s.o.Letters, s.o.Clock.Now()
		s.o.State.View(func(st *hub.State) { ids = st.SurplusLetters(l.MaxAge, l.MaxCount, l.MaxBytes, now, maxDropped) })
		if len(ids) == 0 {
			return nil
		}
		if err := s.propose(ctx, &hubpb.Event{Kind: &hubpb.Event_DeadLettersDropped{DeadLettersDropped: &hubpb.DeadLettersDropped{
			Letters: ids, Reason: "retention"}}}); err != nil {
			return err
		}
		s.o.Log.Info("dead letters dropped by retention", "letters", len(ids))
		if len(ids) < maxDropped {
			return nil
		}
	}
}

// trims returns what all limits together drop. A topic's own age replaces the hub's. The hub's size applies to all
// topics, whatever their own limits: it keeps the disk from filling up.
func (s *Sweeper) trims(now time.Time) ([]hub.Trim, error) {
	var limits []hub.TopicLimit
	s.o.State.View(func(st *hub.State) { limits = st.TopicLimits() })
	ownAge := map[hub.TopicID]bool{}
	for _, l := range limits {
		ownAge[l.Topic] = l.MaxAge != nil
	}
	through := map[hub.TopicID]uint64{}
	add := func(t hub.Trim) { through[t.Topic] = max(through[t.Topic], t.Through) }
	if s.o.MaxAge > 0 {
		for _, t := range s.o.Retention.TrimCandidates(s.o.MaxAge, 0, now) {
			if !ownAge[t.Topic] {
				add(t)
			}
		}
	}
	if s.o.MaxBytes > 0 {
		for _, t := range s.o.Retention.TrimCandidates(0, s.o.MaxBytes, now) {
			add(t)
		}
	}
	own, err := s.o.Retention.TopicTrims(limits, now)
	if err != nil {
		return nil, err
	}
	for _, t := range own {
		add(t)
	}
	out := make([]hub.Trim, 0, len(through))
	for _, id := range slices.Sorted(maps.Keys(through)) {
		out = append(out, hub.Trim{Topic: id, Through: through[id]})
	}
	return out, nil
}

// sweepBlobs drops the parts of large bodies whose publisher gave up midway.
func (s *Sweeper) sweepBlobs(ctx context.Context) error {
	before := s.o.Clock.Now().Add(-s.o.BlobIdle).UnixNano()
	idle := 0
	s.o.State.View(func(st *hub.State) { idle = st.IdleBlobs(before) })
	if idle == 0 {
		return nil
	}
	if err := s.propose(ctx, &hubpb.Event{Kind: &hubpb.Event_BlobsDropped{BlobsDropped: &hubpb.BlobsDropped{Before: before}}}); err != nil {
		return err
	}
	s.o.Log.Info("unfinished large bodies dropped", "bodies", idle)
	return nil
}

func (s *Sweeper) propose(ctx context.Context, e *hubpb.Event) error {
	_, err := retry.ProposeOnce(ctx, s.o.Proposer, e)
	return err
}
