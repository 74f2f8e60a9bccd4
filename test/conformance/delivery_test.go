package conformance_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"quorumhub/test/hubtest"
)

// contents returns bodies that must arrive unchanged.
func contents() map[string][]byte {
	random := make([]byte, 100_000)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range random {
		random[i] = byte(r.Uint32())
	}
	return map[string][]byte{
		"text":            []byte("hello, world\n"),
		"binary":          random,
		"CRLF":            []byte("a\r\nb\nc\rd\r\n\r\n"),
		"invalid UTF-8":   {0xff, 0xfe, 'x', 0xc3, 0x28, 0x00, 0x80},
		"NUL":             {0},
		"BOM":             []byte("\ufeff<feed/>"),
		"form":            []byte("hub.mode=subscribe&hub.topic=x&a=%zz&b=+"),
		"chunk-like":      []byte("5\r\nhello\r\n0\r\n\r\n"),
		"a newline only":  []byte("\n"),
		"gzip-like":       {0x1f, 0x8b, 0x08, 0, 0, 0, 0, 0, 0, 3},
		"one byte short":  bytes.Repeat([]byte("x"), 1<<20-1),
		"the largest one": bytes.Repeat([]byte("y"), 1<<20),
	}
}

var contentTypes = []string{
	"application/atom+xml; charset=ISO-8859-1",
	"text/html;charset=\"utf-8\"; profile=\"http://x/?a=1;b=2\"",
	"multipart/mixed; boundary=\"=_x y\"",
	"application/ld+json;profile=\"https://www.w3.org/ns/activitystreams\"",
	"TEXT/Plain",
	"application/x-www-form-urlencoded",
	"application/octet-stream",
}

func TestRule06ContentTypeIsThatOfTheTopic(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	s, _ := subscribed(t, n, topic)
	for i, ct := range contentTypes {
		body := fmt.Sprintf("content %d", i)
		n.Publish(t, topic, ct, []byte(body))
		d := s.WaitBody(t, body)
		if got := d.Header.Values("Content-Type"); len(got) != 1 || got[0] != ct {
			t.Errorf("published as %q, delivered as %q", ct, got)
		}
	}
}

func TestRule09WholeContentsEachTime(t *testing.T) {
	n := shared(t)
	origin := hubtest.NewOrigin(t)
	feed := func(entries int) []byte {
		var b strings.Builder
		b.WriteString(`<?xml version="1.0"?><feed xmlns="http://www.w3.org/2005/Atom"><title>t</title>`)
		for i := range entries {
			fmt.Fprintf(&b, "<entry><id>urn:%d</id><title>%d</title></entry>", i, i)
		}
		return []byte(b.String() + "</feed>")
	}
	topic := origin.Put("/feed", hubtest.Page{ContentType: "application/atom+xml", Body: feed(1)})
	s, _ := subscribed(t, n, topic)
	for entries := 1; entries <= 3; entries++ {
		origin.Put("/feed", hubtest.Page{ContentType: "application/atom+xml", Body: feed(entries)})
		n.Ping(t, topic)
		s.WaitBody(t, string(feed(entries)))
	}
}

func TestRule47ContentArrivesByteForByte(t *testing.T) {
	n := shared(t)
	for name, body := range contents() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			topic := newTopic(t, n)
			s, _ := subscribed(t, n, topic)
			ack := n.Publish(t, topic, "application/octet-stream", body)
			d := s.WaitDeliveries(t, 1)[0]
			wantBody(t, "delivery", d.Body, body)
			if d.Method != http.MethodPost {
				t.Errorf("delivered with %s", d.Method)
			}
			if d.MessageID() != ack.ID {
				t.Errorf("X-Hub-Message-Id: got %q, the publisher was told %q", d.MessageID(), ack.ID)
			}
			if enc := d.Header.Get("Content-Encoding"); enc != "" {
				t.Errorf("Content-Encoding %q", enc)
			}
			if d.Header.Get("User-Agent") == "" || strings.HasPrefix(d.Header.Get("User-Agent"), "Go-http-client") {
				t.Errorf("User-Agent %q does not identify the hub", d.Header.Get("User-Agent"))
			}
		})
	}
}

