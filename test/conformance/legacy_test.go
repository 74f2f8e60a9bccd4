package conformance_test

import (
	"net/http"
	"strings"
	"testing"

	"quorumhub/test/hubtest"
)

func TestLegacyVerifyIsIgnored(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	for _, verify := range [][]string{
		{"hub.verify", "sync"}, {"hub.verify", "async"}, {"hub.verify", "sync", "hub.verify", "async"}, {"hub.verify", "nonsense"}, {"hub.verify", ""},
	} {
		s := hubtest.NewSubscriber(t)
		wantStatus(t, strings.Join(verify, "="), n.Request(t, "subscribe", topic, s.Callback("/cb"), verify...), 202)
		n.WaitActive(t, topic, s.Callback("/cb"))
	}
	// Even with sync, the answer does not wait for a callback that refuses.
	s := hubtest.NewSubscriber(t).OnIntent(func(hubtest.Request) hubtest.Answer { return hubtest.Status(404) })
	wantStatus(t, "sync", n.Request(t, "subscribe", topic, s.Callback("/cb"), "hub.verify", "sync"), 202)
}

func TestLegacyVerifyTokenIsEchoedLast(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	s := hubtest.NewSubscriber(t)
	const token = "tok/en +&=é%41"
	n.Subscribe(t, topic, s.Callback("/cb?a=1"), "hub.verify_token", token)
	wantStatus(t, "unsubscribe", n.Request(t, "unsubscribe", topic, s.Callback("/cb?a=1"), "hub.verify_token", token), 202)
	for _, mode := range []string{"subscribe", "unsubscribe"} {
		params := s.WaitIntent(t, mode, 1).Params()
		if last := params[len(params)-1]; last.Name != "hub.verify_token" || last.Value != token {
			t.Errorf("%s: the last parameter is %v, want hub.verify_token=%s; all: %v", mode, last, token, params)
		}
	}
	without := hubtest.NewSubscriber(t)
	n.Subscribe(t, topic, without.Callback("/cb"))
	if r := without.WaitIntent(t, "subscribe", 1); len(r.Values("hub.verify_token")) != 0 {
		t.Errorf("got a hub.verify_token although none was given: %s", r.URI)
	}
}

func TestLegacyPublishRepeatsHubURL(t *testing.T) {
	n := shared(t)
	origin := hubtest.NewOrigin(t)
	atom := origin.Put("/atom", hubtest.Page{ContentType: "application/atom+xml", Body: []byte("<feed/>")})
	rss := origin.Put("/rss", hubtest.Page{ContentType: "application/rss+xml", Body: []byte("<rss/>")})
	for name, form := range map[string]string{
		"hub.url twice":         hubtest.Form("hub.mode", "publish", "hub.url", atom, "hub.url", rss),
		"hub.url[]":             hubtest.Form("hub.mode", "publish", "hub.url[]", atom, "hub.url[]", rss),
		"hub.url[] not escaped": "hub.mode=publish&hub.url[]=" + atom + "&hub.url[]=" + rss,
		"hub.topic":             hubtest.Form("hub.mode", "publish", "hub.topic", atom, "hub.topic", rss),
		"hub.topic and hub.url": hubtest.Form("hub.mode", "publish", "hub.topic", atom, "hub.url", rss),
		"mode after the URLs":   hubtest.Form("hub.url", atom, "hub.url", rss, "hub.mode", "publish"),
	} {
		origin.Put("/atom", hubtest.Page{ContentType: "application/atom+xml", Body: []byte("<feed>" + name + "</feed>")})
		origin.Put("/rss", hubtest.Page{ContentType: "application/rss+xml", Body: []byte("<rss>" + name + "</rss>")})
		s := hubtest.NewSubscriber(t)
		n.Subscribe(t, atom, s.Callback("/cb"))
		n.Subscribe(t, rss, s.Callback("/cb"))
		r := n.PostForm(t, form)
		wantStatus(t, name, r, 204)
		s.WaitBody(t, "<feed>"+name+"</feed>")
		s.WaitBody(t, "<rss>"+name+"</rss>")
		n.Unsubscribe(t, atom, s.Callback("/cb"))
		n.Unsubscribe(t, rss, s.Callback("/cb"))
	}
}

func TestLegacyTrailingSlashIsNeverRedirected(t *testing.T) {
	n := shared(t)
	origin := hubtest.NewOrigin(t)
	topic := origin.Put("/feed", hubtest.Page{Body: []byte("x")})
	s := hubtest.NewSubscriber(t)
	form := hubtest.Headers("Content-Type", hubtest.FormType)
	for _, target := range []string{"/hub", "/hub/"} {
		subscribe := hubtest.Form("hub.mode", "subscribe", "hub.topic", topic, "hub.callback", s.Callback("/cb"))
		wantStatus(t, "subscribe at "+target, n.Do(t, http.MethodPost, target, form, []byte(subscribe)), 202)
		n.WaitActive(t, topic, s.Callback("/cb"))
		ping := hubtest.Form("hub.mode", "publish", "hub.url", topic)
		wantStatus(t, "ping at "+target, n.Do(t, http.MethodPost, target, form, []byte(ping)), 204)
		fat := target + "?" + hubtest.Form("hub.mode", "publish", "hub.topic", topic)
		wantStatus(t, "publish at "+target, n.Do(t, http.MethodPost, fat, hubtest.Headers("Content-Type", "text/plain"), []byte("at "+target)), 200)
		s.WaitBody(t, "at "+target)
		if r := n.Do(t, http.MethodGet, target, nil, nil); r.Status >= 300 && r.Status < 400 {
			t.Errorf("GET %s is redirected: %v", target, r)
		}
	}
}

// Google's hub and PubSubHubbub 0.3 answer a ping in the same way with and without subscribers.
func TestLegacyPingAnswerIsTheSameForUnknownTopics(t *testing.T) {
	n := shared(t)
	r := n.PostForm(t, hubtest.Form("hub.mode", "publish", "hub.url", "http://127.0.0.1:1025/never-heard-of/"+topicName(t)))
	wantStatus(t, "ping", r, 204)
}
