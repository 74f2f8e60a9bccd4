package hub

import (
	"fmt"
	"time"

	"github.com/cespare/xxhash/v2"

	"quorumhub/hub/hubpb"
)

// State is everything the hub knows except the messages themselves: the fold of all events. It is not safe for
// concurrent use; its owner (store.Store) guards it. Readers get it through StateReader.View.
type State struct {
	meta hubpb.MetaRow

	topics       map[TopicID]*Topic
	topicByName  map[string]TopicID
	subs         map[SubscriptionID]*Subscription
	subByKey     map[subscriptionKey]SubscriptionID
	requests     map[RequestID]*Request
	requestByKey map[requestKey]RequestID // subscribe and unsubscribe: one pending request per subscription and principal
	failed       failedRequests
	holdings     map[string]*holding // by principal
	letters      letters
	origins      map[string]*origin
	pendingBlobs map[string]*pendingBlob                  // by ID
	callbacks    map[string]*hubpb.CallbackCredentialsRow // by pattern
	idempotency  idempotency
	access       access
	groups       map[GroupID]*group
	groupByKey   map[groupKey]GroupID
	grouped      int            // subscriptions that are in groups
	owned        map[string]int // units by owner
	nodes        map[string]*Node
	nodesChanged uint64               // rises with every change of nodes; not part of the state
	gateway      *hubpb.GatewayRow    // nil: no registry has been applied
	marked       map[TopicID]struct{} // topics that are deprecated or retired
	contents     map[TopicID]struct{} // topics whose content is not simply delivered
	taken        fetched
	sessions     sessions
	grants       grants
	devices      devices
	keyNotices   [KeyEnded + 1]int // subscriptions by Subscription.KeyNotice
	at           uint64            // index of the entry being applied; not part of the state

	dirty map[RowKey]struct{}
}

type subscriptionKey struct {
	topic    TopicID
	callback string
}

type requestKey struct {
	topic    string
	callback string
	owner    string
}

// NewState returns the state before the first event.
func NewState() *State {
	return &State{
		topics:       map[TopicID]*Topic{},
		topicByName:  map[string]TopicID{},
		subs:         map[SubscriptionID]*Subscription{},
		subByKey:     map[subscriptionKey]SubscriptionID{},
		requests:     map[RequestID]*Request{},
		requestByKey: map[requestKey]RequestID{},
		failed:       newFailedRequests(),
		holdings:     map[string]*holding{},
		groups:       map[GroupID]*group{},
		groupByKey:   map[groupKey]GroupID{},
		letters:      newLetters(),
		origins:      map[string]*origin{},
		pendingBlobs: map[string]*pendingBlob{},
		callbacks:    map[string]*hubpb.CallbackCredentialsRow{},
		idempotency:  newIdempotency(),
		access:       newAccess(),
		owned:        map[string]int{},
		nodes:        map[string]*Node{},
		marked:       map[TopicID]struct{}{},
		contents:     map[TopicID]struct{}{},
		taken:        newFetched(),
		sessions:     newSessions(),
		grants:       newGrants(),
		devices:      newDevices(),
		dirty:        map[RowKey]struct{}{},
	}
}

// Apply folds one encoded log entry into the state and adds its effects to fx. The results are in the order of the
// entry's batches. An error means that the entry is corrupt or from a newer program: nothing was applied, and the
// node must stop, since every later entry builds on this one.
func (s *State) Apply(data []byte, fx *Effects) ([]BatchResult, error) { return s.ApplyAt(0, data, fx) }

// ApplyAt is Apply for the log entry with the given index, which the state records where it is of interest.
func (s *State) ApplyAt(index uint64, data []byte, fx *Effects) ([]BatchResult, error) {
	s.at = index
	entry, err := DecodeEntry(data)
	if err != nil {
		return nil, err
	}
	if err := knownKinds(entry); err != nil {
		return nil, err
	}
	s.meta.Now = max(s.meta.Now, entry.Time)
	s.expireSessions()
	out := make([]BatchResult, len(entry.Batches))
	for i, b := range entry.Batches {
		out[i] = s.applyBatch(b, fx)
	}
	s.meta.Hash = chainHash(s.meta.Hash, data, out)
	s.touch(TableMeta, 0)
	return out, nil
}

// knownKinds returns an error for an entry with an event this program does not know: skipping it would make this
// node's state differ from the others'.
func knownKinds(entry *hubpb.Entry) error {
	for _, b := range entry.Batches {
		for _, p := range b.Proposals {
			for _, e := range p.Events {
				if k, ok := e.Kind.(*hubpb.Event_FeatureLevelSet); ok {
					if err := knownLevel(k.FeatureLevelSet); err != nil {
						return err
					}
				}
				if e.Kind == nil {
					return fmt.Errorf("log entry contains an event of a kind this program does not know; a newer version wrote it")
				}
			}
		}
	}
	return nil
}

