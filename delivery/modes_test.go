package delivery_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"quorumhub/delivery"
	"quorumhub/delivery/retry"
	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/test/fake"
)

// TestI1I2I3EveryModeUnderTrouble: subscriptions and groups in every mode, with endpoints that answer at random,
// crashes of the node, rewinds, pauses, and members that come and go. Nothing is lost, messages with one key never
// overtake each other, and repetitions stay within what was in flight or unrecorded.
func TestI1I2I3EveryModeUnderTrouble(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		mode := rapid.SampledFrom([]hub.DeliveryMode{hub.DeliveryOrdered, hub.DeliveryParallel, hub.DeliveryKeyed}).Draw(rt, "mode")
		o := &hubpb.SubscriptionOptions{Mode: mode}
		if mode != hub.DeliveryOrdered {
			o.Window = rapid.Uint32Range(1, 8).Draw(rt, "window")
		}
		if mode == hub.DeliveryKeyed {
			o.Key = "header:Content-Type"
		}
		group := rapid.IntRange(0, 3).Draw(rt, "group members")
		if group > 0 {
			o.Group = "g"
		}
		seed := rapid.Uint64().Draw(rt, "seed")
		trouble := rapid.IntRange(0, 40).Draw(rt, "percent of failures")
		steps := rapid.SliceOfN(rapid.SampledFrom([]string{"publish", "publish", "publish", "wait", "wait", "crash", "rewind", "pause", "leave", "join"}), 1, 25).Draw(rt, "steps")
		if problem := troubled(t, o, max(group, 1), seed, trouble, steps); problem != "" {
			rt.Fatal(problem)
		}
	})
}

// story is the record of a run.
type story struct {
	mu       sync.Mutex
	key      map[string]string // of a message
	segment  map[string]int    // by key: the last message that arrived; -1 after a crash or a rewind
	acked    map[string]int
	problems []string
}

func troubled(t *testing.T, o *hubpb.SubscriptionOptions, members int, seed uint64, trouble int, steps []string) string {
	rng := rand.New(rand.NewPCG(seed, 1))
	s := &story{key: map[string]string{}, segment: map[string]int{}, acked: map[string]int{}}
	var healed atomic.Bool
	var rngMu sync.Mutex
	roll := func(n int) int {
		rngMu.Lock()
		defer rngMu.Unlock()
		return rng.IntN(n)
	}
	behave := func(_ string, _ int, body string) fake.Answer {
		s.arrived(o.Mode, body)
		a := fake.Answer{After: time.Duration(roll(20)) * time.Millisecond}
		if !healed.Load() && roll(100) < trouble {
			a.Status = []int{503, 404, 429, 500}[roll(4)]
		}
		if a.Status == 0 {
			s.mu.Lock()
			s.acked[body]++ // or cut off before the hub received it: then it counts as one more repetition
			s.mu.Unlock()
		}
		return a
	}
	published, allowed := 0, 0
	bubble(t, behave, func(o *delivery.DispatcherOptions) {
		o.CursorFlush = 50 * time.Millisecond
		o.Retry.Backoff = retry.Backoff{Initial: 50 * time.Millisecond, Max: 2 * time.Second}
	}, func(r *rig) {
		var ids []hub.SubscriptionID
		next := 0
		join := func() {
			next++
			ids = append(ids, r.Subscribe(fake.Want{Topic: "t", Callback: fmt.Sprint("http://cb.example/", next), Options: o, Lease: 1000 * time.Hour}))
		}
		for range members {
			join()
		}
		publish := func(n int) {
			for range n {
				key := string(rune('a' + roll(3)))
				body := fmt.Sprintf("%s:%d", key, published)
				s.mu.Lock()
				s.key[body] = key
				s.mu.Unlock()
				published++
				r.Do(&hubpb.Event{Kind: &hubpb.Event_MessagePublished{MessagePublished: &hubpb.MessagePublished{
					Topic: "t", ContentType: key, Body: []byte(body), AutoRegister: true}}})
			}
		}
		publish(1)
		for _, step := range steps {
			switch step {
			case "publish":
				publish(1 + roll(20))
			case "wait":
				r.after(time.Duration(roll(300)) * time.Millisecond)
			case "crash":
				// Whatever was acknowledged since the last cursor, or is in flight, may come again.
				r.crash()
				allowed += s.ackedSince(r)
				s.cut()
				r.start()
			case "rewind":
				head := r.Topic("t").Head
				to := uint64(roll(int(head) + 1))
				sub, _ := r.Subscription(ids[0])
				to = min(to, sub.Cursor.Offset)
				r.Rewind(ids[0], to)
				allowed += int(head) // everything after it may come again
				s.cut()
			case "pause":
				id := ids[roll(len(ids))]
				r.Pause(id, true)
				r.after(time.Duration(roll(200)) * time.Millisecond)
				r.Pause(id, false)
			case "leave":
				if len(ids) > 1 {
					i := roll(len(ids))
					allowed += max(int(o.Window), 1)
					r.End(ids[i], hubpb.EndReason_END_UNSUBSCRIBED)
					ids = append(ids[:i:i], ids[i+1:]...)
				}
			case "join":
				if o.Group != "" && len(ids) < 5 {
					join()
				}
			}
		}
		healed.Store(true)
		r.after(time.Hour)
		for _, id := range ids {
			sub, _ := r.Subscription(id)
			if head := r.Topic("t").Head; sub.Cursor.Offset != head || sub.Cursor.Through != 0 {
				s.problem("%s stands at %+v of %d", id, sub.Cursor, head)
			}
		}
		if n := len(r.DeadLetters()); n > 0 {
			s.problem("%d dead letters", n)
		}
		if st := r.d.Stats(); st.Fast+st.Slow+st.Ready+st.Waiting+st.Unsaved != 0 {
			s.problem("not at rest: %+v", st)
		}
	})
	more := 0
	for body := range s.key {
		n := s.acked[body]
		if n == 0 {
			s.problem("message %s was never acknowledged", body)
		}
		more += max(n-1, 0)
	}
	if more > allowed {
		s.problem("%d repetitions, at most %d are allowed", more, allowed)
	}
	return strings.Join(s.problems, "; ")
}

func (s *story) problem(format string, args ...any) {
	s.problems = append(s.problems, fmt.Sprintf(format, args...))
}

// arrived checks the order: of all messages in ordered mode, of those with one key in keyed mode.
func (s *story) arrived(mode hub.DeliveryMode, body string) {
	if mode == hub.DeliveryParallel {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	key, number, _ := strings.Cut(body, ":")
	if mode == hub.DeliveryOrdered {
		key = ""
	}
	var n int
	fmt.Sscan(number, &n)
	if last, ok := s.segment[key]; ok && n < last {
		s.problem("%s came after %d", body, last)
	}
	s.segment[key] = n
}

// cut restarts the check of the order: after a crash or a rewind, earlier messages may come again.
func (s *story) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.segment)
}

// ackedSince counts messages that were acknowledged but not recorded, and those in flight.
func (s *story) ackedSince(r *rig) int {
	recorded := 0
	r.View(func(st *hub.State) {
		seen := map[hub.GroupID]bool{}
		for _, sub := range st.Subscriptions(0, 0, nil) {
			if c := sub.Cursor; sub.Group == 0 || !seen[sub.Group] {
				seen[sub.Group] = true
				recorded += int(st.Head(sub.Topic) - c.Remaining(st.Head(sub.Topic)))
			}
		}
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(len(s.acked)-recorded, 0)
}
