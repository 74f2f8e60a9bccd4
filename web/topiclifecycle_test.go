package web_test

import (
	"net/http"
	"strings"
	"testing"

	"quorumhub/hub"
	"quorumhub/hub/hubpb"
	"quorumhub/web"
)

// A topic is deprecated by its owner: who publishes to it, subscribes to it or reads it is told, and once it is retired
// publishing and subscribing are 410 with the successor.
func TestTopicLifecycle(t *testing.T) {
	var notices *hub.TopicNotices
	f := newFixture(t, func(p *hub.Policy, o *web.Options) {
		namer, err := hub.NewTopicNamer(publicURL)
		if err != nil {
			t.Fatal(err)
		}
		notices = hub.NewTopicNotices(o.State, namer)
		o.Notices = notices
	})
	f.atLevel(t, hub.FeatureLevel)
	f.publish(t, "orders", "x")
	f.publish(t, "orders/v2", "x")
	const successor = `<` + publicURL + `/topics/orders/v2>; rel="successor-version"`
	for _, c := range []struct {
		body   string
		status int
		says   string
	}{
		{`{}`, 400, "retention: is missing"},
		{`{"lifecycle": {}}`, 400, "expected active, deprecated or retired"},
		{`{"lifecycle": {"status": "old"}}`, 400, "expected active, deprecated or retired"},
		{`{"lifecycle": {"status": "active", "successor": "orders/v2"}}`, 400, "takes no dates"},
		{`{"lifecycle": {"status": "deprecated", "sunset_at": "soon"}}`, 400, "body: cannot be decoded"},
		{`{"lifecycle": {"status": "retired", "retired_at": "2026-11-01T00:00:00Z"}}`, 400, "cannot be set"},
		{`{"lifecycle": {"status": "deprecated", "successor": "none"}}`, 400, "no topic of this hub"},
		{`{"lifecycle": {"status": "deprecated", "deprecated_at": "2026-10-01T00:00:00Z", "sunset_at": "2027-06-30T00:00:00Z", "successor": "` + publicURL + `/topics/orders/v2"}}`, 200,
			`"lifecycle":{"status":"deprecated","deprecated_at":"2026-10-01T00:00:00Z","sunset_at":"2027-06-30T00:00:00Z","successor":"orders/v2"}`},
	} {
		if got := want(t, f.send("PUT", "/v1/topics/orders", c.body), c.status); !strings.Contains(got, c.says) {
			t.Errorf("%s: %s, want %q in it", c.body, got, c.says)
		}
	}
	notices.Reload()
	told := func(what string, h http.Header) {
		t.Helper()
		if h.Get("Deprecation") != "@1790812800" || h.Get("Sunset") != "Wed, 30 Jun 2027 00:00:00 GMT" || !strings.Contains(strings.Join(h["Link"], ", "), successor) {
			t.Errorf("%s is not told: %v", what, h)
		}
	}
	subscribe := func() http.Header {
		w := f.form("hub.mode", "subscribe", "hub.topic", publicURL+"/topics/orders", "hub.callback", "https://a.example/cb")
		want(t, w, 202)
		return w.Header()
	}
	told("a publisher", f.send("POST", "/topics/orders", "x").Header())
	told("a publisher of a batch", f.send("POST", "/topics/orders?hub.batch=true", "{}\n{}", "Content-Type", "application/x-ndjson").Header())
	told("a subscriber", subscribe())
	told("a reader", f.send("GET", "/topics/orders", "").Header())
	for _, path := range []string{"/topics/orders/v2"} {
		if h := f.send("GET", path, "").Header(); h.Get("Deprecation") != "" || h.Get("Sunset") != "" {
			t.Errorf("%s: %v", path, h)
		}
	}
	if got := want(t, f.send("PUT", "/v1/topics/orders", `{"lifecycle": {"status": "retired"}}`), 200); !strings.Contains(got, `"status":"retired"`) || !strings.Contains(got, `"successor":"orders/v2"`) {
		t.Errorf("retired: %s", got)
	}
	notices.Reload()
	for what, w := range map[string]interface {
		Header() http.Header
	}{
		"publish":   f.send("POST", "/topics/orders", "x", "Accept", "application/json"),
		"batch":     f.send("POST", "/topics/orders?hub.batch=true", "{}", "Content-Type", "application/x-ndjson", "Accept", "application/json"),
		"subscribe": f.send("POST", "/hub", encode("hub.mode", "subscribe", "hub.topic", publicURL+"/topics/orders", "hub.callback", "https://b.example/cb"), "Content-Type", formType, "Accept", "application/json"),
	} {
		rec := w.(interface{ Result() *http.Response }).Result()
		var body strings.Builder
		if err := rec.Write(&body); err != nil {
			t.Fatal(err)
		}
		if rec.StatusCode != 410 || !strings.Contains(rec.Header.Get("Link"), successor) || !strings.Contains(body.String(), `"code":"retired"`) || !strings.Contains(body.String(), `"successor":"`+publicURL+`/topics/orders/v2"`) {
			t.Errorf("%s to a retired topic: %s", what, body.String())
		}
	}
	want(t, f.send("GET", "/topics/orders", ""), 200) // what is stored can be read
	want(t, f.send("PUT", "/v1/topics/orders", `{"lifecycle": {"status": "active"}}`), 200)
	want(t, f.send("POST", "/topics/orders", "x"), 200)
}

// The owner of a topic may deprecate it without a rule, others may not; and who may not learns nothing about the topic.
func TestTopicLifecycleIsForTheOwner(t *testing.T) {
	o := newOwned(t, "")
	o.ledger.must(t, &hubpb.Event{Kind: &hubpb.Event_FeatureLevelSet{FeatureLevelSet: &hubpb.FeatureLevelSet{Level: hub.FeatureLevel}}})
	want(t, o.as(o.alice, "POST", "/topics/orders/mine", "x"), 200)
	const mark = `{"lifecycle": {"status": "deprecated"}}`
	known := want(t, o.as(o.bob, "PUT", "/v1/topics/orders/mine", mark, "Accept", "application/json"), 403)
	if unknown := want(t, o.as(o.bob, "PUT", "/v1/topics/orders/none", mark, "Accept", "application/json"), 403); withoutID(known) != withoutID(unknown) {
		t.Errorf("a stranger sees a difference:\n%s\n%s", known, unknown)
	}
	want(t, o.as(o.alice, "PUT", "/v1/topics/orders/mine", mark), 200)
	want(t, o.as(o.root, "PUT", "/v1/topics/orders/mine", `{"lifecycle": {"status": "active"}}`), 200)
	want(t, o.as(o.alice, "PUT", "/v1/topics/orders/mine", `{"retention": {"max_age": "1h"}}`), 200)
	want(t, o.send("PUT", "/v1/topics/orders/mine", mark), 401)
}

// withoutID cuts the correlation ID off a problem.
func withoutID(body string) string {
	text, _, _ := strings.Cut(body, `,"correlation_id"`)
	return text
}
