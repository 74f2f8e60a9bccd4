package hub

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"quorumhub/hub/hubpb"
)

// Policy holds the settings by which a Service accepts or refuses requests. It is local configuration: whatever
// matters to the fold is copied into the events.
type Policy struct {
	Leases          LeasePolicy
	AutoRegister    bool // publishing or subscribing to an unknown topic registers it
	MaxMessageBytes int64
	// MaxPending bounds the number of requests waiting for verification, so that a flood cannot fill the state;
	// beyond it requests are refused with CodeUnavailable. 0: no bound.
	MaxPending int
	// Retention holds the hub's own limits, which the owners of topics may not exceed. Nil or 0 is no limit.
	Retention Retention
	// SecretGrace is how long a secret keeps signing after a renewal has replaced it, with SchemeStandardWebhooks.
	SecretGrace time.Duration
	// CheckCallback refuses callbacks by address range or port when the request arrives. The decisive check is made
	// again when connecting. nil: all are accepted.
	CheckCallback func(*url.URL) error
	// Callbacks limits the rate of requests. nil: no limit.
	Callbacks CallbackBounds
	// CheckTopic is CheckCallback for topics that the hub fetches.
	CheckTopic func(*url.URL) error
	// KeyHeaders lists the publishers' headers kept with a message, in canonical form, so that delivery keys can name
	// them.
	KeyHeaders []string
	// Authorize refuses what the caller of ctx may not do with a topic. It is called before anything is looked up, so
	// that its answer does not reveal what exists. nil: everybody may do everything.
	Authorize func(ctx context.Context, action Action, topic string) error
	// Own is told, in place of Authorize, of an action that a principal may take because the topic is its own. nil:
	// nobody is told.
	Own func(ctx context.Context, action Action, topic string) error
	// Principal returns who calls, as <authority>/<subject> of at most MaxPrincipalBytes bytes: whatever the call makes
	// belongs to it. An empty string, or a nil Principal, is nobody: what is made has no owner.
	Principal func(ctx context.Context) string
	// Operator reports whether the caller of ctx may act on what others own. nil: everybody may, since nobody owns
	// anything.
	Operator func(ctx context.Context) bool
	// Quotas returns the limits of a principal. It is called with the principal of ctx, except for nonces, which are
	// claimed before the request's context carries one. nil: no limits.
	Quotas func(ctx context.Context, principal string) Quotas
	// ByteQuotas reports whether Quotas may return limits in bytes for anybody, so that publishing need not ask it each
	// time. It is called after Authorize. nil: it does not.
	ByteQuotas func() bool
	// Refused is told, on the node that was asked, of a request that was accepted like any other and came to nothing
	// because the subscription or consumer group belongs to somebody else: the caller must not learn it, the audit log
	// must. nil: nobody is told.
	Refused func(ctx context.Context, r *FailedRequest)
	// IdempotencyWindow is how long an Idempotency-Key is remembered, in whole seconds. 0: an hour.
	IdempotencyWindow time.Duration
	// SubscriberHeaders lets subscribers choose headers for requests to their callbacks (hub.header.<Name>).
	SubscriberHeaders bool
	// KeepExtra stores the fields of a subscribe request that the hub does not know.
	KeepExtra bool
	// Topics are the rules that topics have beyond Authorize. nil: none.
	Topics TopicPolicies
	// GatewayChecker checks the gateway's registry before it is applied. nil: it is not checked.
	GatewayChecker GatewayChecker
	// Parts reads the gateway's registry. nil: it cannot be read.
	Parts PartReader
	// Clock decides whether a time is in the future; nil: the machine's.
	Clock Clock
}

// Action is an operation on a topic that may require authorisation.
type Action string

// Actions.
const (
	ActionRegister    Action = "topic.register"
	ActionDeregister  Action = "topic.deregister"
	ActionPublish     Action = "publish"
	ActionSubscribe   Action = "subscribe"
	ActionUnsubscribe Action = "unsubscribe"
	ActionRead        Action = "read"
	// ActionJoinGroup lets a principal's subscriptions join consumer groups that others own. It is asked in addition to
	// ActionSubscribe, and a refusal is not told to the caller.
	ActionJoinGroup Action = "group.join"
)

// Service turns requests into events and decides what a WebSub hub accepts (W3C Recommendation). It does not know how
// requests arrive. Safe for concurrent use.
type Service struct {
	policy   Policy
	namer    *TopicNamer
	proposer Proposer
	state    StateReader
	secrets  SecretBox

	levelKnown atomic.Bool // the cluster has a feature level
}

