package conformance_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"quorumhub/test/hubtest"
)

func TestRule59PublishersInformTheHub(t *testing.T) {
	n := shared(t)
	origin := hubtest.NewOrigin(t)
	for i, param := range []string{"hub.url", "hub.topic", "hub.url[]"} {
		path := fmt.Sprint("/feed", i)
		topic := origin.Put(path, hubtest.Page{ContentType: "text/plain; charset=utf-8", Body: []byte(param)})
		s, _ := subscribed(t, n, topic)
		r := n.PostForm(t, hubtest.Form("hub.mode", "publish", param, topic))
		wantStatus(t, "publish with "+param, r, 204)
		if len(r.Body) != 0 {
			t.Errorf("204 with body %q", r.Body)
		}
		if d := s.WaitBody(t, param); d.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Errorf("delivered as %q", d.Header.Get("Content-Type"))
		}
	}
}

func TestThinPingOfSeveralTopics(t *testing.T) {
	n := shared(t)
	origin := hubtest.NewOrigin(t)
	atom := origin.Put("/atom", hubtest.Page{ContentType: "application/atom+xml", Body: []byte("<feed/>")})
	rss := origin.Put("/rss", hubtest.Page{ContentType: "application/rss+xml", Body: []byte("<rss/>")})
	php := origin.Put("/php", hubtest.Page{ContentType: "text/x-php", Body: []byte("<?php")})
	s := hubtest.NewSubscriber(t)
	for _, topic := range []string{atom, rss, php} {
		n.Subscribe(t, topic, s.Callback("/cb"))
	}
	r := n.PostForm(t, hubtest.Form("hub.mode", "publish", "hub.url", atom, "hub.url[]", php, "hub.url", rss, "hub.url", atom))
	wantStatus(t, "publish of three topics", r, 204)
	for _, want := range []string{"<feed/>", "<rss/>", "<?php"} {
		s.WaitBody(t, want)
	}
	quietly(t, "deliveries for a topic named twice", s.CountDeliveries)
	if got := s.CountDeliveries(); got != 3 {
		t.Errorf("got %d deliveries for three topics", got)
	}
}

// Without subscribers the hub answers in the same way, but does not fetch the topic.
func TestThinPingWithoutSubscribersFetchesNothing(t *testing.T) {
	n := shared(t)
	origin := hubtest.NewOrigin(t)
	lonely := origin.Put("/lonely", hubtest.Page{Body: []byte("x")})
	known := origin.Put("/known", hubtest.Page{Body: []byte("y")})
	s, callback := subscribed(t, n, known)
	n.Ping(t, lonely)
	n.Unsubscribe(t, known, callback)
	n.Ping(t, known)
	watched := origin.Put("/watched", hubtest.Page{Body: []byte("z")})
	n.Subscribe(t, watched, callback)
	n.Ping(t, watched)
	s.WaitBody(t, "z")
	quietly(t, "fetches for nobody", func() int { return len(origin.Fetches("/lonely")) + len(origin.Fetches("/known")) })
	if got := len(origin.Fetches("/lonely")) + len(origin.Fetches("/known")); got != 0 {
		t.Errorf("%d fetches of topics without subscribers", got)
	}
}