// chainHash extends the rolling hash by an entry and its results, so that a difference in either shows at the first
// entry where nodes diverge (invariant I6).
func chainHash(prev uint64, data []byte, out []BatchResult) uint64 {
	var d xxhash.Digest
	d.ResetWithSeed(prev)
	d.Write(data)
	var word [8 * 4]byte
	for _, b := range out {
		for _, p := range b.Proposals {
			for _, r := range p {
				for i, v := range [4]uint64{uint64(r.Outcome), uint64(r.Topic), r.Offset, r.ID} {
					for j := range 8 {
						word[i*8+j] = byte(v >> (8 * j))
					}
				}
				d.Write(word[:])
			}
		}
	}
	return d.Sum64()
}

func (s *State) applyEvent(e *hubpb.Event, fx *Effects) Result {
	switch k := e.Kind.(type) {
	case *hubpb.Event_MessagePublished:
		return s.publish(k.MessagePublished, fx)
	case *hubpb.Event_RetentionSet:
		return s.setRetention(k.RetentionSet)
	case *hubpb.Event_TopicLifecycleSet:
		return s.setLifecycle(k.TopicLifecycleSet, fx)
	case *hubpb.Event_TopicsRetired:
		return s.retireTopics(k.TopicsRetired, fx)
	case *hubpb.Event_TopicContentSet:
		return s.setContent(k.TopicContentSet, fx)
	case *hubpb.Event_SharedContentFetched:
		return s.fetchContent(k.SharedContentFetched)
	case *hubpb.Event_SharedContentRevoked:
		return s.revokeContent(k.SharedContentRevoked, fx)
	case *hubpb.Event_EncryptionKeysEnding:
		return s.noticeKeys(k.EncryptionKeysEnding, fx)
	case *hubpb.Event_BlobPartAdded:
		return s.addPart(k.BlobPartAdded, fx)
	case *hubpb.Event_BlobPublished:
		return s.publishBlob(k.BlobPublished, fx)
	case *hubpb.Event_BlobsDropped:
		return s.dropBlobs(k.BlobsDropped, fx)
	case *hubpb.Event_BatchPublished:
		return s.publishBatch(k.BatchPublished, fx)
	case *hubpb.Event_CursorsAdvanced:
		return s.advanceCursors(k.CursorsAdvanced, fx)
	case *hubpb.Event_SubscriptionRequested:
		return s.request(k.SubscriptionRequested, fx)
	case *hubpb.Event_RequestVerified:
		return s.verified(k.RequestVerified, fx)
	case *hubpb.Event_SubscriptionImported:
		return s.importSubscription(k.SubscriptionImported, fx)
	case *hubpb.Event_RequestFailed:
		return s.requestFailed(k.RequestFailed, fx)
	case *hubpb.Event_SubscriptionsEnded:
		return s.endSubscriptions(k.SubscriptionsEnded, fx)
	case *hubpb.Event_MessageDeadLettered:
		return s.deadLetter(k.MessageDeadLettered, fx)
	case *hubpb.Event_TopicRegistered:
		return s.registerTopic(k.TopicRegistered)
	case *hubpb.Event_TopicDeregistered:
		return s.deregisterTopic(k.TopicDeregistered, fx)
	case *hubpb.Event_TopicPinged:
		return s.ping(k.TopicPinged, fx)
	case *hubpb.Event_TopicFetched:
		return s.fetched(k.TopicFetched, fx)
	case *hubpb.Event_LogTrimmed:
		return s.trim(k.LogTrimmed, fx)
	case *hubpb.Event_SubscriptionsAssigned:
		return s.assign(k.SubscriptionsAssigned, fx)
	case *hubpb.Event_SubscriptionRewound:
		return s.rewind(k.SubscriptionRewound, fx)
	case *hubpb.Event_SubscriptionPaused:
		return s.pause(k.SubscriptionPaused, fx)
	case *hubpb.Event_DeliveryResumed:
		s.resume(k.DeliveryResumed.Node)
		fx.Resumed = append(fx.Resumed, Resumed{Node: k.DeliveryResumed.Node, Mark: k.DeliveryResumed.Mark})
		return Result{}
	case *hubpb.Event_DeadLetterReplayRequested:
		return s.requestReplays(k.DeadLetterReplayRequested, fx)
	case *hubpb.Event_DeadLettersReplayed:
		return s.recordReplays(k.DeadLettersReplayed, fx)
	case *hubpb.Event_DeadLettersDropped:
		return s.dropLetters(k.DeadLettersDropped, fx)
	}
	return s.applyClusterEvent(e, fx)
}

