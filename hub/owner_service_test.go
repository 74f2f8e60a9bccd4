package hub_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

// tenants is a hub with access control: principals may do everything with topics, and operators are named.
type tenants struct {
	*world
	*hub.Service
	refused []hub.FailedRequest
	denied  map[string]hub.Action // what a principal may not do
	quotas  hub.Quotas
}

type principalKey struct{}

// as returns a context of a principal; "operator" is one, and an empty one is nobody.
func as(principal string) context.Context {
	return context.WithValue(context.Background(), principalKey{}, principal)
}

func principalOf(ctx context.Context) string {
	p, _ := ctx.Value(principalKey{}).(string)
	return p
}

const operator = "issuer:idp/operator"

func newTenants(t *testing.T) *tenants {
	w := &tenants{world: newOwners(t), denied: map[string]hub.Action{}}
	w.Service = hub.NewService(hub.Policy{
		Leases: leases, AutoRegister: true, MaxMessageBytes: 1 << 20, Clock: worldClock{w.world},
		Authorize: func(ctx context.Context, a hub.Action, topic string) error {
			if w.denied[principalOf(ctx)] == a {
				return hub.Errorf(hub.CodeForbidden, "no rule allows %s", a)
			}
			return nil
		},
		Principal:  principalOf,
		Operator:   func(ctx context.Context) bool { return principalOf(ctx) == operator },
		ByteQuotas: func() bool { return w.quotas.StoredBytes+w.quotas.DeadLetterBytes > 0 },
		Quotas:     func(context.Context, string) hub.Quotas { return w.quotas },
		Refused:    func(_ context.Context, r *hub.FailedRequest) { w.refused = append(w.refused, *r) },
	}, namer(t), single{w.world}, single{w.world}, nil)
	return w
}

func (w *tenants) ask(principal, mode, topic, callback string, more ...string) (hub.RequestID, error) {
	f := url.Values{"hub.mode": {mode}, "hub.topic": {"https://hub.example/topics/" + topic}, "hub.callback": {callback}}
	for i := 0; i < len(more); i += 2 {
		f.Set(more[i], more[i+1])
	}
	return w.Subscribe(as(principal), f)
}

// subscribe subscribes and confirms.
func (w *tenants) subscribe(principal, topic, callback string, more ...string) hub.SubscriptionID {
	w.world.Helper()
	r, err := w.ask(principal, "subscribe", topic, callback, more...)
	if err != nil {
		w.world.Fatal(err)
	}
	return hub.SubscriptionID(w.apply(w.verified(uint64(r))).ID)
}

// Whoever asks about what belongs to another gets the same answer as anybody: the audit log gets another one.
func TestForeignRequestsAreAcceptedAndAudited(t *testing.T) {
	w := newTenants(t)
	id := w.subscribe(alice, "news", cb)
	w.subscribe(alice, "news", cb+"2", "hub.consumer_group", "g")
	for _, mode := range []string{"subscribe", "unsubscribe"} {
		r, err := w.ask(bob, mode, "news", cb)
		if err != nil || len(w.fx.Requests) != 0 {
			t.Fatalf("%s: %v", mode, err)
		}
		if f, ok := w.FailedRequest(r); !ok || f.Reason != hub.FailedNotOwner || f.Owner != bob {
			t.Errorf("%s: %+v", mode, f)
		}
	}
	// The group's settings differ from those asked for, which its owner alone is told.
	if _, err := w.ask(alice, "subscribe", "news", cb+"3", "hub.consumer_group", "g", "hub.delivery_window", "4"); hub.CodeOf(err) != hub.CodeConflict {
		t.Errorf("the owner: %v", err)
	}
	w.denied[bob] = hub.ActionJoinGroup
	if _, err := w.ask(bob, "subscribe", "news", cb+"3", "hub.consumer_group", "g", "hub.delivery_window", "4"); err != nil {
		t.Errorf("another: %v", err)
	}
	if len(w.refused) != 3 || w.refused[0].Owner != bob || w.refused[0].Callback != cb || w.refused[0].Reason != hub.FailedNotOwner {
		t.Errorf("told %+v", w.refused)
	}
	delete(w.denied, bob)
	if joined := w.subscribe(bob, "news", cb+"3", "hub.consumer_group", "g"); w.sub(joined).Group != w.sub(2).Group {
		t.Error("a rule lets bob join, and the hub does not")
	}
	if again := w.subscribe(operator, "news", cb); again != id || w.sub(id).Owner != alice {
		t.Errorf("an operator renews %s of %q", again, w.sub(id).Owner)
	}
}