func TestRule49LinksNameHubAndTopic(t *testing.T) {
	n := shared(t)
	for _, topic := range []string{newTopic(t, n), "https://publisher.example/" + topicName(t) + "?a=1&b=2"} {
		s := hubtest.NewSubscriber(t)
		// A client's Host header must not become the hub's name.
		form := hubtest.Form("hub.mode", "subscribe", "hub.topic", topic, "hub.callback", s.Callback("/cb"))
		r := n.Do(t, "POST", "/hub", hubtest.Headers("Content-Type", hubtest.FormType, "Host", "192.0.2.66", "X-Forwarded-Host", "evil.example"), []byte(form))
		wantStatus(t, "subscribe", r, 202)
		n.WaitActive(t, topic, s.Callback("/cb"))
		publish := n.Do(t, "POST", hubtest.PublishTarget(topic), hubtest.Headers("Content-Type", "text/plain", "Host", "192.0.2.66", "X-Forwarded-Host", "evil.example"), []byte("x"))
		wantStatus(t, "publish", publish, 200)
		d := s.WaitBody(t, "x")
		wantLinks(t, d.Header, n.HubURL(), topic)
	}
}

// wantLinks asserts one Link header with these targets as rel=hub and rel=self.
func wantLinks(t *testing.T, h http.Header, hub, self string) {
	t.Helper()
	values := h.Values("Link")
	if len(values) != 1 {
		t.Errorf("got %d Link headers, want one: %q", len(values), values)
	}
	links := parseLinks(strings.Join(values, ", "))
	if got := links["hub"]; len(got) < 1 || got[0] != hub {
		t.Errorf("rel=hub: got %q, want %q", got, hub)
	}
	if got := links["self"]; len(got) != 1 || got[0] != self {
		t.Errorf("rel=self: got %q, want %q", got, self)
	}
}

// parseLinks parses a Link header (RFC 8288) into the targets of each relation.
func parseLinks(header string) map[string][]string {
	out := map[string][]string{}
	for header != "" {
		start := strings.IndexByte(header, '<')
		end := strings.IndexByte(header, '>')
		if start < 0 || end < start {
			return out
		}
		target := header[start+1 : end]
		rest := header[end+1:]
		next := strings.Index(rest, "<")
		if next < 0 {
			next = len(rest)
		}
		for param := range strings.SplitSeq(rest[:next], ";") {
			name, value, _ := strings.Cut(strings.TrimSpace(strings.TrimRight(param, ", ")), "=")
			if strings.EqualFold(name, "rel") {
				for rel := range strings.FieldsSeq(strings.Trim(value, `"`)) {
					out[rel] = append(out[rel], target)
				}
			}
		}
		header = rest[next:]
	}
	return out
}

func TestRule50AnyTwoHundredIsSuccess(t *testing.T) {
	n := shared(t)
	for _, code := range []int{200, 201, 202, 203, 204, 205, 206, 299} {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			t.Parallel()
			topic := newTopic(t, n)
			s := hubtest.NewSubscriber(t).OnDelivery(func(hubtest.Request) hubtest.Answer { return hubtest.Status(code) })
			n.Subscribe(t, topic, s.Callback("/cb"))
			n.Publish(t, topic, "text/plain", []byte("1"))
			n.Publish(t, topic, "text/plain", []byte("2"))
			s.WaitBody(t, "2")
			n.WaitCursor(t, topic, s.Callback("/cb"), 2)
			if got := s.CountDeliveries(); got != 2 {
				t.Errorf("got %d deliveries of 2 messages", got)
			}
		})
	}
}

