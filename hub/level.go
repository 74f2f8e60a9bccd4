package hub

import (
	"fmt"
	"slices"

	"quorumhub/hub/hubpb"
)

// FeatureLevel is the newest level of events and rows this program knows. Level 1 is everything in the first release.
// A release that adds an event kind, or a field that older programs must not overlook, raises it and gives the kind
// its level in LevelOf.
const FeatureLevel = 4

// levelOwners is the level from which what principals make belongs to them, requests that failed are kept, and
// idempotency keys are bounded.
const levelOwners = 2

// levelGateway is the level from which there are the gateway's registry and the life cycle of topics.
const levelGateway = 3

// levelQuotas is the level from which quotas may be set while the hub runs, bytes are counted and limited for each
// principal, and owners set the limits of their topics.
const levelQuotas = 3

// levelSessions is the level from which there are sessions and logins.
const levelSessions = 4

// levelAgain is the level from which requests that failed are kept whole, so that they can be made again.
const levelAgain = 4

// levelDrain is the level from which nodes may be drained.
const levelDrain = 4

// LevelOf returns the feature level an event requires: it may be proposed once every member knows that level. Level 1
// is always allowed.
func LevelOf(e *hubpb.Event) uint32 {
	if needsSessions(e) {
		return levelSessions
	}
	if needsGateway(e) {
		return levelGateway
	}
	if needsQuotas(e) {
		return levelQuotas
	}
	if needsOwners(e) {
		return levelOwners
	}
	switch k := e.Kind.(type) {
	case *hubpb.Event_SubscriptionRequested:
		if len(k.SubscriptionRequested.GetSealedHeaders()) > 0 {
			return 2
		}
	case *hubpb.Event_NodeChanged:
		if k.NodeChanged.Drain != hubpb.NodeDrain_DRAIN_UNCHANGED {
			return levelDrain
		}
	case *hubpb.Event_CallbackCredentialsSet, *hubpb.Event_NodeUrlsSet, *hubpb.Event_SubscriptionSignatureSet:
		return 2
	}
	return 1
}

// needsSessions reports whether an event is of a kind, or has a field, of levelSessions.
func needsSessions(e *hubpb.Event) bool {
	switch k := e.Kind.(type) {
	case *hubpb.Event_SessionStarted, *hubpb.Event_SessionsEnded,
		*hubpb.Event_GrantAdvanced, *hubpb.Event_GrantsEnded, *hubpb.Event_DeviceRequested, *hubpb.Event_DeviceDecided:
		return true
	case *hubpb.Event_NonceClaimed:
		return k.NonceClaimed.Login
	}
	return false
}

// needsGateway reports whether an event is of a kind, or has a field, of levelGateway.
func needsGateway(e *hubpb.Event) bool {
	switch k := e.Kind.(type) {
	case *hubpb.Event_GatewayApplied, *hubpb.Event_TopicLifecycleSet, *hubpb.Event_TopicsRetired,
		*hubpb.Event_TopicContentSet, *hubpb.Event_SharedContentFetched, *hubpb.Event_SharedContentRevoked, *hubpb.Event_EncryptionKeysEnding:
		return true
	case *hubpb.Event_SubscriptionRequested:
		return needsContent(k.SubscriptionRequested)
	case *hubpb.Event_SubscriptionImported:
		return needsContent(k.SubscriptionImported.GetRequest())
	case *hubpb.Event_SubscriptionsEnded:
		return k.SubscriptionsEnded.Reason >= hubpb.EndReason_END_TOPIC_RETIRED
	case *hubpb.Event_SealingKeyRetired:
		return len(k.SealingKeyRetired.TokenKey) > 0
	case *hubpb.Event_SecretsReencrypted:
		return slices.ContainsFunc(k.SecretsReencrypted.Items, func(i *hubpb.SecretsReencrypted_Item) bool { return i.Gateway })
	}
	return false
}

// needsContent reports whether a request asks for references or encryption.
func needsContent(r *hubpb.SubscriptionRequested) bool {
	return r.GetOptions().GetContentByReference() || r.GetEncryptionKey() != ""
}

