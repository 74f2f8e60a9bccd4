package raftlog

import (
	"slices"
	"testing"
)

// A node that has moved is looked for first where it answered last, so that its former address, at which nobody may answer for long,
// does not hold up every connection.
func TestAMovedNodeIsLookedForWhereItAnswered(t *testing.T) {
	p := &port{peers: []Peer{{"a", "a.example:1"}, {"b", "new.example:1"}}, found: map[string]string{}}
	by := func(id, address string) []string { return p.waysTo(Peer{id, address}) }
	if got := by("b", "old.example:1"); !slices.Equal(got, []string{"old.example:1", "new.example:1"}) {
		t.Errorf("before it has answered: %v", got)
	}
	p.answersAt("b", "new.example:1")
	if got := by("b", "old.example:1"); !slices.Equal(got, []string{"new.example:1", "old.example:1"}) {
		t.Errorf("after it has answered: %v", got)
	}
	if got := by("a", "a.example:1"); !slices.Equal(got, []string{"a.example:1"}) {
		t.Errorf("another node: %v", got)
	}
	for range 2 * maxLogged { // of nodes that come and go, no more are remembered than that
		p.answersAt(string(rune(len(p.found)+'c')), "x")
	}
	if len(p.found) > maxLogged {
		t.Errorf("%d addresses are remembered", len(p.found))
	}
}