func TestRule50EverythingElseIsFailure(t *testing.T) {
	n := shared(t)
	answers := map[string]hubtest.Answer{"drop": {Drop: true}, "hang": {Hang: true}}
	for _, code := range []int{300, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 409, 413, 429, 500, 501, 502, 503, 504} {
		answers[strconv.Itoa(code)] = hubtest.Status(code)
	}
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			topic := newTopic(t, n)
			target := hubtest.NewSubscriber(t)
			if answer.Status != 0 {
				answer.Header = hubtest.Headers("Location", target.URL+"/elsewhere")
			}
			s := hubtest.NewSubscriber(t).OnDelivery(hubtest.Answers(answer, answer, hubtest.Answer{}))
			n.Subscribe(t, topic, s.Callback("/cb"))
			ack := n.Publish(t, topic, "text/plain", []byte("again"))
			for i, d := range s.WaitDeliveries(t, 3) {
				if d.MessageID() != ack.ID || string(d.Body) != "again" || d.Header.Get("Content-Type") != "text/plain" || d.URI != "/cb" || d.Method != "POST" {
					t.Errorf("attempt %d differs: %v, published as %s", i+1, d, ack.ID)
				}
			}
			n.WaitCursor(t, topic, s.Callback("/cb"), ack.Offset)
			if got := s.CountDeliveries(); got != 3 {
				t.Errorf("got %d attempts, want 3", got)
			}
			if got := target.Requests(); len(got) != 0 {
				t.Errorf("the redirect was followed: %v", got)
			}
		})
	}
}

func TestRule50GoneEndsTheSubscription(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	s := hubtest.NewSubscriber(t).OnDelivery(func(hubtest.Request) hubtest.Answer { return hubtest.Status(410) })
	n.Subscribe(t, topic, s.Callback("/cb"))
	other, _ := subscribed(t, n, topic)
	n.Publish(t, topic, "text/plain", []byte("1"))
	n.Publish(t, topic, "text/plain", []byte("2"))
	n.WaitGone(t, topic, s.Callback("/cb"))
	n.Publish(t, topic, "text/plain", []byte("3"))
	other.WaitBody(t, "3")
	quietly(t, "deliveries after 410", s.CountDeliveries)
	if got := s.CountDeliveries(); got != 1 {
		t.Errorf("got %d deliveries, want the one answered with 410", got)
	}
	s.OnDelivery(func(hubtest.Request) hubtest.Answer { return hubtest.Answer{} })
	n.Subscribe(t, topic, s.Callback("/cb")) // subscribing again is allowed
	n.Publish(t, topic, "text/plain", []byte("4"))
	s.WaitBody(t, "4")
}

func TestRule51BodyOfTheAnswerIsIgnored(t *testing.T) {
	n := shared(t)
	for name, answer := range map[string]hubtest.Answer{
		"endless body":            {Endless: true},
		"truncated body":          {Body: []byte("half"), Cut: true},
		"large body":              {Body: bytes.Repeat([]byte("x"), 5<<20)},
		"body reporting an error": {Body: []byte("error: 500"), Header: hubtest.Headers("Retry-After", "3600")},
		"hub.mode header":         {Body: []byte("x"), Header: hubtest.Headers("X-Hub-Mode", "denied")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			topic := newTopic(t, n)
			s := hubtest.NewSubscriber(t).OnDelivery(func(hubtest.Request) hubtest.Answer { return answer })
			n.Subscribe(t, topic, s.Callback("/cb"))
			start := time.Now()
			for i := range 3 {
				n.Publish(t, topic, "text/plain", fmt.Append(nil, "m", i))
			}
			s.WaitBody(t, "m2")
			n.WaitCursor(t, topic, s.Callback("/cb"), 3)
			if got := s.CountDeliveries(); got != 3 {
				t.Errorf("got %d deliveries of 3 messages after %v: %v", got, time.Since(start), s.Deliveries())
			}
		})
	}
}

