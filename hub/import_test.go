package hub_test

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
)

func imported(topic, callback string, lease int64, from time.Time) *hubpb.Event {
	e := &hubpb.SubscriptionImported{Request: requested(hub.ModeSubscribe, topic, callback, lease, "s").GetSubscriptionRequested()}
	if !from.IsZero() {
		e.LeasedFrom = from.UnixNano()
	}
	return &hubpb.Event{Kind: &hubpb.Event_SubscriptionImported{SubscriptionImported: e}}
}

func TestImportedSubscription(t *testing.T) {
	w := newWorld(t)
	w.apply(&hubpb.Event{Kind: &hubpb.Event_TopicRegistered{TopicRegistered: &hubpb.TopicRegistered{Topic: hub.EventsTopic}}})
	for i, c := range []struct {
		from time.Time
		left time.Duration
	}{
		{time.Time{}, time.Hour},
		{w.now.Add(-40 * time.Minute), 20 * time.Minute},
		{w.now.Add(-time.Hour), time.Hour},        // expired just now: a fresh lease
		{w.now.Add(-1000 * time.Hour), time.Hour}, // expired long ago
		{w.now.Add(time.Hour), time.Hour},         // from a clock that is ahead
		{time.Unix(0, 1), time.Hour},
	} {
		callback := fmt.Sprintf("%s/%d", cb, i)
		r := w.apply(imported("t", callback, hr, c.from))
		if r.Outcome != hub.OutcomeOK || r.ID == 0 {
			t.Fatalf("%d: %+v", i, r)
		}
		sub, ok := w.Subscription(hub.SubscriptionID(r.ID))
		if !ok || !sub.ExpiresAt.Equal(w.now.Add(c.left)) || sub.LeaseSeconds != hr || string(sub.SealedSecret) == "" {
			t.Errorf("%d: ends at %s, want in %s: %+v", i, sub.ExpiresAt, c.left, sub)
		}
		if len(w.fx.Subscriptions) != 1 || w.fx.Subscriptions[0].ID != sub.ID {
			t.Errorf("%d: not in the effects: %+v", i, w.fx)
		}
		if m := w.fx.Messages; len(m) != 1 || !strings.Contains(string(m[0].Body), `"subscription.imported"`) {
			t.Errorf("%d: announced %+v", i, m)
		}
	}
	// An existing subscription does not change, whatever the record says.
	before, _ := w.SubscriptionByKey("t", cb+"/0")
	if r := w.apply(imported("t", cb+"/0", 2*hr, time.Time{})); r.Outcome != hub.OutcomeDuplicate || r.ID != uint64(before.ID) {
		t.Errorf("again: %+v", r)
	}
	if after, _ := w.SubscriptionByKey("t", cb+"/0"); after.ExpiresAt != before.ExpiresAt || after.LeaseSeconds != before.LeaseSeconds {
		t.Errorf("it was changed: %+v", after)
	}
	// It starts after the existing messages and does not interfere with a pending request.
	w.apply(published("u", "a"), published("u", "b"))
	pending := w.apply(requested(hub.ModeSubscribe, "u", cb, 2*hr, "mine"))
	r := w.apply(imported("u", cb, hr, time.Time{}))
	if sub, _ := w.Subscription(hub.SubscriptionID(r.ID)); sub.Cursor.Offset != 2 {
		t.Errorf("it starts after %d, want 2", sub.Cursor.Offset)
	}
	w.apply(w.verified(pending.ID))
	if sub, _ := w.Subscription(hub.SubscriptionID(r.ID)); sub.LeaseSeconds != 2*hr {
		t.Errorf("the request changed nothing: %+v", sub)
	}
	// If the lease of the existing one has expired, a new one is created.
	w.advance(100 * time.Hour)
	if again := w.apply(imported("u", cb, hr, time.Time{})); again.Outcome != hub.OutcomeOK || again.ID == r.ID || len(w.fx.Ended) != 1 {
		t.Errorf("after its end: %+v, ended %+v", again, w.fx.Ended)
	}
	for _, e := range []*hubpb.SubscriptionImported{{}, {Request: &hubpb.SubscriptionRequested{Mode: hub.ModeUnsubscribe, Topic: "u", LeaseSeconds: 1}}} {
		if r := w.apply(&hubpb.Event{Kind: &hubpb.Event_SubscriptionImported{SubscriptionImported: e}}); r.Outcome != hub.OutcomeStale {
			t.Errorf("%v: %+v", e, r)
		}
	}
}

// box seals by turning bytes around.
type box struct{}

// box seals by reversing the bytes.
func (box) Seal(secret []byte, bound string) ([]byte, error) {
	out := []byte("sealed:")
	for i := range secret {
		out = append(out, secret[len(secret)-1-i])
	}
	return out, nil
}

func (box) Open([]byte, string) ([]byte, error) { return nil, fmt.Errorf("not supported") }

