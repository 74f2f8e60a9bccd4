package compat_test

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"quorumhub/test/hubtest"
)

// ballerinaRules map the four scopes, including the alternative names in the documentation.
const ballerinaRules = `
rules:
  - {name: register, may: [topic.register], topics: ["**"], who: [{scope: register_topic}]}
  - {name: deregister, may: [topic.deregister], topics: ["**"], who: [{scope: deregister_topic}]}
  - {name: publish, may: [publish], topics: ["**"], who: [{scope: update_content}, {scope: content_update}]}
  - {name: subscribe, may: [subscribe, unsubscribe], topics: ["**"], who: [{scope: subscribe}]}
  - {name: unsubscribe, may: [unsubscribe], topics: ["**"], who: [{scope: unsubscribe}]}
  - {name: operator, may: [admin.*], who: [{role: OPERATOR}]}
`

func newBallerina(t *testing.T, more hubtest.Settings) *compatHub {
	t.Helper()
	return &compatHub{t: t, Node: hubtest.Start(t, hubtest.Options{Settings: hubtest.Settings{
		"hub.profile": "ballerina", "topics.auto_register": nil, "hub.lease.default": "24h"}.With(more)})}
}

// The product's quick start and the answers of its library, word for word.
func TestBallerinaWire(t *testing.T) {
	h := newBallerina(t, nil)
	const unsupported = "Endpoint only supports content type of application/x-www-form-urlencoded, application/json, application/xml, application/octet-stream and text/plain"
	for _, c := range []struct {
		target, contentType, body string
		status                    int
		want                      string
	}{
		{"/hub", formType, "hub.mode=register&hub.topic=T", 200, accepted},
		{"/hub", formType, "hub.mode=register&hub.topic=T", 409, denied("Topic has already registered with the Hub")},
		{"/hub", formType, "hub.mode=deregister&hub.topic=none", 404, denied("Topic has not been registered in the Hub")},
		{"/hub?hub.mode=publish&hub.topic=T", "application/json", `{"event":"event"}`, 200, accepted},
		{"/hub/?hub.mode=publish&hub.topic=T", "text/plain", "x", 200, accepted},
		{"/hub?hub.mode=publish&hub.topic=none", "application/json", `{}`, 404, denied("Topic [none] is not registered with the Hub")},
		{"/hub?hub.mode=publish&hub.topic=T", "application/vnd.ford.car+json", `{}`, 400, unsupported},
		{"/hub?hub.mode=publish&hub.topic=T", "application/atom+xml", `<x/>`, 400, unsupported},
		{"/hub?hub.mode=publish", "application/json", `{}`, 400, "Empty value found for parameter 'hub.topic'"},
		{"/hub?hub.topic=T", "application/json", `{}`, 400, "The request does not include valid `hub.mode` form param."},
		{"/hub", formType, "hub.mode=unregister&hub.topic=T", 400, "The request does not include valid `hub.mode` form param."},
		{"/hub", formType, "hub.mode=subscribe&hub.topic=T", 400, "Empty value found for parameter 'hub.callback'"},
		{"/hub", formType, "hub.mode=register&hub.topic=", 400, "Empty value found for parameter 'hub.topic'"},
		{"/hub", formType, "hub.mode=deregister&hub.topic=T", 200, accepted},
	} {
		h.exchange("", "POST", c.target, c.contentType, c.body, c.status, c.want)
	}
	for _, c := range []struct {
		publisher, target, body string
		status                  int
		want                    string
	}{
		{"publish", "/hub?hub.mode=publish", "a=1&b=2", 400, "Empty value found for parameter 'hub.topic'"},
		{"publish", "/hub?hub.mode=register&hub.topic=F", "", 200, accepted},
		{"publish", "/hub?hub.mode=publish&hub.topic=F", "a=1&b=2", 200, accepted},
		{"event", "/hub", "hub.mode=publish&hub.topic=F", 200, accepted},
		{"", "/hub", "hub.mode=publish&hub.topic=F", 200, accepted},
		{"other", "/hub", "hub.mode=publish&hub.topic=F", 400, "Invalid value for header x-ballerina-publisher"},
	} {
		header := hubtest.Headers("Content-Type", formType)
		if c.publisher != "" {
			header.Set("x-ballerina-publisher", c.publisher)
		}
		reply := h.Do(t, "POST", c.target, header, []byte(c.body))
		if reply.Status != c.status || string(reply.Body) != c.want {
			t.Errorf("%s %s (%s): %s, want %d %q", c.target, c.body, c.publisher, reply, c.status, c.want)
		}
	}
	if reply := h.Do(t, "GET", "/health", nil, nil); strings.TrimSpace(string(reply.Body)) != `{"status":"active"}` {
		t.Errorf("health: %s", reply)
	}
}

// No wish for a lease, however it is said, gets the default in every dialect.
func TestNoWishForALease(t *testing.T) {
	for _, profile := range []string{"ballerina", "mosip"} {
		t.Run(profile, func(t *testing.T) {
			t.Parallel()
			h := newBallerina(t, hubtest.Settings{"hub.profile": profile, "hub.compact_json": false})
			h.exchange("", "POST", "/hub", formType, "hub.mode=register&hub.topic=orgA-test", 200, accepted)
			sub := hubtest.NewSubscriber(t)
			for i, wish := range []string{"", "&hub.lease_seconds=", "&hub.lease_seconds=0"} {
				h.exchange("", "POST", "/hub", formType, "hub.mode=subscribe&hub.topic=orgA-test&hub.callback="+url.QueryEscape(sub.Callback("/cb"))+wish, 202, accepted)
				if got := sub.WaitIntent(t, "subscribe", i+1).Value("hub.lease_seconds"); got != "86400" {
					t.Errorf("with %q the lease is %q seconds, want 86400", wish, got)
				}
			}
		})
	}
}

