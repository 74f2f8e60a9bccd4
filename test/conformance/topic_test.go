package conformance_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"quorumhub/test/hubtest"
)

func TestRegisterAndDeregister(t *testing.T) {
	n := strict(t) // does not create topics on its own
	for _, goodbye := range []string{"deregister", "unregister"} {
		name := topicName(t)
		topic := n.TopicURL(name)
		r := n.PostForm(t, hubtest.Form("hub.mode", "register", "hub.topic", topic))
		wantStatus(t, "register", r, 200)
		wantAccepted(t, r)
		if _, ok := n.TopicNamed(t, name); !ok {
			t.Errorf("%s is registered, but not listed", name)
		}
		n.Publish(t, topic, "text/plain", []byte("x"))
		r = n.PostForm(t, hubtest.Form("hub.mode", goodbye, "hub.topic", topic))
		wantStatus(t, goodbye, r, 200)
		wantAccepted(t, r)
		if _, ok := n.TopicNamed(t, name); ok {
			t.Errorf("%s is still listed after %s", name, goodbye)
		}
		wantStatus(t, "GET of a topic that is gone", n.Do(t, "GET", topic, nil, nil), 404, 410)
		r = n.Do(t, "POST", hubtest.PublishTarget(topic), hubtest.Headers("Content-Type", "text/plain"), []byte("x"))
		wantRefusal(t, r, "topic")
	}
}

// wantAccepted asserts the response to a publish or register request.
func wantAccepted(t *testing.T, r *hubtest.Reply) {
	t.Helper()
	if strings.TrimSpace(string(r.Body)) != "hub.mode=accepted" || !strings.HasPrefix(r.Header.Get("Content-Type"), hubtest.FormType) {
		t.Errorf("got %v, want the form hub.mode=accepted", r)
	}
}

func TestRegisterAgainKeepsTheTopic(t *testing.T) {
	n := strict(t)
	topic := newRegisteredTopic(t, n)
	s, callback := subscribed(t, n, topic)
	n.Publish(t, topic, "text/plain", []byte("1"))
	s.WaitBody(t, "1")
	if r := n.PostForm(t, hubtest.Form("hub.mode", "register", "hub.topic", topic)); r.Status >= 500 {
		t.Errorf("register again: got %v", r)
	}
	if item := activeItem(t, n, topic, callback); item.State != "active" {
		t.Errorf("registering again has changed the subscription: %+v", item)
	}
	if ack := n.Publish(t, topic, "text/plain", []byte("2")); ack.Offset != 2 {
		t.Errorf("after registering again the next offset is %d, want 2", ack.Offset)
	}
	s.WaitBody(t, "2")
}

func TestDeregisterOfAnUnknownTopicIsNoServerError(t *testing.T) {
	n := strict(t)
	if r := n.PostForm(t, hubtest.Form("hub.mode", "deregister", "hub.topic", newTopic(t, n))); r.Status >= 500 || r.Status < 200 {
		t.Errorf("got %v", r)
	}
}

// A topic registered again after deregistration is a new one: none of the old content, no reused message IDs.
func TestRegisterAfterDeregisterStartsAnew(t *testing.T) {
	n := strict(t)
	topic := newRegisteredTopic(t, n)
	old := n.Publish(t, topic, "text/plain", []byte("old"))
	wantStatus(t, "deregister", n.PostForm(t, hubtest.Form("hub.mode", "deregister", "hub.topic", topic)), 200)
	n.Register(t, topic)
	if r := n.Do(t, "GET", topic, nil, nil); strings.Contains(string(r.Body), "old") {
		t.Errorf("the new topic shows the old one's content: %v", r)
	}
	if again := n.Publish(t, topic, "text/plain", []byte("new")); again.ID == old.ID {
		t.Errorf("two messages have the id %s", again.ID)
	}
}