func TestThinPingFetchesConditionallyAndSkipsUnchangedContent(t *testing.T) {
	n := shared(t)
	for name, page := range map[string]struct {
		first, second, third hubtest.Page
		condition            string
	}{
		"ETag": {
			hubtest.Page{Body: []byte("one"), ETag: `"1"`}, hubtest.Page{Body: []byte("two"), ETag: `"2"`},
			hubtest.Page{Body: []byte("three"), ETag: `"3"`}, "If-None-Match",
		},
		"weak ETag": {
			hubtest.Page{Body: []byte("one"), ETag: `W/"1"`}, hubtest.Page{Body: []byte("two"), ETag: `W/"2"`},
			hubtest.Page{Body: []byte("three"), ETag: `W/"3"`}, "If-None-Match",
		},
		"Last-Modified": {
			hubtest.Page{Body: []byte("one"), LastModified: "Mon, 02 Jan 2023 15:04:05 GMT"},
			hubtest.Page{Body: []byte("two"), LastModified: "Tue, 03 Jan 2023 15:04:05 GMT"},
			hubtest.Page{Body: []byte("three"), LastModified: "Wed, 04 Jan 2023 15:04:05 GMT"}, "If-Modified-Since",
		},
		"neither": {hubtest.Page{Body: []byte("one")}, hubtest.Page{Body: []byte("two")}, hubtest.Page{Body: []byte("three")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			origin := hubtest.NewOrigin(t)
			topic := origin.Put("/feed", page.first)
			s, _ := subscribed(t, n, topic)
			n.Ping(t, topic)
			s.WaitBody(t, "one")
			n.Ping(t, topic) // nothing new
			second := origin.WaitFetches(t, "/feed", 2)[1]
			if page.condition != "" {
				want := page.first.ETag + page.first.LastModified
				if got := second.Header.Get(page.condition); got != want {
					t.Errorf("second fetch: %s is %q, want %q", page.condition, got, want)
				}
			}
			origin.Put("/feed", page.second)
			n.Ping(t, topic)
			s.WaitBody(t, "two")
			origin.Put("/feed", page.third)
			n.Ping(t, topic)
			s.WaitBody(t, "three")
			var got []string
			for _, d := range s.Deliveries() {
				got = append(got, string(d.Body))
			}
			if fmt.Sprint(got) != "[one two three]" {
				t.Errorf("delivered %v, want each content once", got)
			}
			for _, f := range origin.Requests() {
				if f.Method != http.MethodGet {
					t.Errorf("the topic was fetched with %s", f.Method)
				}
			}
		})
	}
}

// The same bytes with a new content type are new content.
func TestThinPingDeliversAChangedContentType(t *testing.T) {
	n := shared(t)
	origin := hubtest.NewOrigin(t)
	topic := origin.Put("/feed", hubtest.Page{Body: []byte("same"), ContentType: "text/plain"})
	s, _ := subscribed(t, n, topic)
	n.Ping(t, topic)
	s.WaitDeliveries(t, 1)
	origin.Put("/feed", hubtest.Page{Body: []byte("same"), ContentType: "text/html"})
	n.Ping(t, topic)
	if d := s.WaitDeliveries(t, 2)[1]; d.Header.Get("Content-Type") != "text/html" {
		t.Errorf("delivered as %q", d.Header.Get("Content-Type"))
	}
}

// A ping during a fetch is not lost: it may announce content newer than the fetch.
func TestThinPingDuringAFetchLeadsToAnotherFetch(t *testing.T) {
	n := shared(t)
	origin := hubtest.NewOrigin(t)
	topic := origin.Put("/feed", hubtest.Page{Body: []byte("new")})
	gate := make(chan struct{})
	var once sync.Once
	origin.Script(func(hubtest.Request) (hubtest.Answer, bool) {
		first := false
		once.Do(func() { first = true })
		return hubtest.Answer{Gate: gate, Body: []byte("old")}, first
	})
	s, _ := subscribed(t, n, topic)
	n.Ping(t, topic)
	origin.WaitFetches(t, "/feed", 1)
	n.Ping(t, topic)
	close(gate)
	s.WaitBody(t, "new")
}

func TestThinPingTriesAFailedFetchAgain(t *testing.T) {
	n := shared(t)
	for name, failure := range map[string]hubtest.Answer{
		"500": {Status: 500}, "a closed connection": {Drop: true}, "half a body": {Body: []byte("half"), Cut: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			origin := hubtest.NewOrigin(t)
			topic := origin.Put("/feed", hubtest.Page{Body: []byte("whole")})
			var once sync.Once
			origin.Script(func(hubtest.Request) (hubtest.Answer, bool) {
				first := false
				once.Do(func() { first = true })
				return failure, first
			})
			s, _ := subscribed(t, n, topic)
			n.Ping(t, topic)
			s.WaitBody(t, "whole")
			if got := s.CountDeliveries(); got != 1 {
				t.Errorf("got %d deliveries, want the whole content only: %v", got, s.Deliveries())
			}
		})
	}
}