// Only its owner and operators see and manage a subscription. To others it is not there.
func TestOnlyOwnersManageSubscriptions(t *testing.T) {
	acts := map[string]func(w *tenants, ctx context.Context, id hub.SubscriptionID) error{
		"pause": func(w *tenants, ctx context.Context, id hub.SubscriptionID) error { return w.Pause(ctx, id, true) },
		"end":   func(w *tenants, ctx context.Context, id hub.SubscriptionID) error { return w.End(ctx, id) },
		"rewind": func(w *tenants, ctx context.Context, id hub.SubscriptionID) error {
			p, _ := hub.ParsePosition("to", "earliest")
			_, err := w.Service.Rewind(ctx, memory{first: 1, head: 1}, id, p, false)
			return err
		},
		"a dry rewind": func(w *tenants, ctx context.Context, id hub.SubscriptionID) error {
			p, _ := hub.ParsePosition("to", "earliest")
			_, err := w.Service.Rewind(ctx, memory{first: 1, head: 1}, id, p, true)
			return err
		},
	}
	for name, act := range acts {
		for who, want := range map[string]bool{alice: true, bob: false, "": false, operator: true} {
			w := newTenants(t)
			id := w.subscribe(alice, "news", cb)
			w.published("news", 1)
			before := w.sub(id)
			err := act(w, as(who), id)
			if want != (err == nil) || !want && (hub.CodeOf(err) != hub.CodeNotFound || !strings.Contains(err.Error(), `"s-1" is not a subscription of this hub`)) {
				t.Errorf("%s by %q: %v", name, who, err)
			}
			if got, there := w.Subscription(id); !want && (!there || got.Paused || got.Assignment != before.Assignment) {
				t.Errorf("%s by %q: %+v", name, who, got)
			}
			if w.MayManage(as(who), alice) != want {
				t.Errorf("%q manages what is alice's: %t", who, !want)
			}
		}
		w := newTenants(t)
		own, none := w.subscribe(bob, "news", cb+"2"), w.subscribe("", "news", cb+"3")
		if err := act(w, as(alice), own); hub.CodeOf(err) != hub.CodeNotFound {
			t.Errorf("%s of bob's by alice: %v", name, err)
		}
		if err := act(w, as(""), none); hub.CodeOf(err) != hub.CodeNotFound {
			t.Errorf("%s of nobody's by nobody: %v", name, err)
		}
	}
}

// An event that an owner caused does nothing once the subscription is somebody else's.
func TestOwnersEventsAreFenced(t *testing.T) {
	w := newOwners(t)
	id := w.owned(alice, "news", cb)
	w.published("news", 3)
	w.apply(reassigned("", bob, uint64(id)))
	pause := paused(id, true)
	pause.GetSubscriptionPaused().Owner = alice
	rewind := rewound(id, 1)
	rewind.GetSubscriptionRewound().Owner = alice
	end := ended(hubpb.EndReason_END_OWNER, id)
	end.GetSubscriptionsEnded().Owner = alice
	for _, e := range []*hubpb.Event{pause, rewind, end} {
		w.apply(e)
		if got := w.sub(id); got.Paused || got.Cursor.Offset != 0 {
			t.Errorf("%s: %+v", hub.EventName(e), got)
		}
	}
}

// A hub whose access control is switched off belongs to everybody again.
func TestWithoutAccessControlOwnersDoNotMatter(t *testing.T) {
	w := newTenants(t)
	id := w.subscribe(alice, "news", cb, "hub.consumer_group", "g")
	open := hub.NewService(hub.Policy{Leases: leases, AutoRegister: true, Clock: worldClock{w.world}}, namer(t), single{w.world}, single{w.world}, nil)
	for _, callback := range []string{cb, cb + "2"} {
		r, err := open.Subscribe(t.Context(), url.Values{"hub.mode": {"subscribe"}, "hub.topic": {"https://hub.example/topics/news"}, "hub.callback": {callback}, "hub.consumer_group": {"g"}})
		if err != nil {
			t.Fatal(err)
		}
		if res := w.apply(w.verified(uint64(r))); res.Outcome != hub.OutcomeOK {
			t.Errorf("%s: %+v", callback, res)
		}
	}
	if err := open.Pause(t.Context(), id, true); err != nil || !w.sub(id).Paused {
		t.Errorf("pause: %v", err)
	}
	if r, err := open.Subscribe(t.Context(), url.Values{"hub.mode": {"subscribe"}, "hub.topic": {"https://hub.example/topics/free"}, "hub.callback": {cb}}); err != nil || w.fx.Requests[0].Owner != "" {
		t.Errorf("%s: %v", r, err)
	}
}