func TestUnknownTopicsWithoutAutoRegister(t *testing.T) {
	n := strict(t)
	name := topicName(t)
	topic := n.TopicURL(name)
	t.Run("fat publish", func(t *testing.T) {
		wantRefusal(t, n.Do(t, "POST", hubtest.PublishTarget(topic), hubtest.Headers("Content-Type", "text/plain"), []byte("x")), "topic")
	})
	t.Run("publish to the topic", func(t *testing.T) {
		wantRefusal(t, n.Do(t, "POST", topic, hubtest.Headers("Content-Type", "text/plain"), []byte("x")), name, "topic")
	})
	t.Run("thin ping", func(t *testing.T) {
		wantRefusal(t, n.PostForm(t, hubtest.Form("hub.mode", "publish", "hub.url", topic)), "topic")
	})
	t.Run("subscribe", func(t *testing.T) {
		s := hubtest.NewSubscriber(t)
		r := n.Request(t, "subscribe", topic, s.Callback("/cb"))
		if r.Status == http.StatusAccepted { // then a separate request delivers the denial (section 5.2)
			d := s.WaitFor(t, 1, "denial", hubtest.Request.IsDenial)[0]
			if d.Value("hub.topic") != topic {
				t.Errorf("denied: %s", d.URI)
			}
			if got := s.CountIntents(); got != 0 {
				t.Errorf("got %d verifications of a denied request", got)
			}
			return
		}
		wantRefusal(t, r, "topic")
	})
	if _, ok := n.TopicNamed(t, name); ok {
		t.Error("the topic was created anyway")
	}
}

func TestUnknownTopicsWithAutoRegister(t *testing.T) {
	n := shared(t)
	published, pinged, subscribedTo := topicName(t), topicName(t), topicName(t)
	n.Publish(t, n.TopicURL(published), "text/plain", []byte("x"))
	origin := hubtest.NewOrigin(t)
	n.Ping(t, origin.URL+"/"+pinged)
	subscribed(t, n, n.TopicURL(subscribedTo))
	for _, name := range []string{published, subscribedTo, origin.URL + "/" + pinged} {
		if _, ok := n.TopicNamed(t, name); !ok {
			t.Errorf("%s is not listed", name)
		}
	}
}

func TestHostedTopicRoundTrip(t *testing.T) {
	n := shared(t)
	for name, body := range contents() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			topic := newTopic(t, n)
			n.Publish(t, topic, "text/plain; charset=x", []byte("older"))
			ack := n.Publish(t, topic, "application/x-test; v=\"1\"", body)
			r := n.Do(t, "GET", topic, nil, nil)
			wantStatus(t, "GET", r, 200)
			wantBody(t, "GET", r.Body, body)
			if got := r.Header.Get("Content-Type"); got != ack.ContentType {
				t.Errorf("Content-Type %q, published as %q", got, ack.ContentType)
			}
			wantLinks(t, r.Header, n.HubURL(), topic)
			if r.Header.Get("ETag") == "" || r.Header.Get("Last-Modified") == "" {
				t.Errorf("ETag %q, Last-Modified %q: conditional requests need both", r.Header.Get("ETag"), r.Header.Get("Last-Modified"))
			}
			head := n.Do(t, "HEAD", topic, nil, nil)
			wantStatus(t, "HEAD", head, 200)
			for _, name := range []string{"Content-Type", "ETag", "Last-Modified", "Link", "Content-Length"} {
				if got, want := fmt.Sprint(head.Header.Values(name)), fmt.Sprint(r.Header.Values(name)); got != want {
					t.Errorf("HEAD: %s is %s, GET has %s", name, got, want)
				}
			}
			if len(head.Body) != 0 {
				t.Errorf("HEAD has a body of %d bytes", len(head.Body))
			}
		})
	}
}

