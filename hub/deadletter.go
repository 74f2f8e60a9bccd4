package hub

import (
	"cmp"
	"slices"
	"strconv"
	"time"
	"unique"

	"quorumhub/hub/hubpb"
)

const (
	// maxDeadLetters bounds the dead letters kept; beyond it the oldest are dropped. Like maxTries it is part of the
	// fold and may change only with a new feature level.
	maxDeadLetters = 100_000
	// maxTries is the number of most recent attempts a dead letter remembers.
	maxTries = 16
)

// DeadLetter is a message that the hub gave up delivering to one subscription. It outlives the subscription, and its
// content outlives the message log's retention (see DeadLetterReader).
type DeadLetter struct {
	ID           uint64
	Subscription SubscriptionID
	Topic        TopicID
	TopicName    string
	Callback     string
	Offset       uint64
	Attempts     uint32 // in total
	Status       int32  // last HTTP status, 0: none
	Reason       string // class of the last failure
	At           time.Time
	PublishedAt  time.Time
	Size         uint64 // bytes of the body
	ContentType  string
	// Tries are the last attempts, oldest first, at most 16. Attempts by a node that failed before recording them are
	// missing.
	Tries []Attempt
	// FirstPart is the first part of a blob, which is kept as long as the letter; 0 if the body is inline.
	FirstPart uint64
	Parts     []uint64 // all parts of the blob, in order; nil: inline, or not recorded
	Owner     string   // principal that owned the subscription, empty: none
	// Replaying is when a replay was requested that is still outstanding; zero: none.
	Replaying time.Time
}

// Attempt is one HTTP request of a delivery.
type Attempt struct {
	At      time.Time // its start
	Status  int32     // HTTP status, 0: no response
	Latency time.Duration
	Reason  string // class of the failure, empty: acknowledged
	Node    string // that made it
}

// DeadLetterID returns the public form of a dead letter's ID, such as "d-17".
func DeadLetterID(id uint64) string { return "d-" + strconv.FormatUint(id, 10) }

// MessageID returns the ID that every delivery of the message carried.
func (d *DeadLetter) MessageID() string {
	m := Message{Topic: d.Topic, Offset: d.Offset}
	return m.ID()
}

// letters holds the dead letters and statistics about them.
type letters struct {
	byID      map[uint64]*DeadLetter
	replaying map[uint64]struct{}
	bytes     uint64 // total size of their bodies
}

func newLetters() letters {
	return letters{byID: map[uint64]*DeadLetter{}, replaying: map[uint64]struct{}{}}
}

func (l *letters) insert(d *DeadLetter) {
	l.byID[d.ID] = d
	l.bytes += d.Size
	if !d.Replaying.IsZero() {
		l.replaying[d.ID] = struct{}{}
	}
}

func (l *letters) remove(d *DeadLetter) {
	delete(l.byID, d.ID)
	delete(l.replaying, d.ID)
	l.bytes -= d.Size
}

func (s *State) removeLetter(d *DeadLetter, fx *Effects) {
	s.letters.remove(d)
	fx.PartsReleased = fx.PartsReleased || d.FirstPart > 0
	s.countLetter(d, -1)
}

// deadLetter records a message given up; the subscription continues after it.
func (s *State) deadLetter(e *hubpb.MessageDeadLettered, fx *Effects) Result {
	sub := s.subs[SubscriptionID(e.Subscription)]
	if sub == nil {
		return Result{Outcome: OutcomeStale}
	}
	u := s.unitOf(sub)
	if e.Epoch != u.assignment.Epoch || !u.cursor.remains(e.Offset) || e.Offset > u.topic.Head {
		return Result{Outcome: OutcomeStale}
	}
	s.meta.NextDeadLetter++
	d := &DeadLetter{ID: s.meta.NextDeadLetter, Subscription: sub.ID, Topic: sub.Topic, TopicName: sub.TopicName,
		Callback: sub.Callback, Offset: e.Offset, Attempts: e.Attempts, Status: e.Status, Reason: shared(e.Reason), At: timeOf(s.meta.Now),
		PublishedAt: timeOf(e.PublishedAt), Size: e.Size, ContentType: shared(e.ContentType), Tries: attemptsFrom(e.Tries),
		Owner: sub.Owner}
	blob := s.topics[sub.Topic].blob(e.Offset)
	d.FirstPart, d.Parts = blob.part, blob.parts
	s.letters.insert(d)
	s.countLetter(d, 1)
	s.boundLetters(d.Owner, fx)
	s.touch(TableDeadLetter, d.ID)
	if old := s.letters.byID[d.ID-min(d.ID, maxDeadLetters)]; old != nil {
		s.removeLetter(old, fx)
		s.touch(TableDeadLetter, old.ID)
	}
	if e.Cursor == nil {
		u.cursor.place(e.Offset)
	} else if failures := u.cursor.Failures; u.cursor.adopt(e.Cursor, u.topic.Head) && u.sub != nil {
		s.announceFailing(u.sub, failures, fx)
	}
	u.touchCursor(s)
	sub.Cursor.DeadLetters++
	s.touch(TableCursor, e.Subscription)
	s.announceExhausted(sub, d, fx)
	return Result{ID: d.ID}
}