// Each quota refuses with its name, its limit and what is in use, and lets through what fits.
func TestQuotas(t *testing.T) {
	key := func(n int) hub.APIKey { return hub.APIKey{ID: fmt.Sprint("k", n), Name: "x"} }
	for quota, tc := range map[hub.Quota]struct {
		set  func(*hub.Quotas)
		make func(w *tenants, who string, n int) error
		used func(hub.Usage) int
		code hub.Code
	}{
		hub.QuotaTopics: {func(q *hub.Quotas) { q.Topics = 3 }, func(w *tenants, who string, n int) error {
			switch topic := fmt.Sprint(who[:2], n); n % 4 {
			case 0:
				return w.Register(as(who), topic)
			case 1:
				_, err := w.Publish(as(who), hub.Publication{Topic: topic, ContentType: "text/plain"})
				return err
			case 2:
				_, err := w.PublishBatch(as(who), hub.Batch{Topic: topic, Items: []hub.Item{{ContentType: "text/plain"}}})
				return err
			default:
				_, err := w.Ping(as(who), "hub.example", url.Values{"hub.url": {"https://foreign.example/" + topic}})
				return err
			}
		}, func(u hub.Usage) int { return u.Topics }, hub.CodeForbidden},
		hub.QuotaSubscriptions: {func(q *hub.Quotas) { q.Subscriptions = 3 }, func(w *tenants, who string, n int) error {
			r, err := w.ask(who, "subscribe", "news", fmt.Sprint(cb, who[:2], n))
			if err == nil {
				w.apply(w.verified(uint64(r)))
			}
			return err
		}, func(u hub.Usage) int { return u.Subscriptions }, hub.CodeForbidden},
		hub.QuotaRequests: {func(q *hub.Quotas) { q.PendingRequests = 3 }, func(w *tenants, who string, n int) error {
			_, err := w.ask(who, "subscribe", "news", fmt.Sprint(cb, who[:2], n))
			return err
		}, func(u hub.Usage) int { return u.PendingRequests }, hub.CodeForbidden},
		hub.QuotaAPIKeys: {func(q *hub.Quotas) { q.APIKeys = 3 }, func(w *tenants, who string, n int) error {
			k := key(n)
			k.ID = who + k.ID
			return w.CreateAPIKey(as(who), k)
		}, func(u hub.Usage) int { return u.APIKeys }, hub.CodeForbidden},
		hub.QuotaNonces: {func(q *hub.Quotas) { q.NoncesPerMinute = 3 }, func(w *tenants, who string, n int) error {
			_, err := w.ClaimNonce(as(""), who, sha256.Sum256(fmt.Append(nil, who, n)), w.now.Add(time.Minute))
			return err
		}, func(u hub.Usage) int { return u.NoncesThisMinute }, hub.CodeLimited},
	} {
		t.Run(string(quota), func(t *testing.T) {
			w := newTenants(t)
			tc.set(&w.quotas)
			w.apply(registered("news"))
			for n := range 3 {
				if err := tc.make(w, alice, n); err != nil {
					t.Fatalf("%d: %v", n, err)
				}
			}
			seq := w.seq
			for n := 3; n < 8; n++ {
				var e *hub.Error
				if err := tc.make(w, alice, n); !errors.As(err, &e) || e.Code != tc.code || e.Quota == nil || *e.Quota != (hub.QuotaUse{Quota: quota, Limit: 3, Used: 3}) {
					t.Errorf("%d: %v", n, err)
				} else if tc.code == hub.CodeLimited && (e.RetryAfter <= 0 || w.seq != seq) {
					t.Errorf("retry after %s, and %d entries in the log", e.RetryAfter, w.seq-seq)
				}
			}
			if got := tc.used(w.Usage(alice)); got != 3 {
				t.Errorf("%d in use", got)
			}
			if err := tc.make(w, bob, 0); err != nil {
				t.Errorf("alice's quota refuses bob: %v", err)
			}
			w.quotas = hub.Quotas{}
			if err := tc.make(w, alice, 9); err != nil {
				t.Errorf("without a limit: %v", err)
			}
		})
	}
}

