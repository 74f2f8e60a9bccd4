package hub

import (
	"context"
	"strconv"
	"strings"
	"time"

	"quorumhub/hub/hubpb"
)

// DeadLetterFilter selects dead letters. The zero value selects all.
type DeadLetterFilter struct {
	Topic        string         // name; empty: all
	CallbackKey  string         // normalised callback; empty: all
	Subscription SubscriptionID // 0: all
	Status       StatusFilter
	Reason       string    // class of the last failure; empty: all
	Since, Until time.Time // when it was given up: from Since on, before Until; zero: no bound
}

// StatusFilter is a range of HTTP statuses. The zero value matches any status and none.
type StatusFilter struct {
	Low, High int32
	None      bool // only letters whose last attempt got no response
}

// ParseStatusFilter parses 404, 4xx or none; an empty string matches all.
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

// Match reports whether the filter selects d.
func (f *DeadLetterFilter) Match(d *DeadLetter) bool {
	return (f.Topic == "" || d.TopicName == f.Topic) &&
		(f.Subscription == 0 || d.Subscription == f.Subscription) &&
		(f.Reason == "" || d.Reason == f.Reason) && f.Status.match(d.Status) &&
		(f.Since.IsZero() || !d.At.Before(f.Since)) && (f.Until.IsZero() || d.At.Before(f.Until)) &&
		(f.CallbackKey == "" || NormalizeURL(d.Callback) == f.CallbackKey)
}

// maxLettersInEvent bounds the dead letters named in one event.
const maxLettersInEvent = 2000

// DeadLetterCount counts the dead letters that an action affects.
type DeadLetterCount struct {
	Matched int // selected by the filter
	Ended   int // of these, without a subscription to replay to, since it has ended
	Done    int // marked for replay, or dropped; excludes those already waiting for a replay
}

// DeadLetterAction is an action on the dead letters that a filter selects.
type DeadLetterAction struct {
	Filter DeadLetterFilter
	DryRun bool // only count
	// Expect is how many letters the caller expects to select, or negative if any number will do. If the number
	// differs, nothing is done (CodeConflict).
	Expect int
}

// selectLetters selects and counts the letters of the action.
func (s *Service) selectLetters(a *DeadLetterAction) (ids []uint64, n DeadLetterCount, err error) {
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
		return nil, n, Errorf(CodeConflict, "expect: the filter selects %d dead letters, not %d; nothing was done", n.Matched, a.Expect)
	}
	return ids, n, nil
}

// ReplayDeadLetters schedules the selected dead letters to be sent once more, each by the owner of its subscription
// and independently of that subscription's own messages: order and cursor are unaffected. A letter that is
// acknowledged is removed; any other stays, with the attempt added to its list.
func (s *Service) ReplayDeadLetters(ctx context.Context, a DeadLetterAction) (DeadLetterCount, error) {
	ids, n, err := s.selectLetters(&a)
	if err != nil || a.DryRun {
		return n, err
	}
	n.Done, err = s.proposeForLetters(ctx, ids, replayEvent)
	return n, err
}

// DropDeadLetters permanently removes the selected dead letters.
func (s *Service) DropDeadLetters(ctx context.Context, a DeadLetterAction) (DeadLetterCount, error) {
	ids, n, err := s.selectLetters(&a)
	if err != nil || a.DryRun {
		return n, err
	}
	n.Done, err = s.proposeForLetters(ctx, ids, dropEvent)
	return n, err
}

func replayEvent(ids []uint64) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_DeadLetterReplayRequested{DeadLetterReplayRequested: &hubpb.DeadLetterReplayRequested{Letters: ids}}}
}

func dropEvent(ids []uint64) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_DeadLettersDropped{DeadLettersDropped: &hubpb.DeadLettersDropped{Letters: ids, Reason: "operator"}}}
}

// proposeForLetters proposes events for ids, maxLettersInEvent at a time.
func (s *Service) proposeForLetters(ctx context.Context, ids []uint64, event func([]uint64) *hubpb.Event) (done int, err error) {
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

// ReplayDeadLetter schedules one dead letter for replay. A missing letter is CodeNotFound; one whose subscription has
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
	_, err := s.propose(ctx, "", replayEvent([]uint64{id}))
	return err
}

// DropDeadLetter removes one dead letter. A missing one is CodeNotFound.
func (s *Service) DropDeadLetter(ctx context.Context, id uint64) error {
	res, err := s.proposer.Propose(ctx, dropEvent([]uint64{id}))
	if err == nil && res[0].ID == 0 {
		err = noLetter(id)
	}
	return err
}

func noLetter(id uint64) error {
	return &Error{Code: CodeNotFound, Param: "id", Message: DeadLetterID(id) + " is not a dead letter of this hub; expected an ID such as d-17"}
}

// DeadLetterEndedError reports that a dead letter cannot be replayed because its subscription has ended.
type DeadLetterEndedError struct {
	Letter       uint64
	Subscription SubscriptionID
	Callback     string
}

func (e *DeadLetterEndedError) Error() string {
	return DeadLetterID(e.Letter) + " cannot be replayed: its subscription " + e.Subscription.String() + " to " + e.Callback +
		" has ended; export it, or subscribe again and publish its content"
}
