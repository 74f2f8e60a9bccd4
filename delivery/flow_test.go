package delivery_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"quorumhub/delivery"
	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/test/fake"
)

func parallel(window uint32) *hubpb.SubscriptionOptions {
	return &hubpb.SubscriptionOptions{Mode: hub.DeliveryParallel, Window: window}
}

func keyed(window uint32, key string) *hubpb.SubscriptionOptions {
	return &hubpb.SubscriptionOptions{Mode: hub.DeliveryKeyed, Window: window, Key: key}
}

func grouped(o *hubpb.SubscriptionOptions) *hubpb.SubscriptionOptions {
	return &hubpb.SubscriptionOptions{Mode: o.GetMode(), Window: o.GetWindow(), Key: o.GetKey(), Group: "g"}
}

// counts returns how often each body arrived.
func counts(as []fake.Arrival) map[string]int {
	n := map[string]int{}
	for _, a := range as {
		n[a.Body]++
	}
	return n
}

// once fails unless messages 0 to n-1 arrived once each, with at most the given number of repetitions.
func once(t *testing.T, as []fake.Arrival, n int, repeated int) {
	t.Helper()
	got, more := counts(as), 0
	for i := range n {
		c := got[fmt.Sprint(i)]
		if c == 0 {
			t.Errorf("message %d never arrived", i)
		}
		more += max(c-1, 0)
	}
	if more > repeated || len(got) > n {
		t.Errorf("%d repetitions, at most %d are allowed; %d different ones, want %d", more, repeated, len(got), n)
	}
}

func TestParallelWindow(t *testing.T) {
	slow := func(string, int, string) fake.Answer { return fake.Answer{After: 10 * time.Millisecond} }
	for _, window := range []uint32{1, 4, 64} {
		t.Run(fmt.Sprint(window), func(t *testing.T) {
			bubble(t, slow, nil, func(r *rig) {
				id := r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback, Options: parallel(window)})
				for i := range 256 {
					r.Publish("t", fmt.Sprint(i))
				}
				// As fast as the window allows: 256 messages in 256/window rounds of 10 ms.
				r.after(time.Duration(256/window)*10*time.Millisecond + 5*time.Millisecond)
				once(t, r.net.To(fake.Callback), 256, 0)
				if n := r.net.MostAt(fake.Callback); n != int(window) {
					t.Errorf("%d in flight at once, want %d", n, window)
				}
				r.after(time.Second)
				if sub, _ := r.Subscription(id); sub.Cursor.Offset != 256 || sub.Cursor.Through != 0 || sub.Cursor.Delivered != 256 {
					t.Errorf("cursor %+v", sub.Cursor)
				}
				if st := r.d.Stats(); st.Fast+st.Slow+st.Ready+st.Waiting+st.Unsaved != 0 {
					t.Errorf("not at rest: %+v", st)
				}
			})
		})
	}
}

// TestParallelRefusedBlocksNobody: a refused message is retried while the others proceed, and becomes a dead letter
// alone.
func TestParallelRefusedBlocksNobody(t *testing.T) {
	refuse := func(_ string, _ int, body string) fake.Answer {
		return fake.Answer{Status: failFor(body == "3" || body == "20", 404)}
	}
	bubble(t, refuse, func(o *delivery.DispatcherOptions) { o.Retry.RefusedAttempts = 3 }, func(r *rig) {
		id := r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback, Options: parallel(2)})
		for i := range 400 {
			r.Publish("t", fmt.Sprint(i))
		}
		r.after(500 * time.Millisecond)
		once(t, r.net.To(fake.Callback), 400, 0)
		sub, _ := r.Subscription(id)
		if c := sub.Cursor; c.Offset != 3 || c.Through != 400 || len(c.Open) != 2 || c.Open[0].Offset != 4 || c.Open[1].Offset != 21 || c.Open[1].Attempts != 1 {
			t.Errorf("cursor %+v", c)
		}
		r.after(time.Minute)
		once(t, r.net.To(fake.Callback), 400, 4)
		letters := r.DeadLetters()
		if len(letters) != 2 || letters[0].Offset+letters[1].Offset != 25 || letters[0].Attempts != 3 || letters[0].Status != 404 {
			t.Errorf("dead letters %+v", letters)
		}
		if sub, _ := r.Subscription(id); sub.Cursor.Offset != 400 || sub.Cursor.Through != 0 || sub.Cursor.DeadLetters != 2 {
			t.Errorf("cursor %+v", sub.Cursor)
		}
	})
}