// The fold refuses what the node that was asked could not know: that others used up the quota meanwhile.
func TestQuotasHoldInTheFold(t *testing.T) {
	w := newOwners(t)
	one := func(c *hubpb.Caller) {
		c.MaxTopics, c.MaxSubscriptions, c.MaxRequests, c.MaxApiKeys, c.MaxNonces = 1, 1, 1, 1, 1
	}
	nonce := func(n byte) *hubpb.Event {
		return &hubpb.Event{Kind: &hubpb.Event_NonceClaimed{NonceClaimed: &hubpb.NonceClaimed{Nonce: []byte{n}, Until: w.now.Add(time.Hour).UnixNano()}}}
	}
	w.apply(registered("news"))
	for name, pair := range map[string][2]*hubpb.Event{
		"topics":   {registered("a"), published("b", "x")},
		"requests": {requested(hub.ModeSubscribe, "news", cb, hr, ""), requested(hub.ModeSubscribe, "news", cb+"2", hr, "")},
		"keys":     {keyCreated("a", time.Time{}), keyCreated("b", time.Time{})},
		"nonces":   {nonce(1), nonce(2)},
	} {
		if r := w.apply(by(alice, pair[0], one)); r.Outcome != hub.OutcomeOK {
			t.Errorf("%s: the first: %+v", name, r)
		}
		if r := w.apply(by(alice, pair[1], one)); r.Outcome != hub.OutcomeQuota || r.Offset != 1 {
			t.Errorf("%s: the second: %+v", name, r)
		}
	}
	// One more request replaces the pending one, and a renewal adds nothing.
	r := w.apply(by(alice, requested(hub.ModeSubscribe, "news", cb, hr, ""), one))
	if res := w.apply(w.verified(r.ID)); res.Outcome != hub.OutcomeOK {
		t.Fatalf("%+v", res)
	}
	r = w.apply(by(alice, requested(hub.ModeSubscribe, "news", cb, hr, ""), one))
	if res := w.apply(w.verified(r.ID)); res.Outcome != hub.OutcomeOK {
		t.Errorf("a renewal: %+v", res)
	}
	r = w.apply(by(alice, requested(hub.ModeSubscribe, "news", cb+"2", hr, ""), one))
	if res := w.apply(w.verified(r.ID)); res.Outcome != hub.OutcomeQuota || !slices.Equal(w.failures(alice), []string{"subscribe quota"}) {
		t.Errorf("a second subscription: %+v, %v", res, w.failures(alice))
	}
	w.advance(time.Minute)
	if r := w.apply(by(alice, nonce(3), one)); r.Outcome != hub.OutcomeOK {
		t.Errorf("a nonce in the next minute: %+v", r)
	}
}

// Nobody takes so many nonces that others get none.
func TestNoncesAreShared(t *testing.T) {
	s := hub.NewState()
	now, seq := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC), uint64(0)
	apply := func(events ...*hubpb.Event) []hub.Result {
		seq++
		res, err := s.Apply(entry(t, now, "node-1/a", seq, events...), new(hub.Effects))
		if err != nil {
			t.Fatal(err)
		}
		return res[0].Proposals[0]
	}
	apply(levelSet(hub.FeatureLevel))
	claim := func(owner string, n int) *hubpb.Event {
		nonce := sha256.Sum256(fmt.Append(nil, owner, n))
		return by(owner, &hubpb.Event{Kind: &hubpb.Event_NonceClaimed{NonceClaimed: &hubpb.NonceClaimed{Nonce: nonce[:], Until: now.Add(time.Hour).UnixNano()}}})
	}
	granted := 0
	for n := 0; n < hub.MaxNonces; n += 1000 {
		var events []*hubpb.Event
		for i := range 1000 {
			events = append(events, claim(bob, n+i))
		}
		for _, r := range apply(events...) {
			if r.Outcome == hub.OutcomeOK {
				granted++
			} else if r.Outcome != hub.OutcomeQuota {
				t.Fatalf("%+v", r)
			}
		}
	}
	if granted != hub.MaxNonces/2 {
		t.Errorf("one principal holds %d of %d", granted, hub.MaxNonces)
	}
	if r := apply(claim(alice, 1))[0]; r.Outcome != hub.OutcomeOK {
		t.Errorf("another one: %+v", r)
	}
}

// As long as a new cluster has no feature level, principals can make nothing: it would belong to nobody.
func TestNothingIsMadeBeforeOwnersAreKnown(t *testing.T) {
	w := newTenants(t)
	w.world.State = hub.NewState()
	acts := map[string]func() error{
		"publish": func() error {
			_, err := w.Publish(as(alice), hub.Publication{Topic: "news", ContentType: "text/plain"})
			return err
		},
		"subscribe": func() error { _, err := w.ask(alice, "subscribe", "news", cb); return err },
		"register":  func() error { return w.Register(as(alice), "news") },
		"key":       func() error { return w.CreateAPIKey(as(alice), hub.APIKey{ID: "k-1", Name: "k"}) },
	}
	for name, act := range acts {
		if err := act(); hub.CodeOf(err) != hub.CodeUnavailable || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(w.Topics(0, 0)) != 0 {
		t.Error("a topic was made")
	}
	if err := w.Register(as(""), "open"); err != nil {
		t.Errorf("nobody, who can own nothing: %v", err)
	}
	w.apply(levelSet(hub.FeatureLevel))
	for name, act := range acts {
		if err := act(); err != nil && hub.CodeOf(err) != hub.CodeConflict {
			t.Errorf("%s at a level: %v", name, err)
		}
	}
}