func TestHostedTopicConditionalRequests(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	n.Publish(t, topic, "text/plain", []byte("1"))
	r := n.Do(t, "GET", topic, nil, nil)
	etag, modified := r.Header.Get("ETag"), r.Header.Get("Last-Modified")
	if !strings.HasSuffix(etag, `"`) || !strings.HasPrefix(strings.TrimPrefix(etag, "W/"), `"`) {
		t.Errorf("ETag %s is not quoted", etag)
	}
	if _, err := http.ParseTime(modified); err != nil {
		t.Errorf("Last-Modified: %v", err)
	}
	for name, tt := range map[string]struct {
		header http.Header
		want   int
	}{
		"same ETag":              {hubtest.Headers("If-None-Match", etag), 304},
		"one of several":         {hubtest.Headers("If-None-Match", `"x", `+etag), 304},
		"star":                   {hubtest.Headers("If-None-Match", "*"), 304},
		"weak comparison":        {hubtest.Headers("If-None-Match", "W/"+strings.TrimPrefix(etag, "W/")), 304},
		"another ETag":           {hubtest.Headers("If-None-Match", `"x"`), 200},
		"since then":             {hubtest.Headers("If-Modified-Since", modified), 304},
		"since before":           {hubtest.Headers("If-Modified-Since", "Mon, 02 Jan 2006 15:04:05 GMT"), 200},
		"no date":                {hubtest.Headers("If-Modified-Since", "yesterday"), 200},
		"another ETag, the date": {hubtest.Headers("If-None-Match", `"x"`, "If-Modified-Since", modified), 200},
	} {
		t.Run(name, func(t *testing.T) {
			for _, method := range []string{"GET", "HEAD"} {
				got := n.Do(t, method, topic, tt.header, nil)
				if got.Status != tt.want {
					t.Errorf("%s: got %v, want %d", method, got, tt.want)
				}
				if got.Status == 304 {
					if len(got.Body) != 0 || got.Header.Get("ETag") != etag {
						t.Errorf("%s: 304 with ETag %q and %d bytes", method, got.Header.Get("ETag"), len(got.Body))
					}
					wantLinks(t, got.Header, n.HubURL(), topic)
				}
			}
		})
	}
	n.Publish(t, topic, "text/plain", []byte("2"))
	after := n.Do(t, "GET", topic, hubtest.Headers("If-None-Match", etag), nil)
	if after.Status != 200 || string(after.Body) != "2" || after.Header.Get("ETag") == etag {
		t.Errorf("after new content: got %v with ETag %s", after, after.Header.Get("ETag"))
	}
}

func TestRule11HostedTopicIsDiscoverable(t *testing.T) {
	n := strict(t)
	topic := newRegisteredTopic(t, n)
	r := n.Do(t, "GET", topic, nil, nil) // without content yet
	if r.Status >= 300 {
		t.Errorf("a registered topic without content: got %v, want a success with Link headers", r)
	}
	wantLinks(t, r.Header, n.HubURL(), topic)
	links := parseLinks(r.Header.Get("Link"))
	if len(links["hub"]) == 0 || len(links["self"]) == 0 {
		t.Fatal("the topic cannot be discovered")
	}
	// Subscribing with the discovered URLs works.
	s := hubtest.NewSubscriber(t)
	form := hubtest.Form("hub.mode", "subscribe", "hub.topic", links["self"][0], "hub.callback", s.Callback("/cb"))
	wantStatus(t, "subscribe as discovered", n.Do(t, "POST", links["hub"][0], hubtest.Headers("Content-Type", hubtest.FormType), []byte(form)), 202)
	n.WaitActive(t, topic, s.Callback("/cb"))
	if got := n.Do(t, "GET", topic, hubtest.Headers("Host", "192.0.2.66", "X-Forwarded-Host", "evil.example"), nil); strings.Contains(got.Header.Get("Link"), "evil") {
		t.Errorf("Link %q follows the Host header", got.Header.Get("Link"))
	}
}

