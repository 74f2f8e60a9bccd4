package hub

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"quorumhub/hub/hubpb"
)

// importSubscription creates a subscription that another hub has verified. An existing one does not change. Its lease
// counts from the stated time, unless it would have expired by now: the hubs imported from never ended any
// subscription.
func (s *State) importSubscription(e *hubpb.SubscriptionImported, fx *Effects) Result {
	if e.Request == nil {
		return Result{Outcome: OutcomeStale}
	}
	r := requestFromPB(e.Request)
	if r.Mode != ModeSubscribe || r.LeaseSeconds <= 0 {
		return Result{Outcome: OutcomeStale}
	}
	if s.retiredKey(r.SealedSecret) || s.retiredKey([]byte(r.SealedHeaders)) {
		return Result{Outcome: OutcomeKeyRetired}
	}
	t := s.findTopic(r.TopicName, r.AutoRegister)
	if t == nil {
		return Result{Outcome: OutcomeNoTopic}
	}
	if id, ok := s.subByKey[subscriptionKey{t.ID, r.CallbackKey}]; ok {
		if !s.subs[id].Expired(s.Now()) {
			return Result{Outcome: OutcomeDuplicate, Topic: t.ID, ID: uint64(id)}
		}
		s.endSubscription(id, hubpb.EndReason_END_EXPIRED, fx)
	}
	from := s.Now()
	if stated := timeOf(e.LeasedFrom); e.LeasedFrom > 0 && stated.Before(from) && stated.Add(time.Duration(r.LeaseSeconds)*time.Second).After(from) {
		from = stated
	}
	return s.subscribe(t, &r, &hubpb.RequestVerified{VerifiedFrom: nanos(from), StartOffset: t.Head}, LifecycleImported, fx)
}

// MaxImport bounds the total number of topics and subscriptions in one Import.
const MaxImport = 1000

// maxImportEntry bounds the size of the events in one proposal, which goes into one log entry.
const maxImportEntry = 128 << 10

// Import is a list of topics and subscriptions to take over from another hub.
type Import struct {
	Topics        []string // names, or URLs
	Subscriptions []ImportedSubscription
	// Verify asks every callback to confirm, as for any subscription; nothing is sent to it before.
	Verify bool
	// DryRun changes nothing and reports what would happen.
	DryRun bool
}

// ImportedSubscription is a subscription of another hub.
type ImportedSubscription struct {
	Topic, Callback string
	Secret          string
	LeaseSeconds    string // as hub.lease_seconds; anything but a positive number means the hub's default
	ConsumerGroup   string // empty: none
	// Since is when its lease began. If zero, or if the lease would have expired by now, it begins with the import.
	Since time.Time
	Extra []ExtraField // fields the hub keeps without interpreting them
}

// ImportOutcome is the outcome for one record.
type ImportOutcome string

// Outcomes of an import.
const (
	ImportCreated   ImportOutcome = "created"
	ImportUnchanged ImportOutcome = "unchanged" // it already existed and did not change
	ImportRequested ImportOutcome = "requested" // its callback is asked to confirm (Import.Verify)
	ImportRefused   ImportOutcome = "refused"
)

// Imported is the result for one record. Param and Reason explain a refusal.
type Imported struct {
	Outcome       ImportOutcome
	ID            SubscriptionID // of an existing subscription
	FreshLease    bool           // its lease had expired and begins again
	Param, Reason string
}

// Import takes over topics and subscriptions, each subject to the same checks as a request for it. The results are in
// the order of the records, topics first. Existing items are left alone, so an import may be repeated any number of
// times; repeat it after an error of the proposer (see Propose). Authorisation is up to the caller.
func (s *Service) Import(ctx context.Context, in Import) ([]Imported, error) {
	if n := len(in.Topics) + len(in.Subscriptions); n > MaxImport {
		return nil, Errorf(CodeInvalid, "%d records; expected at most %d in one import", n, MaxImport)
	}
	w := &importing{s: s, in: in, out: make([]Imported, len(in.Topics)+len(in.Subscriptions))}
	for i, name := range in.Topics {
		if err := w.topic(ctx, i, name); err != nil {
			return nil, err
		}
	}
	for i := range in.Subscriptions {
		if err := w.subscription(ctx, len(in.Topics)+i, &in.Subscriptions[i]); err != nil {
			return nil, err
		}
	}
	return w.out, w.flush(ctx)
}

// importing collects events until there are enough for an entry.
type importing struct {
	s      *Service
	in     Import
	out    []Imported
	events []*hubpb.Event
	of     []int // index of the record of each event
	size   int
}

// refuse records why a record was refused. It returns an error that is not about the record.
func (w *importing) refuse(i int, err error) error {
	if err == nil {
		return nil
	}
	e, ok := err.(*Error) //nolint:errorlint // checks return it unwrapped
	if !ok || e.Code == CodeUnavailable || e.Code == CodeInternal {
		return err
	}
	w.out[i] = Imported{Outcome: ImportRefused, Param: e.Param, Reason: e.Message}
	return nil
}

func (w *importing) topic(ctx context.Context, i int, raw string) error {
	name, err := w.s.namer.takingBareNames().Name("topic", raw)
	if err == nil {
		err = checkReserved(ActionRegister, name)
	}
	if err != nil {
		return w.refuse(i, err)
	}
	switch {
	case w.s.known(name):
		w.out[i].Outcome = ImportUnchanged
		return nil
	case w.in.DryRun:
		w.out[i].Outcome = ImportCreated
		return nil
	}
	return w.add(ctx, i, &hubpb.Event{Kind: &hubpb.Event_TopicRegistered{TopicRegistered: &hubpb.TopicRegistered{Topic: name}}})
}