// NewService returns a Service.
func NewService(policy Policy, namer *TopicNamer, proposer Proposer, state StateReader, secrets SecretBox) *Service {
	return &Service{policy: policy, namer: namer, proposer: proposer, state: state, secrets: secrets}
}

func (s *Service) authorize(ctx context.Context, a Action, topic string) error {
	if err := checkReserved(a, topic); err != nil {
		return err
	}
	if a != ActionRead {
		if err := s.checkFounded(ctx); err != nil {
			return err
		}
	}
	if s.policy.Authorize != nil {
		if err := s.policy.Authorize(ctx, a, topic); err != nil {
			return err
		}
	}
	if s.policy.Topics != nil && (a == ActionPublish || a == ActionSubscribe) {
		return s.policy.Topics.Admit(ctx, a, topic)
	}
	return nil
}

// AuthorizeRead returns an error if the caller of ctx may not read a topic's messages.
func (s *Service) AuthorizeRead(ctx context.Context, topic string) error {
	return s.authorize(ctx, ActionRead, topic)
}

// AuthorizePublish returns an error if the caller of ctx may not publish to a topic, or has no room left there. It is for those who do not want to read
// the content of a publication first.
func (s *Service) AuthorizePublish(ctx context.Context, topic string) error {
	if err := s.authorize(ctx, ActionPublish, topic); err != nil {
		return err
	}
	return s.checkStored(ctx, topic)
}

// Namer returns the converter between topic names and URLs.
func (s *Service) Namer() *TopicNamer { return s.namer }

// Policy returns the settings in force.
func (s *Service) Policy() Policy { return s.policy }

// Subscribe accepts a subscribe or unsubscribe request from its form body. When it returns no error, the request is
// durable and will be verified; its ID finds what comes of it (State.Request, State.FailedRequest). A request about
// what belongs to another principal is accepted likewise, and has failed already.
func (s *Service) Subscribe(ctx context.Context, form url.Values) (RequestID, error) {
	r, err := ParseSubscribe(form, s.namer, s.policy.Leases)
	if err != nil {
		return 0, err
	}
	if err := s.checkRequest(ctx, r, true); err != nil {
		return 0, err
	}
	ev := &hubpb.SubscriptionRequested{Mode: r.Mode, Topic: r.Topic, TopicRaw: r.TopicRaw, Callback: r.Callback,
		CallbackKey: r.CallbackKey, LeaseSeconds: r.LeaseSeconds, Signature: r.Signature, VerifyToken: r.VerifyToken,
		AutoRegister: s.policy.AutoRegister || r.Topic == EventsTopic, Scheme: r.Scheme, EncryptionKey: r.EncryptionKey}
	if r.Scheme != "" {
		ev.SecretGrace = int64(s.policy.SecretGrace / time.Second)
	}
	start := ""
	if r.Start != nil {
		start = r.Start.String()
	}
	ev.Caller = s.subscriber(ctx, r)
	if err := s.checkWishes(r, ev.Caller); err != nil {
		return 0, err
	}
	ev.Options = r.Options.pb(start)
	if s.policy.KeepExtra {
		fields, err := extraFields(form)
		if err != nil {
			return 0, err
		}
		ev.Extra = extraPB(fields)
	}
	return s.request(ctx, r, ev)
}

// sealTries is how often the secret of one request is sealed if the sealing key is retired in the meantime.
const sealTries = 3

// request seals the secret of a request and proposes it.
func (s *Service) request(ctx context.Context, r *SubscribeRequest, ev *hubpb.SubscriptionRequested) (id RequestID, err error) {
	for tries := 1; ; tries++ {
		if r.Secret != nil {
			if ev.SealedSecret, err = s.secrets.Seal(r.Secret, SecretBinding(r.Topic, r.CallbackKey)); err != nil {
				return 0, fmt.Errorf("seal hub.secret: %w", err)
			}
		}
		if len(r.Headers) > 0 {
			headers, err := s.sealHeaders(r)
			if err != nil {
				return 0, err
			}
			ev.SealedHeaders = bytesOf(headers)
		}
		res, err := s.proposer.Propose(ctx, &hubpb.Event{Kind: &hubpb.Event_SubscriptionRequested{SubscriptionRequested: ev}})
		switch {
		case err != nil:
			return 0, err
		case res[0].Outcome == OutcomeKeyRetired && tries < sealTries:
			continue // retired while the request was in flight; another key is in use by now
		case res[0].Outcome == OutcomeNotOwner:
			id = RequestID(res[0].ID)
			s.refused(ctx, r, ev.Caller, id)
			return id, nil
		}
		if err := res[0].Err(r.Topic); err != nil {
			return 0, err
		}
		id = RequestID(res[0].ID)
		if s.policy.Callbacks != nil {
			s.policy.Callbacks.Accepted(ctx, id)
		}
		return id, nil
	}
}

