package raftlog

import (
	"net"
	"testing"
	"time"
)

// What a run of a node asked just before another one took its place is not answered any more, and neither is what it asks of the
// calls that are open to everybody.
func TestACallOfADisplacedRunIsRefused(t *testing.T) {
	n := &Node{port: &port{runs: newRuns()}}
	n.port.self.Store(&self{})
	first, second := visitor{id: "node-2", boot: "first"}, visitor{id: "node-2", boot: "second"}
	enter := func(v visitor) *run {
		conn, other := net.Pipe()
		t.Cleanup(func() { conn.Close(); other.Close() })
		in, _ := n.port.runs.tryEnter(v, conn)
		return in
	}
	in := enter(first)
	if in == nil || enter(second) != nil {
		t.Fatal("a second run enters while the first is heard of")
	}
	if status, text := n.checkVisitor(first, true); status != statusOK {
		t.Errorf("the first run is refused: %s", text)
	}
	in.heard.Store(time.Now().Add(-2 * silence).UnixNano())
	if enter(second) == nil {
		t.Fatal("the first run was not heard of for long, but the second may not enter")
	}
	for v, want := range map[visitor]byte{first: statusStranger, second: statusOK, {id: "node-2"}: statusOK} { // earlier programs do not say
		if status, text := n.checkVisitor(v, true); status != want {
			t.Errorf("%+v gets status %d, want %d: %s", v, status, want, text)
		}
	}
}