// A misbehaving origin harms neither the hub nor its subscribers.
func TestThinPingOfABadOrigin(t *testing.T) {
	n := shared(t)
	for name, answer := range map[string]hubtest.Answer{
		"404": {Status: 404, Body: []byte("not found")}, "an endless body": {Endless: true}, "no answer": {Hang: true},
		"a body over the limit": {Body: bytes.Repeat([]byte("x"), 1<<20+1)},
		"a redirect loop":       {Status: 302, Header: hubtest.Headers("Location", "/feed")},
		"a redirect to a file":  {Status: 302, Header: hubtest.Headers("Location", "file:///etc/passwd")},
		"a forbidden address":   {Status: 302, Header: hubtest.Headers("Location", "http://169.254.169.254/latest/")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			origin := hubtest.NewOrigin(t)
			bad := origin.URL + "/feed"
			origin.Script(func(r hubtest.Request) (hubtest.Answer, bool) { return answer, r.URI == "/feed" })
			good := origin.Put("/good", hubtest.Page{Body: []byte("good")})
			s := hubtest.NewSubscriber(t)
			n.Subscribe(t, bad, s.Callback("/cb"))
			n.Subscribe(t, good, s.Callback("/cb"))
			n.Ping(t, bad)
			origin.WaitFetches(t, "/feed", 1)
			n.Ping(t, good)
			s.WaitBody(t, "good")
			quietly(t, "deliveries of an error", s.CountDeliveries)
			if got := s.CountDeliveries(); got != 1 {
				t.Errorf("got %d deliveries: %v", got, s.Deliveries())
			}
		})
	}
}

func TestRule12TopicIsFetchedInOneWayForAll(t *testing.T) {
	n := shared(t)
	origin := hubtest.NewOrigin(t)
	topic := origin.Put("/feed", hubtest.Page{Body: []byte("1")})
	s := hubtest.NewSubscriber(t)
	form := hubtest.Form("hub.mode", "subscribe", "hub.topic", topic, "hub.callback", s.Callback("/cb"))
	r := n.Do(t, "POST", "/hub", hubtest.Headers("Content-Type", hubtest.FormType, "Accept", "text/turtle", "Accept-Language", "fr"), []byte(form))
	wantStatus(t, "subscribe", r, 202)
	n.WaitActive(t, topic, s.Callback("/cb"))
	n.Ping(t, topic)
	s.WaitBody(t, "1")
	second, _ := subscribed(t, n, topic)
	origin.Put("/feed", hubtest.Page{Body: []byte("2")})
	ping := hubtest.Form("hub.mode", "publish", "hub.url", topic)
	wantStatus(t, "ping", n.Do(t, "POST", "/hub", hubtest.Headers("Content-Type", hubtest.FormType, "Accept-Language", "de", "Cookie", "a=b"), []byte(ping)), 204)
	second.WaitBody(t, "2")
	fetches := origin.Fetches("/feed")
	for _, f := range fetches {
		if got := f.Header.Get("Accept"); got != fetches[0].Header.Get("Accept") || got != "" && !strings.Contains(got, "*/*") {
			t.Errorf("fetched with Accept %q, want the same neutral value each time", got)
		}
		for _, name := range []string{"Accept-Language", "Cookie", "Authorization"} {
			if got := f.Header.Get(name); got != "" {
				t.Errorf("fetched with %s %q", name, got)
			}
		}
	}
}

func TestFatPublishTakesAnyContentType(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	s, _ := subscribed(t, n, topic)
	for i, ct := range append(contentTypes, "application/json", "image/png", "text/xml; charset=\"utf-16\"") {
		body := fmt.Appendf(nil, "hub.mode=subscribe&hub.topic=%d", i)
		ack := n.Publish(t, topic, ct, body)
		if ack.Offset != uint64(i+1) {
			t.Errorf("message %d got offset %d", i+1, ack.Offset)
		}
		d := s.WaitBody(t, string(body))
		if got := d.Header.Get("Content-Type"); got != ct {
			t.Errorf("published as %q, delivered as %q", ct, got)
		}
		if d.MessageID() != ack.ID {
			t.Errorf("published as %s, delivered as %s", ack.ID, d.MessageID())
		}
	}
}

// With the parameters in the query, a form body is content, even if it looks like a request.
func TestFatPublishOfAFormIsContent(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	s, _ := subscribed(t, n, topic)
	victim := hubtest.NewSubscriber(t)
	body := hubtest.Form("hub.mode", "subscribe", "hub.topic", topic, "hub.callback", victim.Callback("/cb"))
	n.Publish(t, topic, hubtest.FormType, []byte(body))
	if d := s.WaitBody(t, body); d.Header.Get("Content-Type") != hubtest.FormType {
		t.Errorf("delivered as %q", d.Header.Get("Content-Type"))
	}
	quietly(t, "requests because of content", func() int { return len(victim.Requests()) })
	if got := victim.Requests(); len(got) != 0 {
		t.Errorf("content was taken for a request: %v", got)
	}
}