// importer is a service on top of a world.
type importer struct {
	*hub.Service
	w *world
}

func newImporter(t *testing.T, change func(*hub.Policy)) *importer {
	t.Helper()
	w := newWorld(t)
	rules := hub.Policy{Leases: leases, KeyHeaders: []string{"X-Hub-Key"}, Clock: worldClock{w}}
	change(&rules)
	return &importer{hub.NewService(rules, namer(t), single{w}, single{w}, box{}), w}
}

type worldClock struct{ w *world }

func (c worldClock) Now() time.Time { return c.w.now }

func TestImportAppliesTheChecksOfSubscribe(t *testing.T) {
	h := newImporter(t, func(r *hub.Policy) {
		r.CheckCallback = func(u *url.URL) error {
			if u.Hostname() == "10.0.0.1" {
				return fmt.Errorf("address 10.0.0.1 is private")
			}
			return nil
		}
	})
	ctx := context.Background()
	since := h.w.now.Add(-1000 * time.Hour)
	in := hub.Import{Topics: []string{"a", "a/b", "", "hub.mine", "a//b", "https://elsewhere.example/t"}, Subscriptions: []hub.ImportedSubscription{
		{Topic: "a", Callback: cb, Secret: "s3cret", LeaseSeconds: "3600", Since: since, Extra: []hub.ExtraField{{Name: "topicPartitions", Value: "0,1"}, {Name: "consumerGroup", Value: "made"}}},
		{Topic: "a", Callback: cb + "/lease", LeaseSeconds: "soon"},
		{Topic: "new", Callback: cb, ConsumerGroup: "g"},
		{Topic: "a", Callback: "https://10.0.0.1/cb"},
		{Topic: "a", Callback: "nowhere"},
		{Topic: "hub.mine", Callback: cb},
		{Topic: "a", Callback: cb + "/long", Secret: strings.Repeat("x", 200)},
		{Topic: "a", Callback: cb + "/extra", Extra: []hub.ExtraField{{Name: "x", Value: strings.Repeat("x", 5000)}}},
		{Topic: "a", Callback: cb},
	}}
	const want = "created created refused:topic refused:hub.topic refused:topic created | " +
		"created+fresh created created refused:hub.callback refused:hub.callback refused:hub.topic refused:hub.secret refused: unchanged"
	dry := in
	dry.DryRun = true
	got := outcomes(t, h, dry)
	if wantDry := strings.TrimSuffix(want, "unchanged") + "created"; got != wantDry {
		t.Errorf("dry run:\n%s\nwant\n%s", got, wantDry)
	}
	if n := h.w.Counts(); n.Topics+n.Subscriptions+n.Requests != 0 {
		t.Fatalf("the dry run created %+v", n)
	}
	if got := outcomes(t, h, in); got != want {
		t.Errorf("import:\n%s\nwant\n%s", got, want)
	}
	again := "unchanged unchanged refused:topic refused:hub.topic refused:topic unchanged | " +
		"unchanged unchanged unchanged refused:hub.callback refused:hub.callback refused:hub.topic refused:hub.secret refused: unchanged"
	if got := outcomes(t, h, in); got != again {
		t.Errorf("again:\n%s\nwant\n%s", got, again)
	}
	sub, _ := h.w.SubscriptionByKey("a", cb)
	if sub.Group != 0 || fmt.Sprint(sub.Extra) != "[{consumerGroup made} {topicPartitions 0,1}]" || string(sub.SealedSecret) != "sealed:terc3s" {
		t.Errorf("created %+v", sub)
	}
	if grouped, _ := h.w.SubscriptionByKey("new", cb); grouped.Group == 0 {
		t.Errorf("not in its group: %+v", grouped)
	}
	// With Verify the callback is asked to confirm, once.
	verify := hub.Import{Verify: true, Subscriptions: []hub.ImportedSubscription{{Topic: "a", Callback: cb}, {Topic: "a", Callback: cb + "/v"}}}
	if got := outcomes(t, h, verify); got != "| unchanged requested" {
		t.Errorf("with verification: %s", got)
	}
	if got := outcomes(t, h, verify); got != "| unchanged unchanged" || h.w.Counts().Requests != 1 {
		t.Errorf("with verification, again: %s, %d requests", got, h.w.Counts().Requests)
	}
	if _, err := h.Import(ctx, hub.Import{Topics: make([]string, hub.MaxImport+1)}); hub.CodeOf(err) != hub.CodeInvalid {
		t.Errorf("too many: %v", err)
	}
}

func outcomes(t *testing.T, h *importer, in hub.Import) string {
	t.Helper()
	res, err := h.Import(context.Background(), in)
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for i, r := range res {
		if i == len(in.Topics) {
			words = append(words, "|")
		}
		word := string(r.Outcome)
		if r.Outcome == hub.ImportRefused {
			word += ":" + r.Param
		}
		if r.FreshLease {
			word += "+fresh"
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}
