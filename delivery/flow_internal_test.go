package delivery

import (
	"testing"

	"pgregory.net/rapid"

	"quorumhub/hub"
)

// TestI1I2FlowAgainstModel: whatever the outcomes, no message is forgotten, no finished one comes again, messages
// with one key are in flight one after the other in order, and a flow that begins at the cursor owes the same
// messages.
func TestI1I2FlowAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const n = 60
		keys := rapid.SliceOfN(rapid.ByteRange('a', 'c'), n+1, n+1).Draw(t, "keys")
		kind := rapid.SampledFrom([]string{"parallel", "keyed", "serial"}).Draw(t, "kind")
		window := rapid.IntRange(1, 4).Draw(t, "window")
		fresh := func(c hub.Cursor) *flow {
			f := &flow{topic: &topicLanes{head: n}, window: window, serial: kind == "serial", last: map[uint64]*entry{}, members: []*lane{{}}}
			if kind == "keyed" {
				f.key = newKeying("header:Content-Type")
			}
			f.begin(&c)
			return f
		}
		f := fresh(hub.Cursor{})
		done := map[uint64]bool{}
		tries := map[uint64]uint32{}
		var claimed, waiting []*entry
		before := func(e *entry) { // nothing of its key that comes first may be open
			for o := uint64(1); o < e.m.Offset; o++ {
				if !done[o] && (kind == "serial" || kind == "keyed" && keys[o] == keys[e.m.Offset]) {
					t.Fatalf("%d is under way before %d", e.m.Offset, o)
				}
			}
		}
		pick := func(l *[]*entry) *entry {
			if len(*l) == 0 {
				return nil
			}
			i := rapid.IntRange(0, len(*l)-1).Draw(t, "which")
			e := (*l)[i]
			*l = append((*l)[:i:i], (*l)[i+1:]...)
			return e
		}
		owed := func(c hub.Cursor) map[uint64]uint32 {
			out := map[uint64]uint32{}
			for o := c.Offset + 1; o <= n; o++ {
				if o > c.Through {
					out[o] = 0
				}
			}
			for _, o := range c.Open {
				out[o.Offset] = o.Attempts
			}
			return out
		}
		check := func() {
			got := owed(f.cursor(nil))
			for o := uint64(1); o <= n; o++ {
				attempts, open := got[o]
				if open == done[o] || open && attempts != tries[o] {
					t.Fatalf("message %d: owed %v after %d attempts, want %v after %d; cursor %+v", o, open, attempts, !done[o], tries[o], f.cursor(nil))
				}
			}
			for o := uint64(1); o <= f.done; o++ {
				if !done[o] {
					t.Fatalf("done says %d, but %d is owed", f.done, o)
				}
			}
		}
		read := func() {
			for f.room() > 0 && f.next <= n && !(kind == "serial" && f.unfinished() > 0 && rapid.Bool().Draw(t, "no more")) {
				f.add(hub.Message{Offset: f.next, ContentType: string(keys[f.next : f.next+1]), Body: []byte("x")})
				if rapid.IntRange(0, 3).Draw(t, "read on") == 0 {
					break
				}
			}
		}
		for range rapid.IntRange(0, 150).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"read", "take", "take", "take", "finish", "finish", "refuse", "retry", "back", "restart", "skip", "give up"}).Draw(t, "step") {
			case "read":
				read()
			case "take":
				if e := f.take(); e != nil {
					before(e)
					if done[e.m.Offset] {
						t.Fatalf("%d comes again", e.m.Offset)
					}
					claimed = append(claimed, e)
				}
			case "finish":
				if e := pick(&claimed); e != nil {
					if e.state != entryDone {
						done[e.m.Offset] = true
					}
					f.finish(e)
				}
			case "give up":
				if e := pick(&claimed); e != nil && e.state == entryClaimed {
					e.state = entrySettling
					if _, open := owed(f.cursor(e))[e.m.Offset]; open {
						t.Fatalf("%d is given up and owed: %+v", e.m.Offset, f.cursor(e))
					}
					done[e.m.Offset] = true
					f.finish(e)
				}
			case "refuse":
				if e := pick(&claimed); e != nil && e.state == entryClaimed {
					e.attempts++
					tries[e.m.Offset]++
					f.unload(e)
					e.state = entryDelayed
					waiting = append(waiting, e)
				}
			case "retry":
				if e := pick(&waiting); e != nil && e.state == entryDelayed {
					e.state = entryFree
					f.free = append(f.free, e)
				}
			case "back":
				if e := pick(&claimed); e != nil {
					f.giveBack(e)
				}
			case "restart":
				f = fresh(f.cursor(nil))
				claimed, waiting = nil, nil
			case "skip":
				if rapid.IntRange(0, 5).Draw(t, "really") > 0 {
					continue
				}
				through := rapid.Uint64Range(0, f.next+2).Draw(t, "through")
				f.skip(min(through, n))
				for o := uint64(1); o <= min(through, n); o++ {
					done[o] = true
				}
			}
			check()
			if len(f.open) > 4*window+64+serialOpen+70 {
				t.Fatalf("%d entries are kept", len(f.open))
			}
		}
	})
}