func TestFatPublishWithoutContentTypeOrContent(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	s, _ := subscribed(t, n, topic)
	n.Publish(t, topic, "", []byte("typeless"))
	d := s.WaitBody(t, "typeless")
	if got := d.Header.Get("Content-Type"); got != "application/octet-stream" {
		t.Errorf("content without a type was delivered as %q, want application/octet-stream", got)
	}
	// An empty publish either becomes an empty message or is clearly refused.
	r := n.Do(t, http.MethodPost, hubtest.PublishTarget(topic), hubtest.Headers("Content-Type", "text/plain"), nil)
	if r.Status != http.StatusOK {
		wantRefusal(t, r, "body", "content")
		return
	}
	if d := s.WaitDeliveries(t, 2)[1]; len(d.Body) != 0 || d.Header.Get("Content-Type") != "text/plain" {
		t.Errorf("an empty message was delivered as %v of type %q", d, d.Header.Get("Content-Type"))
	}
}

func TestFatPublishToTheTopicItself(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	s, _ := subscribed(t, n, topic)
	for i, ct := range []string{"application/json", hubtest.FormType} {
		body := fmt.Appendf(nil, "hub.mode=%d", i)
		r := n.Do(t, http.MethodPost, topic, hubtest.Headers("Content-Type", ct), body)
		ack, err := hubtest.AckOf(topic, ct, body, r)
		if err != nil {
			t.Fatal(err)
		}
		if ct := r.Header.Get("Content-Type"); !strings.HasPrefix(ct, hubtest.FormType) {
			t.Errorf("the response has type %q, want a form", ct)
		}
		d := s.WaitBody(t, string(body))
		if d.MessageID() != ack.ID || d.Header.Get("Content-Type") != ct {
			t.Errorf("published %s as %s, delivered %s as %s", ack.ID, ct, d.MessageID(), d.Header.Get("Content-Type"))
		}
	}
}

// A delivery carries none of the publisher's other headers.
func TestFatPublishPassesOnNoOtherHeaders(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	s, _ := subscribed(t, n, topic)
	n.Publish(t, topic, "text/plain", []byte("x"), "Authorization", "Bearer geheim", "Cookie", "a=b", "X-Hub-Signature", "sha1=00",
		"X-Hub-Message-Id", "9-9", "Link", "<http://evil.example/>; rel=self")
	d := s.WaitBody(t, "x")
	for _, name := range []string{"Authorization", "Cookie", "X-Hub-Signature"} {
		if got := d.Header.Get(name); got != "" {
			t.Errorf("delivered with %s %q", name, got)
		}
	}
	wantLinks(t, d.Header, n.HubURL(), topic)
	if d.MessageID() == "9-9" {
		t.Error("the publisher chose the message ID")
	}
}

func TestPublishOverTheLimitIs413(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	s, _ := subscribed(t, n, topic)
	tooLarge := bytes.Repeat([]byte("x"), 1<<20+1)
	for name, send := range map[string]func() (*hubtest.Reply, error){
		"to the hub": func() (*hubtest.Reply, error) {
			return n.Send("POST", hubtest.PublishTarget(topic), hubtest.Headers("Content-Type", "text/plain"), bytes.NewReader(tooLarge))
		},
		"to the topic": func() (*hubtest.Reply, error) {
			return n.Send("POST", topic, hubtest.Headers("Content-Type", "text/plain"), bytes.NewReader(tooLarge))
		},
		"in chunks, without a length": func() (*hubtest.Reply, error) {
			return n.Send("POST", hubtest.PublishTarget(topic), hubtest.Headers("Content-Type", "text/plain"), struct{ io.Reader }{bytes.NewReader(tooLarge)})
		},
		"as a form": func() (*hubtest.Reply, error) {
			return n.Send("POST", "/hub", hubtest.Headers("Content-Type", hubtest.FormType), strings.NewReader("hub.mode=publish&x="+string(tooLarge)))
		},
	} {
		r, err := send()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if r.Status != http.StatusRequestEntityTooLarge {
			t.Errorf("%s: got %v, want 413", name, r)
		}
		wantPlainLine(t, r)
	}
	n.Publish(t, topic, "text/plain", []byte("fits"))
	s.WaitBody(t, "fits")
	if got := s.CountDeliveries(); got != 1 {
		t.Errorf("got %d deliveries, want the one that fits", got)
	}
}
