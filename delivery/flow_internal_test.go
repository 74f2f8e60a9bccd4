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
		m := &flowModel{
			T:      t,
			keys:   rapid.SliceOfN(rapid.ByteRange('a', 'c'), modelHead+1, modelHead+1).Draw(t, "keys"),
			kind:   rapid.SampledFrom([]string{"parallel", "keyed", "serial"}).Draw(t, "kind"),
			window: rapid.IntRange(1, 4).Draw(t, "window"),
			done:   map[uint64]bool{}, attempts: map[uint64]uint32{},
		}
		m.begin(hub.Cursor{})
		for range rapid.IntRange(0, 150).Draw(t, "steps") {
			m.step(rapid.SampledFrom([]string{"read", "take", "take", "take", "finish", "finish", "refuse", "retry", "back", "restart", "skip", "give up"}).Draw(t, "step"))
			m.check()
		}
	})
}

// modelHead is the offset of the last message in a flowModel's log.
const modelHead = 60

// flowModel is a flow, with what is known of its messages.
type flowModel struct {
	*rapid.T
	keys   []byte
	kind   string
	window int

	f                *flow
	claimed, waiting []*entry
	done             map[uint64]bool
	attempts         map[uint64]uint32
}

// begin starts a flow at a cursor.
func (m *flowModel) begin(c hub.Cursor) {
	m.f = &flow{topic: &topicLanes{head: modelHead}, window: m.window, serial: m.kind == "serial", last: map[uint64]*entry{}, members: []*lane{{}}}
	if m.kind == "keyed" {
		m.f.key = newKeying("header:Content-Type")
	}
	m.f.begin(&c)
	m.claimed, m.waiting = nil, nil
}

func (m *flowModel) step(name string) {
	switch name {
	case "read":
		m.read()
	case "take":
		m.take()
	case "restart":
		m.begin(m.f.cursor(nil))
	case "skip":
		m.skip()
	case "retry":
		if e := m.pick(&m.waiting); e != nil && e.state == entryDelayed {
			e.state = entryFree
			m.f.free = append(m.f.free, e)
		}
	default:
		if e := m.pick(&m.claimed); e != nil {
			m.settle(name, e)
		}
	}
}

// settle ends a claim in one of several ways.
func (m *flowModel) settle(how string, e *entry) {
	switch {
	case how == "back":
		m.f.giveBack(e)
	case how == "finish":
		if e.state != entryDone {
			m.done[e.m.Offset] = true
		}
		m.f.finish(e)
	case e.state != entryClaimed: // skipped meanwhile
	case how == "give up":
		e.state = entrySettling
		if _, open := owed(m.f.cursor(e))[e.m.Offset]; open {
			m.Fatalf("%d is given up and owed: %+v", e.m.Offset, m.f.cursor(e))
		}
		m.done[e.m.Offset] = true
		m.f.finish(e)
	case how == "refuse":
		e.attempts++
		m.attempts[e.m.Offset]++
		m.f.unload(e)
		e.state = entryDelayed
		m.waiting = append(m.waiting, e)
	}
}

func (m *flowModel) read() {
	f := m.f
	for f.room() > 0 && f.next <= modelHead && !(f.serial && f.unfinished() > 0 && rapid.Bool().Draw(m.T, "no more")) {
		f.add(hub.Message{Offset: f.next, ContentType: string(m.keys[f.next : f.next+1]), Body: []byte("x")})
		if rapid.IntRange(0, 3).Draw(m.T, "read on") == 0 {
			break
		}
	}
}

// take claims a message. No earlier one that it must wait for may be open.
func (m *flowModel) take() {
	e := m.f.take()
	if e == nil {
		return
	}
	for o := uint64(1); o < e.m.Offset; o++ {
		if !m.done[o] && (m.f.serial || m.kind == "keyed" && m.keys[o] == m.keys[e.m.Offset]) {
			m.Fatalf("%d is in flight before %d", e.m.Offset, o)
		}
	}
	if m.done[e.m.Offset] {
		m.Fatalf("%d comes again", e.m.Offset)
	}
	m.claimed = append(m.claimed, e)
}

func (m *flowModel) skip() {
	if rapid.IntRange(0, 5).Draw(m.T, "really") > 0 {
		return
	}
	through := min(rapid.Uint64Range(0, m.f.next+2).Draw(m.T, "through"), modelHead)
	m.f.skip(through)
	for o := uint64(1); o <= through; o++ {
		m.done[o] = true
	}
}

func (m *flowModel) pick(l *[]*entry) *entry {
	if len(*l) == 0 {
		return nil
	}
	i := rapid.IntRange(0, len(*l)-1).Draw(m.T, "which")
	e := (*l)[i]
	*l = append((*l)[:i:i], (*l)[i+1:]...)
	return e
}

// check compares the flow's cursor with the model.
func (m *flowModel) check() {
	f := m.f
	got := owed(f.cursor(nil))
	for o := uint64(1); o <= modelHead; o++ {
		attempts, open := got[o]
		if open == m.done[o] || open && attempts != m.attempts[o] {
			m.Fatalf("message %d: owed %v after %d attempts, want %v after %d; cursor %+v", o, open, attempts, !m.done[o], m.attempts[o], f.cursor(nil))
		}
	}
	for o := uint64(1); o <= f.done; o++ {
		if !m.done[o] {
			m.Fatalf("done is %d, but %d is owed", f.done, o)
		}
	}
	if len(f.open) > 4*m.window+64+serialOpen+70 {
		m.Fatalf("%d entries are kept", len(f.open))
	}
}

// owed returns the messages that a cursor leaves open, with their attempts.
func owed(c hub.Cursor) map[uint64]uint32 {
	out := map[uint64]uint32{}
	for o := c.Offset + 1; o <= modelHead; o++ {
		if o > c.Through {
			out[o] = 0
		}
	}
	for _, o := range c.Open {
		out[o.Offset] = o.Attempts
	}
	return out
}