func TestRule52RetriesHaveLimits(t *testing.T) {
	n := strict(t) // three attempts, two if refused
	for name, tt := range map[string]struct{ status, attempts int }{
		"down":    {503, 3},
		"refused": {422, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			topic := newRegisteredTopic(t, n)
			s := hubtest.NewSubscriber(t).OnDelivery(func(r hubtest.Request) hubtest.Answer {
				if string(r.Body) == "bad" {
					return hubtest.Status(tt.status)
				}
				return hubtest.Answer{}
			})
			n.Subscribe(t, topic, s.Callback("/cb"))
			n.Publish(t, topic, "text/plain", []byte("bad"))
			n.Publish(t, topic, "text/plain", []byte("good"))
			s.WaitBody(t, "good")
			bad := s.Select(func(r hubtest.Request) bool { return r.IsDelivery() && string(r.Body) == "bad" })
			if len(bad) != tt.attempts {
				t.Errorf("got %d attempts at a message answered with %d, want %d", len(bad), tt.status, tt.attempts)
			}
			n.WaitCursor(t, topic, s.Callback("/cb"), 2)
			quietly(t, "attempts after the limit", s.CountDeliveries)
		})
	}
}

func TestRule53SubscriptionOutlivesFailures(t *testing.T) {
	n := strict(t)
	topic := newRegisteredTopic(t, n)
	s := hubtest.NewSubscriber(t).OnDelivery(func(hubtest.Request) hubtest.Answer { return hubtest.Status(500) })
	n.Subscribe(t, topic, s.Callback("/cb"))
	for i := range 4 { // each becomes a dead letter
		body := fmt.Sprint("m", i)
		n.Publish(t, topic, "text/plain", []byte(body))
		s.WaitBody(t, body)
	}
	if item := activeItem(t, n, topic, s.Callback("/cb")); item.State != "active" {
		t.Errorf("after 4 failed messages the subscription is %+v", item)
	}
	s.OnDelivery(func(hubtest.Request) hubtest.Answer { return hubtest.Answer{} })
	n.Publish(t, topic, "text/plain", []byte("new"))
	s.WaitBody(t, "new")
}

func TestRule54MessagesComeInOrder(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	ledger := hubtest.NewLedger()
	steady, flaky := hubtest.NewSubscriber(t), hubtest.NewSubscriber(t)
	var mu sync.Mutex
	coin := rand.New(rand.NewPCG(3, 4))
	flaky.OnDelivery(func(hubtest.Request) hubtest.Answer {
		mu.Lock()
		defer mu.Unlock()
		switch coin.IntN(6) {
		case 0:
			return hubtest.Status(503)
		case 1:
			return hubtest.Answer{Drop: true}
		}
		return hubtest.Answer{Delay: time.Duration(coin.IntN(3)) * time.Millisecond}
	})
	for _, s := range []*hubtest.Subscriber{steady, flaky} {
		n.Subscribe(t, topic, s.Callback("/cb"))
		ledger.Subscribed(s.URL, topic, 0)
	}
	const messages = 60
	for i := range messages {
		ledger.Acknowledged(n.Publish(t, topic, "text/plain", fmt.Appendf(nil, "message %d", i)))
	}
	for _, s := range []*hubtest.Subscriber{steady, flaky} {
		n.WaitCursor(t, topic, s.Callback("/cb"), messages)
		for _, d := range s.Deliveries() {
			ledger.Delivered(s.URL, d)
		}
	}
	if err := ledger.Balance(); err != nil {
		t.Error(err)
	}
	if err := ledger.Contiguous(); err != nil {
		t.Error(err)
	}
}

func TestRule60SelfLinkOfAMovedTopic(t *testing.T) {
	n := shared(t)
	origin := hubtest.NewOrigin(t)
	canonical := "http://publisher.example/new-home?of=" + topicName(t)
	topic := origin.Put("/old", hubtest.Page{ContentType: "text/plain", Body: []byte("moved"), Header: hubtest.Headers(
		"Link", `<`+n.HubURL()+`>; rel="hub"`, "Link", `<`+canonical+`>; rel="self"`)})
	s, _ := subscribed(t, n, topic)
	n.Ping(t, topic)
	wantLinks(t, s.WaitBody(t, "moved").Header, n.HubURL(), canonical)
}