// requestReplays marks dead letters to be sent once more. It skips letters that are gone, already waiting, or whose
// subscription has ended; the result's ID is the number marked.
func (s *State) requestReplays(e *hubpb.DeadLetterReplayRequested, fx *Effects) Result {
	n := uint64(0)
	for _, id := range e.Letters {
		d := s.letters.byID[id]
		if d == nil || !d.Replaying.IsZero() || s.subs[d.Subscription] == nil {
			continue
		}
		d.Replaying = timeOf(max(s.meta.Now, 1))
		s.letters.replaying[id] = struct{}{}
		s.touch(TableDeadLetter, id)
		fx.Replays = append(fx.Replays, Replay{Letter: id, Subscription: d.Subscription})
		n++
	}
	if n == 0 {
		return Result{Outcome: OutcomeStale}
	}
	return Result{ID: n}
}

// recordReplays records the results of replays: a delivered letter is removed, any other stays with the attempt
// added.
func (s *State) recordReplays(e *hubpb.DeadLettersReplayed, fx *Effects) Result {
	for _, t := range e.Results {
		d := s.letters.byID[t.Letter]
		if d == nil {
			continue
		}
		s.touch(TableDeadLetter, d.ID)
		if t.Delivered {
			s.removeLetter(d, fx)
			continue
		}
		if !d.Replaying.IsZero() {
			d.Replaying = time.Time{}
			delete(s.letters.replaying, d.ID)
		}
		if t.Attempt == nil {
			continue
		}
		// Copies of the letter share its list, so it must not be appended to in place.
		d.Tries = append(slices.Clone(d.Tries), attemptFrom(t.Attempt))
		if len(d.Tries) > maxTries {
			d.Tries = d.Tries[len(d.Tries)-maxTries:]
		}
		d.Attempts++
		d.Status, d.Reason = t.Attempt.Status, t.Attempt.Reason
	}
	return Result{}
}

// dropLetters removes dead letters; the result's ID is their number.
func (s *State) dropLetters(e *hubpb.DeadLettersDropped, fx *Effects) Result {
	n := uint64(0)
	for _, id := range e.Letters {
		if d := s.letters.byID[id]; d != nil {
			s.removeLetter(d, fx)
			s.touch(TableDeadLetter, id)
			n++
		}
	}
	return Result{ID: n}
}

// endReplays cancels the outstanding replays of a subscription that has ended.
func (s *State) endReplays(id SubscriptionID) {
	for letter := range s.letters.replaying {
		if d := s.letters.byID[letter]; d.Subscription == id {
			d.Replaying = time.Time{}
			delete(s.letters.replaying, letter)
			s.touch(TableDeadLetter, letter)
		}
	}
}

// DeadLetter returns a copy of a dead letter.
func (s *State) DeadLetter(id uint64) (DeadLetter, bool) {
	d := s.letters.byID[id]
	if d == nil {
		return DeadLetter{}, false
	}
	return *d, true
}

// DeadLetters returns copies of at most max dead letters with an ID greater than after that match, in order of ID.
func (s *State) DeadLetters(after uint64, max int, match func(*DeadLetter) bool) []DeadLetter {
	return page(s.letters.byID, after, max, match)
}