// applyClusterEvent applies the events about access, sealing keys, nodes and the cluster itself.
func (s *State) applyClusterEvent(e *hubpb.Event, fx *Effects) Result {
	switch k := e.Kind.(type) {
	case *hubpb.Event_NodeAdmitted:
		return s.admitNode(k.NodeAdmitted, fx)
	case *hubpb.Event_NodeChanged:
		return s.changeNode(k.NodeChanged, fx)
	case *hubpb.Event_CallbackCredentialsSet:
		return s.setCallback(k.CallbackCredentialsSet, fx)
	case *hubpb.Event_NodeUrlsSet:
		return s.setNodeURLs(k.NodeUrlsSet, fx)
	case *hubpb.Event_SubscriptionSignatureSet:
		return s.setSignature(k.SubscriptionSignatureSet, fx)
	case *hubpb.Event_NodeRunChanged:
		return s.changeNodeRun(k.NodeRunChanged, fx)
	case *hubpb.Event_NonceClaimed:
		return s.claimNonce(k.NonceClaimed)
	case *hubpb.Event_ApiKeyCreated:
		return s.createAPIKey(k.ApiKeyCreated)
	case *hubpb.Event_ApiKeyRevoked:
		return s.revokeAPIKey(k.ApiKeyRevoked, fx)
	case *hubpb.Event_AccessRuleSet:
		return s.setRule(k.AccessRuleSet)
	case *hubpb.Event_AccessRuleRemoved:
		return s.removeRule(k.AccessRuleRemoved)
	case *hubpb.Event_QuotaSet:
		return s.setQuota(k.QuotaSet)
	case *hubpb.Event_QuotaRemoved:
		return s.removeQuota(k.QuotaRemoved)
	case *hubpb.Event_ApiKeysExpired:
		return s.expireAPIKeys(k.ApiKeysExpired, fx)
	case *hubpb.Event_OwnerEnded:
		return s.endOwner(k.OwnerEnded, fx)
	case *hubpb.Event_SubscriptionsReassigned:
		return s.reassign(k.SubscriptionsReassigned, fx)
	case *hubpb.Event_SessionStarted:
		return s.startSession(k.SessionStarted, fx)
	case *hubpb.Event_SessionsEnded:
		return s.endSessions(k.SessionsEnded, fx)
	case *hubpb.Event_GrantAdvanced:
		return s.advanceGrant(k.GrantAdvanced)
	case *hubpb.Event_GrantsEnded:
		return s.endGrants(k.GrantsEnded)
	case *hubpb.Event_DeviceRequested:
		return s.requestDevice(k.DeviceRequested)
	case *hubpb.Event_DeviceDecided:
		return s.decideDevice(k.DeviceDecided)
	case *hubpb.Event_FeatureLevelSet:
		return s.setLevel(k.FeatureLevelSet)
	case *hubpb.Event_SealingKeyAnnounced:
		return s.announceKey(k.SealingKeyAnnounced, fx)
	case *hubpb.Event_SealingKeySwitched:
		return s.switchKey(k.SealingKeySwitched, fx)
	case *hubpb.Event_SecretsReencrypted:
		return s.reencrypt(k.SecretsReencrypted, fx)
	case *hubpb.Event_SealingKeyRetired:
		return s.retireKey(k.SealingKeyRetired, fx)
	case *hubpb.Event_GatewayApplied:
		return s.applyGateway(k.GatewayApplied, fx)
	case *hubpb.Event_ClusterInitialized:
		return s.initialize(k.ClusterInitialized)
	case *hubpb.Event_NewClusterForced:
		return s.forceNewCluster(k.NewClusterForced, fx)
	}
	panic(fmt.Sprintf("event kind %T passed knownKinds but has no fold", e.Kind))
}

// initialize sets the cluster ID, once.
func (s *State) initialize(e *hubpb.ClusterInitialized) Result {
	if s.meta.ClusterId != "" {
		return Result{Outcome: OutcomeStale}
	}
	s.meta.ClusterId = e.ClusterId
	return Result{}
}

// ClusterID returns the random ID of the cluster, or "" before its first entry.
func (s *State) ClusterID() string { return s.meta.ClusterId }

// Now returns the newest leader time in the log; it never goes back.
func (s *State) Now() time.Time { return time.Unix(0, s.meta.Now) }

// Hash returns the rolling hash of all applied entries and their results.
func (s *State) Hash() uint64 { return s.meta.Hash }

// Published returns the number of messages ever published and the total size of their bodies.
func (s *State) Published() (messages, bytes uint64) {
	return s.meta.PublishedMessages, s.meta.PublishedBytes
}

// GapMessages returns how many messages retention dropped before a subscription had received them, over all
// subscriptions (invariant I9).
func (s *State) GapMessages() uint64 { return s.meta.GapMessages }

func timeOf(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}

func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}