func TestRule60OldTopicURLMayRedirect(t *testing.T) {
	n := shared(t)
	origin := hubtest.NewOrigin(t)
	origin.Put("/new", hubtest.Page{ContentType: "text/plain", Body: []byte("from the new place")})
	origin.Script(func(r hubtest.Request) (hubtest.Answer, bool) {
		return hubtest.Answer{Status: 301, Header: hubtest.Headers("Location", "/new")}, r.URI == "/old"
	})
	s, _ := subscribed(t, n, origin.URL+"/old")
	n.Ping(t, origin.URL+"/old")
	s.WaitBody(t, "from the new place")
}

func TestRule64CallbackIsUsedExactlyAsGiven(t *testing.T) {
	t.Parallel()
	s := hubtest.NewTLSSubscriber(t)
	n := hubtest.Start(t, hubtest.Options{Env: []string{"SSL_CERT_FILE=" + s.CAFile(t, t.TempDir())}})
	topic := newTopic(t, n)
	n.Subscribe(t, topic, s.Callback("/cb?token=a%2Fb&x"))
	n.Publish(t, topic, "text/plain", []byte("over TLS"))
	if d := s.WaitBody(t, "over TLS"); d.URI != "/cb?token=a%2Fb&x" {
		t.Errorf("delivered to %s", d.URI)
	}
	if d := s.Deliveries()[0]; !strings.HasPrefix(s.URL, "https://"+d.Host) {
		t.Errorf("the callback is %s, the request was for host %s", s.URL, d.Host)
	}
}

// The hub calls no callback whose certificate it cannot verify.
func TestRule64CertificateOfTheCallbackIsChecked(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	s := hubtest.NewTLSSubscriber(t)
	wantStatus(t, "subscribe", n.Request(t, "subscribe", topic, s.Callback("/cb")), 202)
	n.WaitSettled(t, topic, s.Callback("/cb"))
	if got := s.Requests(); len(got) != 0 {
		t.Errorf("an untrusted server got %v", got)
	}
}

func TestTrapRetryAfterIsHonoured(t *testing.T) {
	n := strict(t) // retries within milliseconds, up to 5 s
	for name, wanted := range map[string]func(at time.Time) (header string, until time.Time){
		"seconds": func(at time.Time) (string, time.Time) { return "1", at.Add(time.Second) },
		"a date": func(at time.Time) (string, time.Time) {
			until := at.Add(3 * time.Second).Truncate(time.Second)
			return until.UTC().Format(http.TimeFormat), until
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			topic := newRegisteredTopic(t, n)
			s := hubtest.NewSubscriber(t)
			s.OnDelivery(func(r hubtest.Request) hubtest.Answer {
				if s.CountDeliveries() > 1 {
					return hubtest.Answer{}
				}
				header, _ := wanted(r.At)
				return hubtest.Answer{Status: 503, Header: hubtest.Headers("Retry-After", header)}
			})
			n.Subscribe(t, topic, s.Callback("/cb"))
			n.Publish(t, topic, "text/plain", []byte("x"))
			got := s.WaitDeliveries(t, 2)
			if _, until := wanted(got[0].At); got[1].At.Before(until.Add(-50 * time.Millisecond)) {
				t.Errorf("retried %v before the time given in Retry-After", until.Sub(got[1].At))
			}
		})
	}
}

// A hanging callback delays no other subscription.
func TestTrapSlowSubscriberDelaysNobodyElse(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	hang := hubtest.NewSubscriber(t).OnDelivery(func(hubtest.Request) hubtest.Answer { return hubtest.Answer{Hang: true} })
	n.Subscribe(t, topic, hang.Callback("/cb"))
	fast, _ := subscribed(t, n, topic)
	start := time.Now()
	for i := range 20 {
		n.Publish(t, topic, "text/plain", fmt.Append(nil, "m", i))
	}
	if took := fast.WaitBody(t, "m19").At.Sub(start); took > 1900*time.Millisecond {
		t.Errorf("20 messages took %v next to a hanging subscriber, want under 1.9s", took)
	}
}