// admit limits the requests about one callback host.
func (s *Service) admit(ctx context.Context, r *SubscribeRequest) error {
	if s.policy.Callbacks == nil {
		return nil
	}
	known := false
	s.state.View(func(st *State) { _, known = st.SubscriptionByKey(r.Topic, r.CallbackKey) })
	return s.policy.Callbacks.Admit(ctx, r.CallbackURL, known)
}

// checkStart returns an error for a start outside the topic's range. For an existing subscription, which keeps its
// cursor, the start makes no difference.
func (s *Service) checkStart(r *SubscribeRequest) error {
	var t Topic
	s.state.View(func(st *State) { t, _ = st.TopicByName(r.Topic) })
	return r.Start.Check(t, s.now())
}

// crowded reports whether as many requests as allowed are waiting for verification.
func (s *Service) crowded() bool {
	var pending int
	s.state.View(func(st *State) { pending = st.Counts().Requests })
	return s.policy.MaxPending > 0 && pending >= s.policy.MaxPending
}

// Publication is content to publish.
type Publication struct {
	Topic          string // topic name, see TopicNamer
	ContentType    string
	Body           []byte
	IdempotencyKey string   // empty: none
	Headers        []Header // those of Policy.KeyHeaders that the publisher sent
	// Authorized says that AuthorizePublish has just accepted the caller and the topic, so that Publish need not ask again.
	Authorized bool
}

// Receipt locates a publication in the log.
type Receipt struct {
	Topic     TopicID
	Offset    uint64
	Duplicate bool // already published under this idempotency key
	// KeysForgotten is how many idempotency keys, the oldest ones, were forgotten before their time so that this one
	// could be remembered: the publisher, or all together, have reached the bound.
	KeysForgotten int
}

// MessageID returns the ID that every delivery of the message carries.
func (r Receipt) MessageID() string {
	m := Message{Topic: r.Topic, Offset: r.Offset}
	return m.ID()
}

// Publish accepts content for distribution. When it returns without an error, the message is durable and will be
// delivered at least once to every active subscription (invariant I1). The body must not be changed afterwards.
func (s *Service) Publish(ctx context.Context, p Publication) (Receipt, error) {
	if !p.Authorized {
		if err := s.authorize(ctx, ActionPublish, p.Topic); err != nil {
			return Receipt{}, err
		}
	}
	if int64(len(p.Body)) > s.policy.MaxMessageBytes {
		return Receipt{}, s.TooLarge()
	}
	if err := checkContentType(p.ContentType); err != nil {
		return Receipt{}, err
	}
	if err := s.spend(ctx, p.Topic, 1); err != nil {
		return Receipt{}, err
	}
	if err := s.checkContent(ctx, p.Topic, p.ContentType, p.Body); err != nil {
		return Receipt{}, err
	}
	if len(p.Body) > MaxInlineBytes {
		return s.publishInParts(ctx, p)
	}
	ev := &hubpb.MessagePublished{Topic: p.Topic, ContentType: p.ContentType, Body: p.Body, AutoRegister: s.policy.AutoRegister}
	ev.Caller, ev.KeyWindow = s.publisher(ctx, p.Topic, p.IdempotencyKey)
	var err error
	if ev.Headers, err = keptHeaders(p.Headers); err != nil {
		return Receipt{}, err
	}
	if ev.IdempotencyKey, err = hashKey(p.IdempotencyKey); err != nil {
		return Receipt{}, err
	}
	if ev.IdempotencyKey != nil {
		ev.ContentHash = ContentHash(p.ContentType, p.Body)
	}
	res, err := s.propose(ctx, p.Topic, &hubpb.Event{Kind: &hubpb.Event_MessagePublished{MessagePublished: ev}})
	if err != nil {
		return Receipt{}, err
	}
	return receipt(res), nil
}

func receipt(res Result) Receipt {
	return Receipt{Topic: res.Topic, Offset: res.Offset, Duplicate: res.Outcome == OutcomeDuplicate, KeysForgotten: int(res.ID)}
}

// publishInParts publishes a body in memory as a blob.
func (s *Service) publishInParts(ctx context.Context, p Publication) (Receipt, error) {
	u, err := s.newBlobWriter(ctx, p.Topic, p.ContentType)
	if err != nil {
		return Receipt{}, err
	}
	if err := u.WriteAll(ctx, p.Body); err != nil {
		return Receipt{}, err
	}
	return s.publishBlob(ctx, p, u)
}

// maxContentTypeBytes is the longest content type.
const maxContentTypeBytes = 255

