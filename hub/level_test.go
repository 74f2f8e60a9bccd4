package hub_test

import (
	"strings"
	"testing"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

func levelSet(level uint32) *hubpb.Event {
	return &hubpb.Event{Kind: &hubpb.Event_FeatureLevelSet{FeatureLevelSet: &hubpb.FeatureLevelSet{Level: level}}}
}

func TestFeatureLevelOnlyRises(t *testing.T) {
	w := newWorld(t)
	if level := w.FeatureLevel(); level != 0 {
		t.Errorf("level %d before one was set", level)
	}
	w.applyEntry(w.entry(levelSet(hub.FeatureLevel)))
	res := w.applyEntry(w.entry(levelSet(hub.FeatureLevel)))
	if got := res[0].Proposals[0][0].Outcome; got != hub.OutcomeStale || w.FeatureLevel() != hub.FeatureLevel {
		t.Errorf("outcome %d, level %d", got, w.FeatureLevel())
	}
	if s := reloaded(t, w.State); s.FeatureLevel() != hub.FeatureLevel {
		t.Errorf("level %d after a restart", s.FeatureLevel())
	}
	// A program older than the cluster's level stops with an error that says what to do.
	if _, err := w.Apply(w.entry(levelSet(hub.FeatureLevel+1)), new(hub.Effects)); err == nil || !strings.Contains(err.Error(), "run the same quorumhub as on the other nodes") {
		t.Errorf("a level that this program does not know: %v", err)
	}
}
