package hub

import (
	"fmt"

	"quorumhub/hub/hubpb"
)

// FeatureLevel is the newest level of events and rows that this program knows. Level 1 is all that the first release
// has. A release that adds a kind of event, or a field that old programs must not overlook, raises it and gives
// the kind its level in LevelOf.
const FeatureLevel = 1

// LevelOf is the feature level from which an event may be proposed: every member must know it. What is of level 1 may be
// proposed from the start.
func LevelOf(*hubpb.Event) uint32 {
	return 1
}

// FeatureLevel is the level that every member of the cluster knows; 0 before they have agreed on one.
func (s *State) FeatureLevel() uint32 { return s.meta.FeatureLevel }

// knownLevel refuses to go on in a cluster that has left this program behind.
func knownLevel(e *hubpb.FeatureLevelSet) error {
	if e.Level > FeatureLevel {
		return fmt.Errorf("the cluster is at feature level %d, and this program knows level %d; run the same quorumhub as on the other nodes", e.Level, FeatureLevel)
	}
	return nil
}

func (s *State) setLevel(e *hubpb.FeatureLevelSet) Result {
	if e.Level <= s.FeatureLevel() {
		return Result{Outcome: OutcomeStale}
	}
	s.meta.FeatureLevel = e.Level
	return Result{}
}