// needsOwners reports whether an event is of a kind, or has a field, of levelOwners.
func needsOwners(e *hubpb.Event) bool {
	switch k := e.Kind.(type) {
	case *hubpb.Event_MessagePublished:
		return k.MessagePublished.Caller != nil || k.MessagePublished.KeyWindow != 0
	case *hubpb.Event_BatchPublished:
		return k.BatchPublished.Caller != nil || k.BatchPublished.KeyWindow != 0
	case *hubpb.Event_BlobPublished:
		return k.BlobPublished.Caller != nil || k.BlobPublished.KeyWindow != 0
	case *hubpb.Event_TopicRegistered:
		return k.TopicRegistered.Caller != nil
	case *hubpb.Event_TopicPinged:
		return k.TopicPinged.Caller != nil
	case *hubpb.Event_SubscriptionRequested:
		return k.SubscriptionRequested.Caller != nil
	case *hubpb.Event_SubscriptionImported:
		return k.SubscriptionImported.GetRequest().GetCaller() != nil
	case *hubpb.Event_SubscriptionRewound:
		return k.SubscriptionRewound.Owner != ""
	case *hubpb.Event_SubscriptionPaused:
		return k.SubscriptionPaused.Owner != "" || k.SubscriptionPaused.Reason != hubpb.PauseReason_PAUSE_OPERATOR
	case *hubpb.Event_SubscriptionsEnded:
		return k.SubscriptionsEnded.Owner != "" || k.SubscriptionsEnded.Reason >= hubpb.EndReason_END_OWNER
	case *hubpb.Event_ApiKeyCreated:
		return k.ApiKeyCreated.Caller != nil
	case *hubpb.Event_ApiKeyRevoked:
		return k.ApiKeyRevoked.EndSubscriptions
	case *hubpb.Event_NonceClaimed:
		return k.NonceClaimed.Caller != nil
	case *hubpb.Event_ApiKeysExpired, *hubpb.Event_OwnerEnded, *hubpb.Event_SubscriptionsReassigned:
		return true
	}
	return false
}

// callerOf returns the caller of the events that may have limits in bytes.
func callerOf(e *hubpb.Event) *hubpb.Caller {
	switch k := e.Kind.(type) {
	case *hubpb.Event_MessagePublished:
		return k.MessagePublished.Caller
	case *hubpb.Event_BatchPublished:
		return k.BatchPublished.Caller
	case *hubpb.Event_BlobPublished:
		return k.BlobPublished.Caller
	case *hubpb.Event_TopicRegistered:
		return k.TopicRegistered.Caller
	case *hubpb.Event_TopicPinged:
		return k.TopicPinged.Caller
	case *hubpb.Event_SubscriptionRequested:
		return k.SubscriptionRequested.Caller
	case *hubpb.Event_ApiKeyCreated:
		return k.ApiKeyCreated.Caller
	}
	return nil
}

// needsQuotas reports whether an event is of a kind, or has a field, of levelQuotas.
func needsQuotas(e *hubpb.Event) bool {
	switch k := e.Kind.(type) {
	case *hubpb.Event_QuotaSet, *hubpb.Event_QuotaRemoved:
		return true
	case *hubpb.Event_RetentionSet:
		return k.RetentionSet.Owner != ""
	case *hubpb.Event_TopicDeregistered:
		return k.TopicDeregistered.Owner != ""
	case *hubpb.Event_BlobPartAdded:
		return k.BlobPartAdded.Caller != nil
	}
	return limitsOf(callerOf(e)) != byteLimits{}
}

// FeatureLevel returns the level that every member of the cluster knows, or 0 before they have agreed on one.
func (s *State) FeatureLevel() uint32 { return s.meta.FeatureLevel }

// hasOwners reports whether the fold follows the rules of levelOwners. Events that any program may write must be
// folded as that program does until every member knows the rules.
func (s *State) hasOwners() bool { return s.meta.FeatureLevel >= levelOwners }

// hasQuotas is hasOwners for levelQuotas.
func (s *State) hasQuotas() bool { return s.meta.FeatureLevel >= levelQuotas }

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
	if s.meta.FeatureLevel < levelOwners && e.Level >= levelOwners {
		s.idempotency.settleOrder()
		s.meta.UnlistedParts = s.meta.LastPart
	}
	s.meta.FeatureLevel = e.Level
	return Result{}
}
