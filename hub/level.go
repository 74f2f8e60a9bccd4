package hub

import (
	"fmt"

	"quorumhub/hub/hubpb"
)

// FeatureLevel is the newest level of events and rows this program knows. Level 1 is everything in the first release.
// A release that adds an event kind, or a field that older programs must not overlook, raises it and gives the kind
// its level in LevelOf.
const FeatureLevel = 2

// levelOwners is the level from which what principals make belongs to them, requests that failed are kept, and
// idempotency keys are bounded.
const levelOwners = 2

// LevelOf returns the feature level an event requires: it may be proposed once every member knows that level. Level 1
// is always allowed.
func LevelOf(*hubpb.Event) uint32 {
	return 1
}

// FeatureLevel returns the level that every member of the cluster knows, or 0 before they have agreed on one.
func (s *State) FeatureLevel() uint32 { return s.meta.FeatureLevel }

// knownLevel returns an error if the cluster has moved past the feature level of this program.
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