func TestBallerinaSubscription(t *testing.T) {
	h := newBallerina(t, nil)
	h.exchange("", "POST", "/hub", formType, "hub.mode=register&hub.topic=orgA-test", 200, accepted)
	sub := hubtest.NewSubscriber(t)
	callback := sub.Callback("/cb?a=1&b=2")
	h.exchange("", "POST", "/hub", formType, "hub.mode=subscribe&hub.topic=orgA-test&hub.callback="+url.QueryEscape(callback)+
		"&hub.secret=OIUAShdasoi&hub.lease_seconds=50000000&consumerGroup=g1&topicPartitions=0,1", 202, accepted)
	h.waitStatus("", "orgA-test", callback, `{"status":"active"}`)
	h.exchange("", "POST", "/hub?hub.mode=publish&hub.topic=orgA-test", "application/json", `{"event":"event"}`, 200, accepted)
	got := sub.WaitDeliveries(t, 1)[0]
	if s := got.Header.Get("X-Hub-Signature"); s != "sha256=54b5cf4e9cd413be2d9f9147957dbd744de8a0fefe6f5fa2dbdcfe95013ef3e5" {
		t.Errorf("X-Hub-Signature %s", s)
	}
	if got.Value("a") != "1" || got.Value("b") != "2" {
		t.Errorf("the callback's own parameters arrived as %s", got.URI)
	}

	var snapshot struct {
		Topics        []map[string]string
		Subscriptions []map[string]any
	}
	reply := h.Do(t, "GET", "/consolidator/state-snapshot", nil, nil)
	if err := json.Unmarshal(reply.Body, &snapshot); err != nil {
		t.Fatalf("%v in %s", err, reply)
	}
	if len(snapshot.Topics) != 1 || snapshot.Topics[0]["topic"] != "orgA-test" || snapshot.Topics[0]["hubMode"] != "register" {
		t.Errorf("topics: %v", snapshot.Topics)
	}
	if len(snapshot.Subscriptions) != 1 {
		t.Fatalf("subscriptions: %v", snapshot.Subscriptions)
	}
	for name, want := range map[string]any{"verificationSuccess": true, "hubMode": "subscribe", "hubCallback": callback, "hubTopic": "orgA-test",
		"hubLeaseSeconds": "2592000", "hubSecret": nil, "consumerGroup": "g1", "topicPartitions": "0,1", "status": "active"} {
		if got := snapshot.Subscriptions[0][name]; got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if strings.Contains(string(reply.Body), "OIUAShdasoi") {
		t.Error("the snapshot shows the secret")
	}

	// A request for an unknown topic is accepted, then denied at the callback with a reason.
	h.exchange("", "POST", "/hub", formType, "hub.mode=subscribe&hub.topic=none&hub.callback="+url.QueryEscape(sub.Callback("/other")), 202, accepted)
	told := sub.WaitFor(t, 1, "a denial", func(r hubtest.Request) bool { return r.Value("hub.mode") == "denied" })[0]
	if told.Value("hub.topic") != "none" || told.Value("hub.reason") != "Topic [none] is not registered with the Hub" {
		t.Errorf("unexpected denial %s", told.URI)
	}
	if reply := h.Do(t, "GET", "/consolidator/subscriptions/status?topic=none&callback=http://x/", nil, nil); reply.Status != 404 || !strings.Contains(string(reply.Body), "message") {
		t.Errorf("status of an unknown subscription: %s", reply)
	}
}

func TestBallerinaScopes(t *testing.T) {
	is := newIssuer(t)
	h := newBallerina(t, hubtest.Settings{"auth.mode": "required", "auth.file": settingsFile(t, is, "", ballerinaRules), "auth.egress.mode": "dev-loopback"})
	post := func(token, target, contentType, body string, status int, want string) {
		t.Helper()
		header := hubtest.Headers("Content-Type", contentType)
		if token != "" {
			header.Set("Authorization", "Bearer "+token)
		}
		reply := h.Do(t, "POST", target, header, []byte(body))
		if reply.Status != status || string(reply.Body) != want || reply.Header.Get("WWW-Authenticate") != "" {
			t.Errorf("%s %s: %s, want %d %q", target, body, reply, status, want)
		}
	}
	register := "hub.mode=register&hub.topic=T"
	subscribe := "hub.mode=subscribe&hub.topic=T&hub.callback=" + url.QueryEscape(hubtest.NewSubscriber(t).Callback("/cb"))
	publish := "/hub?hub.mode=publish&hub.topic=T"
	no := denied("Not authorized")
	post("", "/hub", formType, register, 200, no)
	post(is.expired("u"), "/hub", formType, register, 200, no)
	post("garbage", "/hub", formType, register, 200, no)
	post("garbage", "/hub", formType, subscribe, 500, no)
	post(is.token("u", "subscribe"), "/hub", formType, register, 200, no)
	post(is.token("u", "register_topic"), "/hub", formType, register, 200, accepted)
	post(is.token("u", "register_topic"), "/hub", formType, subscribe, 500, no)
	post(is.token("u", "subscribe"), "/hub", formType, subscribe, 202, accepted)
	post(is.token("u", "unsubscribe"), "/hub", formType, strings.Replace(subscribe, "subscribe", "unsubscribe", 1), 202, accepted)
	post(is.token("u", "subscribe"), publish, "application/json", "{}", 200, no)
	post(is.token("u", "update_content"), publish, "application/json", "{}", 200, accepted)
	post(is.token("u", "x content_update"), publish, "application/json", "{}", 200, accepted)
}