func TestHostedTopicThatNobodyKnowsIs404(t *testing.T) {
	n := strict(t)
	for _, path := range []string{"/topics/" + topicName(t), "/topics/", "/topics/../hub", "/topics/a/b", "/topics/%00", "/topics/%2e%2e%2fhub"} {
		for _, method := range []string{"GET", "HEAD"} {
			if r := n.Do(t, method, path, nil, nil); r.Status < 400 || r.Status > 499 {
				t.Errorf("%s %s: got %v, want 4xx", method, path, r)
			}
		}
	}
}

// A topic has one name, however its URL is spelled, in the API too.
func TestHostedTopicNames(t *testing.T) {
	n := shared(t)
	base := topicName(t)
	for written, name := range map[string]string{
		base + "-a%20b":          base + "-a b",
		base + "-%C3%A9":         base + "-é",
		base + "-a.b~c_d":        base + "-a.b~c_d",
		base + "-100%25":         base + "-100%",
		base + "-x%3Fy%23z":      base + "-x?y#z",
		base + "-%E8%AA%9E+1%2B": base + "-語+1+",
	} {
		t.Run(written, func(t *testing.T) {
			t.Parallel()
			topic := n.URL + "/topics/" + written
			s, callback := subscribed(t, n, topic)
			n.Publish(t, topic, "text/plain", []byte("one"))
			s.WaitBody(t, "one")
			if r := n.Do(t, "GET", topic, nil, nil); string(r.Body) != "one" {
				t.Errorf("GET %s: got %v", topic, r)
			}
			if _, ok := n.TopicNamed(t, name); !ok {
				t.Errorf("%q is not listed under its name", name)
			}
			for _, filter := range []string{name, topic} {
				if got := n.Subscriptions(t, filter, callback); len(got) != 1 {
					t.Errorf("?topic=%s: got %+v, want one subscription", filter, got)
				}
			}
		})
	}
}

func TestRule13DiscoveryInHTMLStaysInTheHead(t *testing.T) {
	n := shared(t)
	origin := hubtest.NewOrigin(t)
	topic := origin.Put("/page", hubtest.Page{ContentType: "text/html", Body: []byte(`<!doctype html><html><head><title>t</title></head>` +
		`<body><p>a comment: <link rel="self" href="http://evil.example/"><link rel="hub" href="http://evil.example/hub"></p></body></html>`)})
	s, _ := subscribed(t, n, topic)
	n.Ping(t, topic)
	wantLinks(t, s.WaitDeliveries(t, 1)[0].Header, n.HubURL(), topic)
}

// The hub's port on this machine is the hub, by whatever name; what is none of its topics there is refused with the right URL.
func TestLoopbackNamesOfTheHub(t *testing.T) {
	n := hubtest.Start(t, hubtest.Options{Host: "127.0.0.1"}) // which is localhost
	port := n.URL[strings.LastIndexByte(n.URL, ':'):]
	topic := newTopic(t, n)
	s, _ := subscribed(t, n, topic)
	local := strings.Replace(topic, n.URL, "http://localhost"+port, 1)
	n.Publish(t, local, "text/plain", []byte("by another name"))
	if got := s.WaitDeliveries(t, 1)[0]; string(got.Body) != "by another name" || !strings.Contains(got.Header.Get("Link"), "<"+topic+`>; rel="self"`) {
		t.Errorf("got %s with the link %s", got.Body, got.Header.Get("Link"))
	}
	other, _ := subscribed(t, n, local)
	n.Publish(t, topic, "text/plain", []byte("and back"))
	other.WaitDeliveries(t, 1)
	for _, wrong := range []string{"http://127.0.0.1" + port + "/feed", "http://localhost" + port, "https://localhost" + port + "/topics/x"} {
		reply := n.Request(t, "subscribe", wrong, s.Callback("/other"))
		wantRefusal(t, reply, "hub.topic")
		if !strings.Contains(string(reply.Body), n.URL+"/topics/") {
			t.Errorf("%s: %s", wrong, reply)
		}
	}
}