// checkContentType returns an error for values that deliveries could not send as a header. Which type it names is up
// to the publisher.
func checkContentType(s string) error {
	if s == "" || len(s) > maxContentTypeBytes {
		return ParamErrorf("Content-Type", "is %d bytes long; expected 1 to %d", len(s), maxContentTypeBytes)
	}
	for i := range len(s) {
		if s[i] < ' ' && s[i] != '\t' || s[i] >= 0x7f {
			return ParamErrorf("Content-Type", "contains the byte %#02x; expected printable ASCII such as application/json", s[i])
		}
	}
	return nil
}

// TooLarge returns the error for a body over the size limit.
func (s *Service) TooLarge() *Error {
	return Errorf(CodeTooLarge, "the content is larger than %d bytes (message.max_bytes)", s.policy.MaxMessageBytes)
}

// Register registers a topic. A topic that already exists is CodeConflict.
func (s *Service) Register(ctx context.Context, topic string) error {
	if err := s.authorize(ctx, ActionRegister, topic); err != nil {
		return err
	}
	_, err := s.propose(ctx, topic, &hubpb.Event{Kind: &hubpb.Event_TopicRegistered{TopicRegistered: &hubpb.TopicRegistered{Topic: topic, Caller: s.caller(ctx)}}})
	return err
}

// Deregister removes a topic with its messages and ends its subscriptions, whose callbacks are notified (WebSub 5.2).
// Its owner needs no other permission. An unknown topic is CodeNotFound.
func (s *Service) Deregister(ctx context.Context, topic string) error {
	ev := &hubpb.TopicDeregistered{Topic: topic}
	own := s.OwnsTopic(ctx, topic)
	var err error
	if own && s.policy.Own != nil {
		err = s.policy.Own(ctx, ActionDeregister, topic)
	} else if !own {
		err = s.authorize(ctx, ActionDeregister, topic)
	}
	if err != nil {
		return err
	}
	if own && s.quotasKnown() {
		ev.Owner = s.principal(ctx)
	}
	_, err = s.propose(ctx, topic, &hubpb.Event{Kind: &hubpb.Event_TopicDeregistered{TopicDeregistered: ev}})
	return err
}

// propose proposes one event and returns its result; a refusal is an error. name is the subject of the event.
func (s *Service) propose(ctx context.Context, name string, ev *hubpb.Event) (Result, error) {
	res, err := s.proposer.Propose(ctx, ev)
	if err != nil {
		return Result{}, err
	}
	if res[0].Outcome == OutcomeRetired {
		return res[0], s.retired(name, s.TopicLifecycle(name))
	}
	return res[0], res[0].Err(name)
}

func (s *Service) known(topic string) (ok bool) {
	s.state.View(func(st *State) { _, ok = st.TopicByName(topic) })
	return ok
}

func (s *Service) now() time.Time {
	if s.policy.Clock == nil {
		return time.Now()
	}
	return s.policy.Clock.Now()
}

// checkOptions returns an error for options that contradict the other members of the consumer group, and for a key
// that names a header which is not kept.
func (s *Service) checkOptions(r *SubscribeRequest, c *hubpb.Caller) error {
	o := &r.Options
	if name, ok := KeyHeader(o.Key); ok && name != contentTypeHeader && !slices.Contains(s.policy.KeyHeaders, name) {
		return ParamErrorf("hub.delivery_key", "names the header %s, which is not kept with messages; expected one of %s (message.key_headers)",
			quote(name), strings.Join(append([]string{contentTypeHeader}, s.policy.KeyHeaders...), ", "))
	}
	if o.Group == "" {
		return nil
	}
	var have Options
	fits := true
	s.state.View(func(st *State) {
		var t Topic
		if t, fits = st.TopicByName(r.Topic); !fits {
			fits = true
			return
		}
		sub, _ := st.SubscriptionByKey(r.Topic, r.CallbackKey)
		if st.foreign(r.pending(c), nanos(s.now())) {
			return // whoever asks does not learn about the group
		}
		fits = st.joins(t.ID, sub.ID, o)
		have, _ = st.GroupOrder(r.Topic, o.Group)
	})
	if fits {
		return nil
	}
	param, is, want := "hub.delivery_key", quote(o.Key), quote(have.Key)
	switch {
	case have.Mode != o.Mode:
		param, is, want = "hub.delivery_mode", DeliveryModeName(o.Mode), DeliveryModeName(have.Mode)
	case have.Window != o.Window:
		param, is, want = "hub.delivery_window", strconv.Itoa(o.Window), strconv.Itoa(have.Window)
	}
	return &Error{Code: CodeConflict, Param: param, Message: "is " + is + ", but the consumer group " + quote(o.Group) +
		" has " + want + "; all members must agree, so expected " + want}
}
