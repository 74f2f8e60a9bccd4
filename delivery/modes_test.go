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
		percent := rapid.IntRange(0, 40).Draw(rt, "percent of failures")
		steps := rapid.SliceOfN(rapid.SampledFrom([]string{"publish", "publish", "publish", "wait", "wait", "crash", "rewind", "pause", "leave", "join"}), 1, 25).Draw(rt, "steps")
		if problem := troubled(t, o, max(group, 1), seed, percent, steps); problem != "" {
			rt.Fatal(problem)
		}
	})
}

// story is the record of a run.
type story struct {
	mu       sync.Mutex
	key      map[string]string // of a message
	segment  map[string]int    // by key: the last message that arrived; empty after a crash or a rewind
	straggle map[string]bool   // by key: a request of before the last rewind may have arrived after it
	acked    map[string]int
	problems []string
}

// trouble is a run of steps on a topic whose endpoints fail at random.
type trouble struct {
	*rig
	*story
	options *hubpb.SubscriptionOptions
	percent int // of requests that fail
	healed  atomic.Bool

	rngMu sync.Mutex
	rng   *rand.Rand

	ids       []hub.SubscriptionID
	joined    int
	published int
	allowed   int // repetitions
}

// troubled runs the steps and returns what went wrong.
func troubled(t *testing.T, o *hubpb.SubscriptionOptions, members int, seed uint64, percent int, steps []string) string {
	x := &trouble{options: o, percent: percent, rng: rand.New(rand.NewPCG(seed, 1)),
		story: &story{key: map[string]string{}, segment: map[string]int{}, acked: map[string]int{}}}
	bubble(t, x.behave, func(o *delivery.DispatcherOptions) {
		o.CursorFlush = 50 * time.Millisecond
		o.Retry.Backoff = retry.Backoff{Initial: 50 * time.Millisecond, Max: 2 * time.Second}
	}, func(r *rig) {
		x.rig = r
		for range members {
			x.join()
		}
		x.publish(1)
		for _, step := range steps {
			x.step(step)
		}
		x.healed.Store(true)
		r.after(time.Hour)
		x.checkRest()
	})
	x.checkRepetitions()
	return strings.Join(x.problems, "; ")
}

func (x *trouble) roll(n int) int {
	x.rngMu.Lock()
	defer x.rngMu.Unlock()
	return x.rng.IntN(n)
}

func (x *trouble) behave(_ string, _ int, body string) fake.Answer {
	x.arrived(x.options.Mode, body)
	a := fake.Answer{After: time.Duration(x.roll(20)) * time.Millisecond}
	if !x.healed.Load() && x.roll(100) < x.percent {
		a.Status = []int{503, 404, 429, 500}[x.roll(4)]
	}
	if a.Status == 0 {
		x.story.mu.Lock()
		x.acked[body]++ // or cut off before the hub received it: then it counts as one more repetition
		x.story.mu.Unlock()
	}
	return a
}

func (x *trouble) join() {
	x.joined++
	x.ids = append(x.ids, x.Subscribe(fake.Want{Topic: "t", Callback: fmt.Sprint("http://cb.example/", x.joined), Options: x.options, Lease: 1000 * time.Hour}))
}

func (x *trouble) publish(n int) {
	for range n {
		key := string(rune('a' + x.roll(3)))
		body := fmt.Sprintf("%s:%d", key, x.published)
		x.story.mu.Lock()
		x.key[body] = key
		x.story.mu.Unlock()
		x.published++
		x.Do(&hubpb.Event{Kind: &hubpb.Event_MessagePublished{MessagePublished: &hubpb.MessagePublished{
			Topic: "t", ContentType: key, Body: []byte(body), AutoRegister: true}}})
	}
}

func (x *trouble) step(name string) {
	switch name {
	case "publish":
		x.publish(1 + x.roll(20))
	case "wait":
		x.after(time.Duration(x.roll(300)) * time.Millisecond)
	case "crash":
		// Whatever was acknowledged since the last cursor, or is in flight, may come again.
		x.crash()
		x.allowed += x.ackedSince(x.rig)
		x.cut()
		x.start()
	case "rewind":
		head := x.Topic("t").Head
		to := uint64(x.roll(int(head) + 1))
		sub, _ := x.Subscription(x.ids[0])
		x.story.mu.Lock() // nothing arrives between the rewind and the restart of the check
		x.Rewind(x.ids[0], min(to, sub.Cursor.Offset))
		clear(x.segment)
		x.straggle = map[string]bool{"": true, "a": true, "b": true, "c": true}
		x.story.mu.Unlock()
		x.allowed += int(head) // everything after it may come again
	case "pause":
		id := x.ids[x.roll(len(x.ids))]
		x.Pause(id, true)
		x.after(time.Duration(x.roll(200)) * time.Millisecond)
		x.Pause(id, false)
	case "leave":
		if len(x.ids) > 1 {
			i := x.roll(len(x.ids))
			x.allowed += max(int(x.options.Window), 1)
			x.End(x.ids[i], hubpb.EndReason_END_UNSUBSCRIBED)
			x.ids = append(x.ids[:i:i], x.ids[i+1:]...)
		}
	case "join":
		if x.options.Group != "" && len(x.ids) < 5 {
			x.join()
		}
	}
}

// checkRest expects everything delivered and the dispatcher at rest.
func (x *trouble) checkRest() {
	for _, id := range x.ids {
		sub, _ := x.Subscription(id)
		if head := x.Topic("t").Head; sub.Cursor.Offset != head || sub.Cursor.Through != 0 {
			x.problem("%s has cursor %+v of %d", id, sub.Cursor, head)
		}
	}
	if n := len(x.DeadLetters()); n > 0 {
		x.problem("%d dead letters", n)
	}
	if st := x.d.Stats(); st.Fast+st.Slow+st.Ready+st.Waiting+st.Unsaved != 0 {
		x.problem("not at rest: %+v", st)
	}
}

// checkRepetitions expects every message acknowledged, and no more repetitions than allowed.
func (x *trouble) checkRepetitions() {
	more := 0
	for body := range x.key {
		n := x.acked[body]
		if n == 0 {
			x.problem("message %s was never acknowledged", body)
		}
		more += max(n-1, 0)
	}
	if more > x.allowed {
		x.problem("%d repetitions, at most %d are allowed", more, x.allowed)
	}
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
		if !s.straggle[key] {
			s.problem("%s arrived after %d", body, last)
		}
		delete(s.straggle, key)
	}
	s.segment[key] = n
}

// cut restarts the check of the order: after a crash, earlier messages may come again.
func (s *story) cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.segment)
	clear(s.straggle)
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
