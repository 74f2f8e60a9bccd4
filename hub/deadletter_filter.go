package hub

import (
	"context"
	"strconv"
	"strings"
	"time"

	"quorumhub/hub/hubpb"
)

// DeadLetterFilter chooses dead letters. The zero value chooses all.
type DeadLetterFilter struct {
	Topic        string         // name; empty: all
	CallbackKey  string         // normalised callback; empty: all
	Subscription SubscriptionID // 0: all
	Status       StatusFilter
	Reason       string    // class of the last failure; empty: all
	Since, Until time.Time // of being given up: from Since on, before Until; zero: no bound
}

// StatusFilter is a range of HTTP statuses. The zero value is all of them, and no status too.
type StatusFilter struct {
	Low, High int32
	None      bool // letters whose last attempt got no answer
}

// ParseStatusFilter reads 404, 4xx or none.
func ParseStatusFilter(s string) (f StatusFilter, ok bool) {
	if s == "" {
		return f, true
	}
	if s == "none" {
		return StatusFilter{None: true}, true
	}
	if class, ok := strings.CutSuffix(strings.ToLower(s), "xx"); ok && len(class) == 1 && class[0] >= '1' && class[0] <= '5' {
		low := int32(class[0]-'0') * 100
		return StatusFilter{Low: low, High: low + 99}, true
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n < 100 || n > 599 {
		return f, false
	}
	return StatusFilter{Low: int32(n), High: int32(n)}, true
}

func (f StatusFilter) match(status int32) bool {
	switch {
	case f.None:
		return status == 0
	case f.Low == 0:
		return true
	}
	return status >= f.Low && status <= f.High
}

// Match tells whether the filter chooses d.
func (f *DeadLetterFilter) Match(d *DeadLetter) bool {
	return (f.Topic == "" || d.TopicName == f.Topic) &&
		(f.Subscription == 0 || d.Subscription == f.Subscription) &&
		(f.Reason == "" || d.Reason == f.Reason) && f.Status.match(d.Status) &&
		(f.Since.IsZero() || !d.At.Before(f.Since)) && (f.Until.IsZero() || d.At.Before(f.Until)) &&
		(f.CallbackKey == "" || NormalizeURL(d.Callback) == f.CallbackKey)
}

// maxLettersInEvent bounds the dead letters that one event names.
const maxLettersInEvent = 2000

// DeadLetterCount says how many dead letters an action is about.
type DeadLetterCount struct {
	Matched int // chosen by the filter
	Ended   int // of these, those whose subscription has ended, so that there is nobody to replay them to
	Done    int // to be replayed, or dropped; those that wait for a replay already do not count
}

// DeadLetterAction is what to do with the dead letters that a filter chooses.
type DeadLetterAction struct {
	Filter DeadLetterFilter
	DryRun bool // only count
	// Expect, when it is not negative, is how many letters the caller thinks are chosen; with another number nothing is
	// done (CodeConflict).
	Expect int
}

// choose counts what the action is about.
func (s *Service) choose(a *DeadLetterAction) (ids []uint64, n DeadLetterCount, err error) {
	s.state.View(func(st *State) {
		ids = st.DeadLetterIDs(func(d *DeadLetter) bool {
			if !a.Filter.Match(d) {
				return false
			}
			n.Matched++
			if st.subs[d.Subscription] == nil {
				n.Ended++
			}
			return true
		})
	})
	if a.Expect >= 0 && n.Matched != a.Expect {
		return nil, n, Errorf(CodeConflict, "expect: %d dead letters are chosen, not %d; nothing was done", n.Matched, a.Expect)
	}
	return ids, n, nil
}

// ReplayDeadLetters has the dead letters that an action chooses sent once more, each by whoever delivers its
// subscription and beside that subscription's own messages: its order and its cursor are not touched. A letter that is
// acknowledged is gone; another one stays, with the attempt added to its list.
func (s *Service) ReplayDeadLetters(ctx context.Context, a DeadLetterAction) (DeadLetterCount, error) {
	ids, n, err := s.choose(&a)
	if err != nil || a.DryRun {
		return n, err
	}
	n.Done, err = s.eachLetters(ctx, ids, func(ids []uint64) *hubpb.Event {
		return &hubpb.Event{Kind: &hubpb.Event_DeadLetterReplayRequested{DeadLetterReplayRequested: &hubpb.DeadLetterReplayRequested{Letters: ids}}}
	})
	return n, err
}

// DropDeadLetters removes the dead letters that an action chooses, for good.
func (s *Service) DropDeadLetters(ctx context.Context, a DeadLetterAction) (DeadLetterCount, error) {
	ids, n, err := s.choose(&a)
	if err != nil || a.DryRun {
		return n, err
	}
	n.Done, err = s.eachLetters(ctx, ids, dropEvent)
	return n, err
}

func dropEvent(ids []uint64) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_DeadLettersDropped{DeadLettersDropped: &hubpb.DeadLettersDropped{Letters: ids, Reason: "operator"}}}
}

// eachLetters proposes events for ids, some at a time.
func (s *Service) eachLetters(ctx context.Context, ids []uint64, event func([]uint64) *hubpb.Event) (done int, err error) {
	for len(ids) > 0 {
		n := min(len(ids), maxLettersInEvent)
		res, err := s.proposer.Propose(ctx, event(ids[:n]))
		if err != nil {
			return done, err
		}
		if res[0].Outcome == OutcomeForgotten {
			return done, ErrAmbiguous
		}
		done += int(res[0].ID)
		ids = ids[n:]
	}
	return done, nil
}

// ReplayDeadLetter is ReplayDeadLetters for one. A letter that is not there is CodeNotFound; one whose subscription has
// ended is a *DeadLetterEndedError.
func (s *Service) ReplayDeadLetter(ctx context.Context, id uint64) error {
	var d DeadLetter
	var ok, active bool
	s.state.View(func(st *State) {
		if d, ok = st.DeadLetter(id); ok {
			active = st.subs[d.Subscription] != nil
		}
	})
	switch {
	case !ok:
		return noLetter(id)
	case !active:
		return &DeadLetterEndedError{Letter: id, Subscription: d.Subscription, Callback: d.Callback}
	case !d.Replaying.IsZero():
		return nil
	}
	res, err := s.proposer.Propose(ctx, &hubpb.Event{Kind: &hubpb.Event_DeadLetterReplayRequested{
		DeadLetterReplayRequested: &hubpb.DeadLetterReplayRequested{Letters: []uint64{id}}}})
	if err != nil {
		return err
	}
	return res[0].Err("")
}

// DropDeadLetter removes one dead letter. One that is not there is CodeNotFound.
func (s *Service) DropDeadLetter(ctx context.Context, id uint64) error {
	res, err := s.proposer.Propose(ctx, dropEvent([]uint64{id}))
	if err == nil && res[0].ID == 0 {
		err = noLetter(id)
	}
	return err
}

func noLetter(id uint64) error {
	return &Error{Code: CodeNotFound, Param: "id", Message: DeadLetterID(id) + " is no dead letter of this hub (any more); expected an id such as d-17"}
}

// DeadLetterEndedError says that a dead letter cannot be replayed, because its subscription has ended.
type DeadLetterEndedError struct {
	Letter       uint64
	Subscription SubscriptionID
	Callback     string
}

func (e *DeadLetterEndedError) Error() string {
	return DeadLetterID(e.Letter) + " cannot be replayed: its subscription " + e.Subscription.String() + " to " + e.Callback +
		" has ended; export it, or subscribe again and publish its content"
}