// TestI3ParallelFailoverRepeatsLittle: the next owner does not resend messages acknowledged ahead of a stuck one, and
// remembers the attempts at that one.
func TestI3ParallelFailoverRepeatsLittle(t *testing.T) {
	refuse := func(_ string, _ int, body string) fake.Answer { return fake.Answer{Status: failFor(body == "5", 404)} }
	bubble(t, refuse, func(o *delivery.DispatcherOptions) { o.Retry.RefusedAttempts = 4 }, func(r *rig) {
		r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback, Options: parallel(8)})
		for i := range 300 {
			r.Publish("t", fmt.Sprint(i))
		}
		r.after(1500 * time.Millisecond) // the refused message was attempted twice
		r.crash()
		r.start()
		r.after(time.Minute)
		once(t, r.net.To(fake.Callback), 300, 3)
		if l := r.DeadLetters(); len(l) != 1 || l[0].Attempts != 4 || counts(r.net.To(fake.Callback))["5"] != 4 {
			t.Errorf("dead letters %+v", l)
		}
	})
}

// inOrder fails if messages with one key arrive out of order. Bodies are "<key>:<n>"; a repetition may follow its
// original.
func inOrder(t *testing.T, as []fake.Arrival) {
	t.Helper()
	last := map[string]int{}
	for _, a := range as {
		key, number, _ := strings.Cut(a.Body, ":")
		var n int
		fmt.Sscan(number, &n)
		if n != last[key] && n != last[key]+1 {
			t.Fatalf("%s after %s:%d", a.Body, key, last[key])
		}
		last[key] = n
	}
}

func TestI2KeyedOrder(t *testing.T) {
	// Key a is slow, key b is refused for a while, the others are fast.
	behave := func(_ string, nth int, body string) fake.Answer {
		switch body[0] {
		case 'a':
			return fake.Answer{After: 30 * time.Millisecond}
		case 'b':
			return fake.Answer{Status: failFor(nth%3 == 0, 404), After: time.Millisecond}
		}
		return fake.Answer{After: time.Millisecond}
	}
	bubble(t, behave, nil, func(r *rig) {
		id := r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback, Options: keyed(4, "header:Content-Type")})
		for i := 1; i <= 40; i++ {
			for _, key := range []string{"a", "b", "c", "d"} {
				r.Do(&hubpb.Event{Kind: &hubpb.Event_MessagePublished{MessagePublished: &hubpb.MessagePublished{
					Topic: "t", ContentType: key, Body: fmt.Appendf(nil, "%s:%d", key, i)}}})
			}
		}
		r.after(time.Second)
		inOrder(t, r.net.To(fake.Callback))
		r.after(time.Hour)
		got := r.net.To(fake.Callback)
		inOrder(t, got)
		if n := len(counts(got)); n != 160 {
			t.Errorf("%d messages arrived", n)
		}
		if n := r.net.MostAt(fake.Callback); n < 2 || n > 4 {
			t.Errorf("%d in flight at once", n)
		}
		if sub, _ := r.Subscription(id); sub.Cursor.Offset != 160 || len(r.DeadLetters()) != 0 {
			t.Errorf("cursor %+v", sub.Cursor)
		}
	})
}

func TestKeys(t *testing.T) {
	for pointer, want := range map[string]string{
		"": `{"a": {"b/c": [10, "x", {"~": true}]}, "a~b": null}`, "/a/b~1c/0": "10", "/a/b~1c/1": "x", "/a/b~1c/2/~0": "true", "/a~0b": "null",
		"/a/b~1c/3": "", "/a/b~1c/01": "", "/a/b~1c/-": "", "/x": "", "/a/b~1c/0/x": "",
	} {
		if got := string(delivery.Pointed([]byte(`{"a": {"b/c": [10, "x", {"~": true}]}, "a~b": null}`), "json:"+pointer)); got != want {
			t.Errorf("%q: %q, want %q", pointer, got, want)
		}
	}
	for _, body := range []string{"", "plain", `{"a":`, `[1,2`, `{"a" 1}`} {
		if got := delivery.Pointed([]byte(body), "json:/a/b"); got != nil {
			t.Errorf("%q: %q", body, got)
		}
	}
}

