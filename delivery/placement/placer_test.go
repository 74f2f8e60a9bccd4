package placement_test

import (
	"fmt"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"quorumhub/delivery/placement"
	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/test/fake"
)

// trio is three nodes that are all well, seen from the one that leads.
type trio struct {
	hub.Cluster
	*fake.Engine
}

func (trio) Nodes() []hub.NodeStatus {
	return []hub.NodeStatus{{ID: "a", Alive: true}, {ID: "b", Alive: true}, {ID: "c", Alive: true}}
}

func (t trio) IsLeader() bool { return t.Engine.IsLeader() }

// imports proposes n subscriptions without an owner, of 2,000 topics.
func (t trio) imports(b testing.TB, from, n int) {
	b.Helper()
	var events []*hubpb.Event
	for i := from; i < from+n; i++ {
		topic, url := fmt.Sprint("t", i%2000), fmt.Sprint("http://s.example/", i)
		events = append(events, &hubpb.Event{Kind: &hubpb.Event_SubscriptionImported{SubscriptionImported: &hubpb.SubscriptionImported{
			Request: &hubpb.SubscriptionRequested{Mode: hub.ModeSubscribe, Topic: topic, TopicRaw: topic, Callback: url, CallbackKey: url, LeaseSeconds: 1 << 20, AutoRegister: true}}}})
	}
	if _, err := t.Propose(b.Context(), events...); err != nil {
		b.Fatal(err)
	}
}

// placed waits until every subscription has an owner.
func (t trio) placed() {
	for none := 1; none > 0; time.Sleep(time.Millisecond / 4) {
		t.View(func(s *hub.State) { _, none = s.Owners() })
	}
}

// BenchmarkImports measures how long it takes until 500 more subscriptions have owners, of as many as there are.
func BenchmarkImports(b *testing.B) {
	for _, count := range []int{1000, 200_000} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			t := trio{Engine: fake.NewEngine(b)}
			for i := 0; i < count; i += 1000 {
				t.imports(b, i, 1000)
			}
			p := placement.NewPlacer(placement.Options{State: t.Engine, Proposer: t.Engine, Cluster: t, Log: slog.New(slog.DiscardHandler), Settle: time.Hour})
			t.Observe(p)
			p.Start(b.Context())
			defer p.Close()
			t.placed()
			for b.Loop() {
				t.imports(b, count, 500)
				count += 500
				t.placed()
			}
		})
	}
}

// That a few subscriptions get owners costs what they are, and not what there is. The shares are as even as when all are looked at.
func TestAFewMoreCostLittle(t *testing.T) {
	h := trio{Engine: fake.NewEngine(t)}
	const count = 20_000
	for i := 0; i < count; i += 1000 {
		h.imports(t, i, 1000)
	}
	p := placement.NewPlacer(placement.Options{State: h.Engine, Proposer: h.Engine, Cluster: h, Log: slog.New(slog.DiscardHandler), Settle: time.Hour})
	h.Observe(p)
	p.Start(t.Context())
	defer p.Close()
	h.placed()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range 10 {
		h.imports(t, count+10*i, 10)
		h.placed()
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 2<<20 {
		t.Errorf("%d KiB were needed for ten times ten more", used>>10)
	}
	h.View(func(s *hub.State) {
		owners, _ := s.Owners()
		least, most := count, 0
		for _, n := range owners {
			least, most = min(least, n), max(most, n)
		}
		if most-least > 1 || len(owners) != 3 {
			t.Errorf("shares %v", owners)
		}
	})
}