// DeadLetterIDs returns the IDs of all dead letters that match, in order. A nil match selects all.
func (s *State) DeadLetterIDs(match func(*DeadLetter) bool) []uint64 {
	return pageIDs(s.letters.byID, 0, 0, match)
}

// Replays returns the outstanding replays, in order of dead letter ID.
func (s *State) Replays() []Replay {
	out := make([]Replay, 0, len(s.letters.replaying))
	for id := range s.letters.replaying {
		out = append(out, Replay{id, s.letters.byID[id].Subscription})
	}
	slices.SortFunc(out, func(a, b Replay) int { return cmp.Compare(a.Letter, b.Letter) })
	return out
}

// DeadLetterBytes returns the total size of all dead letters' bodies.
func (s *State) DeadLetterBytes() uint64 { return s.letters.bytes }

// SurplusLetters returns the dead letters that are older than maxAge at now, or exceed maxCount letters or maxBytes
// of bodies counted from the newest: at most limit of them, in order of ID. A bound of 0 does not apply.
func (s *State) SurplusLetters(maxAge time.Duration, maxCount int, maxBytes int64, now time.Time, limit int) []uint64 {
	ids := s.DeadLetterIDs(nil)
	count, bytes := len(ids), s.letters.bytes
	n := 0
	for n < len(ids) && n < limit {
		d := s.letters.byID[ids[n]]
		old := maxAge > 0 && now.Sub(d.At) > maxAge
		if !old && (maxCount <= 0 || count <= maxCount) && (maxBytes <= 0 || bytes <= uint64(maxBytes)) {
			break // IDs rise with time
		}
		count, bytes = count-1, bytes-d.Size
		n++
	}
	return ids[:n]
}

func attemptFrom(a *hubpb.Attempt) Attempt {
	return Attempt{At: timeOf(a.At), Status: a.Status, Latency: time.Duration(a.Latency), Reason: shared(a.Reason), Node: shared(a.Node)}
}

// shared returns the one copy of a string that many dead letters hold.
func shared(s string) string { return unique.Make(s).Value() }

func attemptsFrom(rows []*hubpb.Attempt) []Attempt {
	if len(rows) > maxTries {
		rows = rows[len(rows)-maxTries:]
	}
	if len(rows) == 0 {
		return nil
	}
	out := make([]Attempt, len(rows))
	for i, a := range rows {
		out[i] = attemptFrom(a)
	}
	return out
}

// Proto returns the attempt as stored in events and rows.
func (a *Attempt) Proto() *hubpb.Attempt {
	return &hubpb.Attempt{At: nanos(a.At), Status: a.Status, Latency: int64(a.Latency), Reason: a.Reason, Node: a.Node}
}

func (d *DeadLetter) row() *hubpb.DeadLetterRow {
	r := &hubpb.DeadLetterRow{Id: d.ID, Subscription: uint64(d.Subscription), Topic: uint64(d.Topic), Offset: d.Offset,
		Attempts: d.Attempts, Status: d.Status, Reason: d.Reason, At: nanos(d.At), TopicName: d.TopicName, Callback: d.Callback,
		Size: d.Size, PublishedAt: nanos(d.PublishedAt), ContentType: d.ContentType, ReplayingSince: nanos(d.Replaying), FirstPart: d.FirstPart, Owner: d.Owner, Parts: d.Parts}
	for i := range d.Tries {
		r.Tries = append(r.Tries, d.Tries[i].Proto())
	}
	return r
}

func deadLetterFromRow(r *hubpb.DeadLetterRow) *DeadLetter {
	return &DeadLetter{ID: r.Id, Subscription: SubscriptionID(r.Subscription), Topic: TopicID(r.Topic), Offset: r.Offset,
		Attempts: r.Attempts, Status: r.Status, Reason: shared(r.Reason), At: timeOf(r.At), TopicName: shared(r.TopicName),
		Callback: shared(r.Callback), Size: r.Size, PublishedAt: timeOf(r.PublishedAt), ContentType: shared(r.ContentType), Tries: attemptsFrom(r.Tries),
		Replaying: timeOf(r.ReplayingSince), FirstPart: r.FirstPart, Owner: shared(r.Owner), Parts: r.Parts}
}