// TestSickEndpointIsProbed: a down endpoint gets one message at a time; once it answers, the window is open again.
func TestSickEndpointIsProbed(t *testing.T) {
	var since time.Time
	down := func(string, int, string) fake.Answer {
		if d := time.Since(since); d > time.Second && d < 5*time.Minute {
			return fake.Answer{Status: 503, After: 5 * time.Millisecond}
		}
		return fake.Answer{After: 5 * time.Millisecond}
	}
	bubble(t, down, func(o *delivery.DispatcherOptions) { o.Retry.MaxAttempts = 50 }, func(r *rig) {
		since = time.Now()
		r.Subscribe(fake.Want{Topic: "t", Callback: fake.Callback, Options: parallel(16), Lease: 10 * time.Hour})
		r.after(2 * time.Second)
		for i := range 200 {
			r.Publish("t", fmt.Sprint(i))
		}
		r.after(4 * time.Minute)
		tried := len(r.net.To(fake.Callback))
		if tried > 16+12 {
			t.Errorf("%d attempts in four minutes", tried)
		}
		r.net.Mu.Lock()
		clear(r.net.Most)
		r.net.Mu.Unlock()
		r.after(time.Minute - 5*time.Second)
		if n := r.net.MostAt(fake.Callback); n > 1 {
			t.Errorf("%d probes at once", n)
		}
		r.after(time.Minute + 6*time.Second)
		once(t, r.net.To(fake.Callback), 200, tried+5)
		if n := r.net.MostAt(fake.Callback); n != 16 {
			t.Errorf("%d in flight at once after the recovery", n)
		}
	})
}

// members returns the callbacks of a group.
func members(n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprint("http://cb.example/member", i))
	}
	return out
}

// TestGroupSharesMessages: each message goes to one member, and every member gets some.
func TestGroupSharesMessages(t *testing.T) {
	for name, o := range map[string]*hubpb.SubscriptionOptions{"ordered": nil, "parallel": parallel(4), "keyed": keyed(4, "json:")} {
		t.Run(name, func(t *testing.T) {
			slow := func(string, int, string) fake.Answer { return fake.Answer{After: 2 * time.Millisecond} }
			bubble(t, slow, nil, func(r *rig) {
				var ids []hub.SubscriptionID
				for _, m := range members(3) {
					ids = append(ids, r.Subscribe(fake.Want{Topic: "t", Callback: m, Options: grouped(o)}))
				}
				for i := range 300 {
					r.Publish("t", fmt.Sprint(i))
				}
				r.after(5 * time.Second)
				all := r.net.All()
				once(t, all, 300, 0)
				for _, m := range members(3) {
					if n := len(r.net.To(m)); n < 30 {
						t.Errorf("%s got %d of 300", m, n)
					}
				}
				if o == nil {
					for i, a := range all {
						if a.Body != fmt.Sprint(i) {
							t.Fatalf("message %s arrived as number %d", a.Body, i)
						}
					}
				}
				delivered := uint64(0)
				for _, id := range ids {
					sub, _ := r.Subscription(id)
					if delivered += sub.Cursor.Delivered; sub.Cursor.Offset != 300 || sub.Cursor.Through != 0 {
						t.Errorf("%s has cursor %+v", id, sub.Cursor)
					}
				}
				if delivered != 300 {
					t.Errorf("%d are counted as delivered", delivered)
				}
			})
		})
	}
}

