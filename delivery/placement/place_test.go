package placement_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"quorumhub/delivery/placement"
	"quorumhub/hub"
)

// scene is the input of Place.
type scene struct {
	nodes []placement.Node
	subs  []placement.Placed
}

func drawScene(t *rapid.T, maxNodes, maxTopics, maxSubs int) scene {
	var s scene
	weighted := rapid.Bool().Draw(t, "weighted")
	n := rapid.IntRange(1, maxNodes).Draw(t, "nodes")
	for i := range n {
		node := placement.Node{ID: fmt.Sprint("node-", i+1)}
		if weighted {
			node.Weight = rapid.IntRange(0, 5).Draw(t, "weight")
		}
		s.nodes = append(s.nodes, node)
	}
	topics := rapid.IntRange(1, maxTopics).Draw(t, "topics")
	for i := range rapid.IntRange(0, maxSubs).Draw(t, "subscriptions") {
		owner := "" // none, one of the nodes, or one that is gone
		if o := rapid.IntRange(0, n+1).Draw(t, "owner"); o > 0 {
			owner = fmt.Sprint("node-", o)
		}
		s.subs = append(s.subs, placement.Placed{Subscription: hub.SubscriptionID(i + 1), Node: owner,
			Topic: hub.TopicID(rapid.IntRange(1, topics).Draw(t, "topic"))})
	}
	return s
}

// after returns the owners after the moves, and checks that the moves are possible.
func (s scene) after(t rapid.TB, moves []placement.Move) []placement.Placed {
	out := slices.Clone(s.subs)
	for i, m := range moves {
		if i > 0 && moves[i-1].Subscription >= m.Subscription {
			t.Fatalf("moves out of order: %v", moves)
		}
		at := slices.IndexFunc(out, func(p placement.Placed) bool { return p.Subscription == m.Subscription })
		if from := out[at].Node; m.From != from && (m.From != "" || s.has(from)) || m.From == m.To || !s.has(m.To) {
			t.Fatalf("move %+v of %+v", m, out[at])
		}
		out[at].Node = m.To
	}
	return out
}

func (s scene) has(node string) bool {
	return slices.ContainsFunc(s.nodes, func(n placement.Node) bool { return n.ID == node })
}

// even checks that every node has its share, in total and per topic, rounded up or down.
func (s scene) even(placed []placement.Placed) error {
	weight := 0
	for _, n := range s.nodes {
		weight += max(n.Weight, 1)
	}
	topics := map[hub.TopicID]bool{0: true}
	for _, p := range placed {
		topics[p.Topic] = true
	}
	for topic := range topics {
		all, of := 0, map[string]int{}
		for _, p := range placed {
			if topic == 0 || p.Topic == topic {
				all++
				of[p.Node]++
			}
		}
		for _, n := range s.nodes {
			w := max(n.Weight, 1)
			if of[n.ID] < all*w/weight || of[n.ID] > (all*w+weight-1)/weight {
				return fmt.Errorf("topic %d (0: all): %d of %d with weight %d of %d", topic, of[n.ID], all, w, weight)
			}
			delete(of, n.ID)
		}
		if len(of) > 0 {
			return fmt.Errorf("some have no node: %v", of)
		}
	}
	return nil
}

func (s scene) kept(moves []placement.Move) int {
	n := 0
	for _, p := range s.subs {
		if s.has(p.Node) {
			n++
		}
	}
	for _, m := range moves {
		if m.From != "" {
			n--
		}
	}
	return n
}

// TestPlacementIsEven in total and per topic, by weight, deterministically, and stable once reached.
func TestPlacementIsEven(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawScene(t, 6, 8, 60)
		moves := placement.Place(s.nodes, s.subs)
		placed := s.after(t, moves)
		if err := s.even(placed); err != nil {
			t.Fatalf("%+v\n%v", s, err)
		}
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "shuffle"), 0))
		shuffled := scene{slices.Clone(s.nodes), slices.Clone(s.subs)}
		r.Shuffle(len(shuffled.nodes), func(i, j int) { shuffled.nodes[i], shuffled.nodes[j] = shuffled.nodes[j], shuffled.nodes[i] })
		r.Shuffle(len(shuffled.subs), func(i, j int) { shuffled.subs[i], shuffled.subs[j] = shuffled.subs[j], shuffled.subs[i] })
		if again := placement.Place(shuffled.nodes, shuffled.subs); !slices.Equal(again, moves) {
			t.Fatalf("another order gives other moves: %v and %v", again, moves)
		}
		if more := placement.Place(s.nodes, placed); len(more) != 0 {
			t.Fatalf("not at rest: %v", more)
		}
	})
}

// TestPlacementMovesTheFewest compares with all possible placements of small scenes.
func TestPlacementMovesTheFewest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawScene(t, 3, 3, 7)
		moves := placement.Place(s.nodes, s.subs)
		best, placed := -1, slices.Clone(s.subs)
		var try func(i, kept int)
		try = func(i, kept int) {
			if i == len(placed) {
				if kept > best && s.even(placed) == nil {
					best = kept
				}
				return
			}
			for _, n := range s.nodes {
				placed[i].Node = n.ID
				if n.ID == s.subs[i].Node {
					try(i+1, kept+1)
				} else {
					try(i+1, kept)
				}
			}
		}
		try(0, 0)
		if got := s.kept(moves); len(s.subs) > 0 && got != best {
			t.Fatalf("%+v\nkeeps %d where they are, %d are possible; moves %v", s, got, best, moves)
		}
	})
}

// TestPlacementOnJoinAndLeave: only what must move does.
func TestPlacementOnJoinAndLeave(t *testing.T) {
	var s scene
	for i := range 3 {
		s.nodes = append(s.nodes, placement.Node{ID: fmt.Sprint("node-", i+1)})
	}
	for i := range 40 {
		s.subs = append(s.subs, placement.Placed{Subscription: hub.SubscriptionID(i + 1), Topic: hub.TopicID(i%8 + 1)})
	}
	s.subs = s.after(t, placement.Place(s.nodes, s.subs))
	s.nodes = append(s.nodes, placement.Node{ID: "node-4"})
	moves := placement.Place(s.nodes, s.subs)
	if s.subs = s.after(t, moves); len(moves) != 10 || s.even(s.subs) != nil {
		t.Errorf("a fourth node joins: %d moves, want 10; %v", len(moves), s.even(s.subs))
	}
	s.nodes = s.nodes[1:]
	moves = placement.Place(s.nodes, s.subs)
	if after := s.after(t, moves); s.even(after) != nil || len(moves) > 14 {
		t.Errorf("node-1 leaves with 10: %d moves, %v", len(moves), s.even(after))
	}
}

func BenchmarkPlace(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	nodes := []placement.Node{{ID: "a"}, {ID: "b"}, {ID: "c"}}
	var subs []placement.Placed
	for i := range 100_000 {
		subs = append(subs, placement.Placed{Subscription: hub.SubscriptionID(i + 1), Topic: hub.TopicID(r.IntN(10_000) + 1), Node: nodes[r.IntN(2)].ID})
	}
	for b.Loop() {
		placement.Place(nodes, subs)
	}
}
