package delivery_test

import (
	"strings"
	"testing"
	"time"

	"quorumhub/delivery"
	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/test/fake"
)

// Deliveries of a deprecated topic say so, from the moment it is marked and as long as it is; those of others are as before,
// byte for byte.
func TestDeliveriesTellOfTheEndOfATopic(t *testing.T) {
	bubble(t, func(string, int, string) fake.Answer { return fake.Answer{} }, func(o *delivery.DispatcherOptions) { o.Notices = hub.NewTopicNotices(o.State, o.Namer) }, func(r *rig) {
		r.Observe(r.o.Notices)
		r.Do(&hubpb.Event{Kind: &hubpb.Event_FeatureLevelSet{FeatureLevelSet: &hubpb.FeatureLevelSet{Level: hub.FeatureLevel}}})
		const old, other = "http://a.example/", "http://b.example/"
		r.Subscribe(fake.Want{Topic: "orders", Callback: old})
		r.Subscribe(fake.Want{Topic: "orders/v2", Callback: other})
		mark := func(l *hubpb.TopicLifecycle) {
			r.Do(&hubpb.Event{Kind: &hubpb.Event_TopicLifecycleSet{TopicLifecycleSet: &hubpb.TopicLifecycleSet{Topic: "orders", Lifecycle: l}}})
		}
		sunset := time.Now().Add(time.Hour)
		for _, step := range []*hubpb.TopicLifecycle{nil, {Successor: "orders/v2", SunsetAt: sunset.UnixNano(), DeprecatedAt: time.Unix(1_700_000_000, 0).UnixNano()}, {DeprecatedAt: time.Unix(1_700_000_001, 0).UnixNano()}, nil} {
			mark(step)
			r.Publish("orders", "x")
			r.Publish("orders/v2", "x")
			r.after(time.Second)
		}
		successor := `, <` + r.o.Namer.URL("orders/v2") + `>; rel="successor-version"`
		got := r.net.To(old)
		if len(got) != 4 {
			t.Fatalf("%d deliveries", len(got))
		}
		for i, want := range [][3]string{{}, {"@1700000000", sunset.UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT"), successor}, {"@1700000001", "", ""}, {}} {
			h := got[i].Header
			link := `rel="hub", <` + r.o.Namer.URL("orders") + `>; rel="self"` + want[2]
			if h.Get("Deprecation") != want[0] || h.Get("Sunset") != want[1] || !strings.HasSuffix(h.Get("Link"), link) || len(h["Link"]) != 1 {
				t.Errorf("delivery %d: %v, want %v", i+1, h, want)
			}
		}
		for _, a := range r.net.To(other) {
			if len(a.Header["Deprecation"])+len(a.Header["Sunset"]) > 0 || strings.Contains(a.Header.Get("Link"), "successor") {
				t.Errorf("the successor: %v", a.Header)
			}
		}
	})
}