// TestGroupMemberDies: when a member fails, ends or leaves, its messages in flight and its share go to the others.
func TestGroupMemberDies(t *testing.T) {
	for name, tc := range map[string]struct {
		answer fake.Answer
		end    func(r *rig, id hub.SubscriptionID)
	}{
		"down":         {fake.Answer{Status: 503}, nil},
		"refuses":      {fake.Answer{Status: 404}, nil},
		"gone":         {fake.Answer{Status: 410}, nil},
		"hangs":        {fake.Answer{Hang: true}, nil},
		"unsubscribed": {fake.Answer{Hang: true}, func(r *rig, id hub.SubscriptionID) { r.End(id, hubpb.EndReason_END_UNSUBSCRIBED) }},
		"paused":       {fake.Answer{After: time.Second}, func(r *rig, id hub.SubscriptionID) { r.Pause(id, true) }},
	} {
		for mode, o := range map[string]*hubpb.SubscriptionOptions{"ordered": nil, "parallel": parallel(4), "keyed": keyed(4, "json:")} {
			t.Run(name+" "+mode, func(t *testing.T) {
				bad := members(3)[1]
				bubble(t, func(url string, _ int, _ string) fake.Answer {
					if url == bad {
						return tc.answer
					}
					return fake.Answer{}
				}, func(o *delivery.DispatcherOptions) { o.Retry.RefusedAttempts = 20 }, func(r *rig) {
					var ids []hub.SubscriptionID
					for _, m := range members(3) {
						ids = append(ids, r.Subscribe(fake.Want{Topic: "t", Callback: m, Options: grouped(o), Lease: 100 * time.Hour}))
					}
					for i := range 60 {
						r.Publish("t", fmt.Sprint(i))
					}
					r.after(100 * time.Millisecond)
					if tc.end != nil {
						tc.end(r, ids[1])
					}
					r.after(2 * time.Hour)
					var good []fake.Arrival
					for _, a := range r.net.All() {
						if a.URL != bad || tc.answer.After > 0 && !a.Cut {
							good = append(good, a)
						}
					}
					once(t, good, 60, 0)
					if sub, _ := r.Subscription(ids[0]); sub.Cursor.Offset != 60 || len(r.DeadLetters()) != 0 {
						t.Errorf("the group has cursor %+v, %d dead letters", sub.Cursor, len(r.DeadLetters()))
					}
					if o == nil {
						seen := -1
						for _, a := range good {
							var n int
							if fmt.Sscan(a.Body, &n); n != seen+1 {
								t.Fatalf("%d after %d", n, seen)
							}
							seen = n
						}
					}
				})
			})
		}
	}
}

// TestGroupMembershipChanges: members join and leave while messages flow; a group whose last member left starts over.
func TestGroupMembershipChanges(t *testing.T) {
	slow := func(string, int, string) fake.Answer { return fake.Answer{After: time.Millisecond} }
	bubble(t, slow, nil, func(r *rig) {
		n := 0
		publish := func(k int) {
			for range k {
				r.Publish("t", fmt.Sprint(n))
				n++
			}
		}
		m := members(4)
		a := r.Subscribe(fake.Want{Topic: "t", Callback: m[0], Options: grouped(parallel(2))})
		publish(50)
		r.after(5 * time.Millisecond)
		b := r.Subscribe(fake.Want{Topic: "t", Callback: m[1], Options: grouped(parallel(2)), From: 10_000})
		publish(50)
		r.after(5 * time.Millisecond)
		r.End(a, hubpb.EndReason_END_UNSUBSCRIBED)
		publish(50)
		r.after(5 * time.Millisecond)
		r.Subscribe(fake.Want{Topic: "t", Callback: m[2], Options: grouped(parallel(2))})
		r.after(time.Second)
		cut := 0
		for _, at := range r.net.All() {
			if at.Cut {
				cut++
			}
		}
		once(t, r.net.All(), 150, cut)
		// A member that leaves for good continues at the group's position, and no longer gets the group's messages.
		r.Subscribe(fake.Want{Topic: "t", Callback: m[1]})
		before := len(r.net.All())
		publish(10)
		r.after(time.Second)
		got := counts(r.net.All()[before:])
		if len(r.net.To(m[1])) == 0 || !maps.Equal(got, map[string]int{"150": 2, "151": 2, "152": 2, "153": 2, "154": 2, "155": 2, "156": 2, "157": 2, "158": 2, "159": 2}) {
			t.Errorf("subscription and group got %v", got)
		}
		if sub, _ := r.Subscription(b); sub.Group != 0 || sub.Cursor.Offset != 160 {
			t.Errorf("the member that left: %+v", sub)
		}
	})
}