func (w *importing) subscription(ctx context.Context, i int, sub *ImportedSubscription) error {
	ev, r, err := w.s.importRequest(sub)
	if err != nil {
		return w.refuse(i, err)
	}
	now := w.s.now()
	over := !sub.Since.IsZero() && !now.Before(sub.Since.Add(time.Duration(r.LeaseSeconds)*time.Second))
	var have Subscription
	var there, pending bool
	w.s.state.View(func(st *State) {
		have, there = st.SubscriptionByKey(r.Topic, r.CallbackKey)
		_, pending = st.requestByKey[requestKey{r.Topic, r.CallbackKey, ""}]
	})
	switch {
	case there && !have.Expired(now):
		w.out[i] = Imported{Outcome: ImportUnchanged, ID: have.ID}
		return nil
	case w.in.Verify && pending:
		w.out[i].Outcome = ImportUnchanged
		return nil
	case w.in.Verify:
		w.out[i].Outcome = ImportRequested
	default:
		w.out[i] = Imported{Outcome: ImportCreated, FreshLease: over}
	}
	if w.in.DryRun {
		return nil
	}
	if r.Secret != nil {
		if ev.SealedSecret, err = w.s.secrets.Seal(r.Secret, SecretBinding(r.Topic, r.CallbackKey)); err != nil {
			return fmt.Errorf("seal a secret: %w", err)
		}
	}
	if w.in.Verify {
		if w.s.crowded() {
			return Errorf(CodeUnavailable, "too many requests are waiting for verification; try again shortly")
		}
		ev.Caller = w.s.operator()
		return w.add(ctx, i, &hubpb.Event{Kind: &hubpb.Event_SubscriptionRequested{SubscriptionRequested: ev}})
	}
	imported := &hubpb.SubscriptionImported{Request: ev}
	if !sub.Since.IsZero() {
		imported.LeasedFrom = sub.Since.UnixNano()
	}
	return w.add(ctx, i, &hubpb.Event{Kind: &hubpb.Event_SubscriptionImported{SubscriptionImported: imported}})
}

// importRequest checks a subscription as Subscribe does. It does not seal the secret.
func (s *Service) importRequest(sub *ImportedSubscription) (*hubpb.SubscriptionRequested, *SubscribeRequest, error) {
	form := url.Values{"hub.mode": {"subscribe"}, "hub.topic": {sub.Topic}, "hub.callback": {sub.Callback}}
	if sub.Secret != "" {
		form.Set("hub.secret", sub.Secret)
	}
	if strings.Trim(sub.LeaseSeconds, "0123456789") == "" {
		form.Set("hub.lease_seconds", sub.LeaseSeconds)
	}
	if sub.ConsumerGroup != "" {
		form.Set(consumerGroupParam, sub.ConsumerGroup)
	}
	r, err := ParseSubscribe(form, s.namer.takingBareNames(), s.policy.Leases)
	if err != nil {
		return nil, nil, err
	}
	if err := checkReserved(ActionSubscribe, r.Topic); err != nil {
		return nil, nil, err
	}
	if s.policy.CheckCallback != nil {
		if err := s.policy.CheckCallback(r.CallbackURL); err != nil {
			return nil, nil, &Error{Code: CodeForbidden, Param: "hub.callback", Message: err.Error()}
		}
	}
	if err := s.checkOptions(r, s.operator()); err != nil {
		return nil, nil, err
	}
	more := url.Values{}
	for _, f := range sub.Extra {
		more.Set(f.Name, f.Value)
	}
	extra, err := extraFields(more)
	if err != nil {
		return nil, nil, err
	}
	return &hubpb.SubscriptionRequested{Mode: r.Mode, Topic: r.Topic, TopicRaw: r.TopicRaw, Callback: r.Callback, CallbackKey: r.CallbackKey,
		LeaseSeconds: r.LeaseSeconds, AutoRegister: true, Options: r.Options.pb(""), Extra: extraPB(extra)}, r, nil
}

func (w *importing) add(ctx context.Context, i int, ev *hubpb.Event) error {
	size := proto.Size(ev)
	if w.size+size > maxImportEntry {
		if err := w.flush(ctx); err != nil {
			return err
		}
	}
	w.events, w.of, w.size = append(w.events, ev), append(w.of, i), w.size+size
	return nil
}

func (w *importing) flush(ctx context.Context) error {
	if len(w.events) == 0 {
		return nil
	}
	res, err := w.s.proposer.Propose(ctx, w.events...)
	if err != nil {
		return err
	}
	for k, r := range res {
		o := &w.out[w.of[k]]
		switch {
		case r.Outcome == OutcomeDuplicate, r.Outcome == OutcomeTopicExists:
			*o = Imported{Outcome: ImportUnchanged, ID: SubscriptionID(r.ID)}
		case r.Outcome != OutcomeOK:
			if err := w.refuse(w.of[k], r.Err("")); err != nil {
				return err
			}
		case o.Outcome == "":
			o.Outcome = ImportCreated // a topic
		case o.Outcome == ImportCreated:
			o.ID = SubscriptionID(r.ID)
		}
	}
	w.events, w.of, w.size = nil, nil, 0
	return nil
}
