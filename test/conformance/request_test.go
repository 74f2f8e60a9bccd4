package conformance_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"

	"quorumhub/test/hubtest"
)

func TestRule01MinimalRequestIsAccepted(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	s := hubtest.NewSubscriber(t)
	r := n.PostForm(t, hubtest.Form("hub.callback", s.Callback("/cb"), "hub.mode", "subscribe", "hub.topic", topic))
	wantStatus(t, "subscribe with callback, mode and topic", r, 202)
	n.WaitActive(t, topic, s.Callback("/cb"))
	n.Publish(t, topic, "text/plain", []byte("hello"))
	s.WaitBody(t, "hello")
}

func TestRule02RequestWithSecretIsAccepted(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	s, _ := subscribed(t, n, topic, "hub.secret", "s3cret")
	n.Publish(t, topic, "text/plain", []byte("hello"))
	s.WaitBody(t, "hello")
}

func TestRule03RequestedLeaseIsRespected(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	s, _ := subscribed(t, n, topic, "hub.lease_seconds", "86399")
	if got := s.WaitIntent(t, "subscribe", 1).Value("hub.lease_seconds"); got != "86399" {
		t.Errorf("requested 86399 s, the verification request says %q", got)
	}
}

func TestRule04ActiveSubscriptionCanBeRequestedAgain(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	s, callback := subscribed(t, n, topic, "hub.lease_seconds", "100")
	for i := 2; i <= 3; i++ {
		wantStatus(t, "subscribe again", n.Request(t, "subscribe", topic, callback, "hub.lease_seconds", "200"), 202)
		s.WaitIntent(t, "subscribe", i)
	}
	n.WaitSubscription(t, topic, callback, "the longer lease", func(s hubtest.Subscription) bool {
		return s.State == "active" && time.Until(s.LeaseExpiresAt.Time) > 150*time.Second
	})
}

func TestRule05UnsubscribeEndsDelivery(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	s, callback := subscribed(t, n, topic)
	other, _ := subscribed(t, n, topic)
	n.Publish(t, topic, "text/plain", []byte("before"))
	s.WaitBody(t, "before")
	n.Unsubscribe(t, topic, callback)
	if got := len(s.Intents("unsubscribe")); got != 1 {
		t.Errorf("got %d verifications of the unsubscribe request, want 1", got)
	}
	n.Publish(t, topic, "text/plain", []byte("after"))
	other.WaitBody(t, "after")
	quietly(t, "deliveries after a verified unsubscribe", s.CountDeliveries)
	if got := s.CountDeliveries(); got != 1 {
		t.Errorf("got %d deliveries, want 1", got)
	}
}

func TestRule14ParametersAreReadFromTheFormBodyOnly(t *testing.T) {
	n := shared(t)
	s := hubtest.NewSubscriber(t)
	topic := newTopic(t, n)
	form := hubtest.Form("hub.mode", "subscribe", "hub.topic", topic, "hub.callback", s.Callback("/cb"))
	bad := map[string]struct {
		method, target string
		contentType    string
		body           string
	}{
		"all in the query, no body":       {"POST", "/hub?" + form, "", ""},
		"all in the query, an empty form": {"POST", "/hub?" + form, hubtest.FormType, ""},
		"mode in the query, rest in the body": {"POST", "/hub?hub.mode=subscribe", hubtest.FormType,
			hubtest.Form("hub.topic", topic, "hub.callback", s.Callback("/cb"))},
		"callback in the query, rest in the body": {"POST", "/hub?" + hubtest.Form("hub.callback", s.Callback("/cb")), hubtest.FormType,
			hubtest.Form("hub.topic", topic, "hub.mode", "subscribe")},
		"JSON":            {"POST", "/hub", "application/json", `{"hub.mode":"subscribe","hub.topic":"` + topic + `","hub.callback":"` + s.Callback("/cb") + `"}`},
		"text/plain":      {"POST", "/hub", "text/plain", form},
		"no content type": {"POST", "/hub", "", form},
		"PUT":             {"PUT", "/hub", hubtest.FormType, form},
		"GET":             {"GET", "/hub?" + form, "", ""},
	}
	for name, b := range bad {
		t.Run(name, func(t *testing.T) {
			h := hubtest.Headers()
			if b.contentType != "" {
				h.Set("Content-Type", b.contentType)
			}
			r := n.Do(t, b.method, b.target, h, []byte(b.body))
			if r.Status < 400 || r.Status > 499 {
				t.Errorf("got %v, want 4xx", r)
			}
		})
	}
	for name, contentType := range map[string]string{
		"with charset":  "application/x-www-form-urlencoded; charset=UTF-8",
		"in upper case": "APPLICATION/X-WWW-FORM-URLENCODED",
	} {
		good := hubtest.NewSubscriber(t)
		form := hubtest.Form("hub.mode", "subscribe", "hub.topic", topic, "hub.callback", good.Callback("/cb"))
		wantStatus(t, "form "+name, n.Do(t, "POST", "/hub", hubtest.Headers("Content-Type", contentType), []byte(form)), 202)
		good.WaitIntent(t, "subscribe", 1)
	}
	if got := len(s.Requests()); got != 0 {
		t.Errorf("the callback of the refused requests got %d requests", got)
	}
}

func TestRule14ParametersAreUTF8(t *testing.T) {
	n := shared(t)
	topic := n.URL + "/topics/" + topicName(t) + "-%C3%A9t%C3%A9"
	s, _ := subscribed(t, n, topic)
	if got := s.WaitIntent(t, "subscribe", 1).Value("hub.topic"); got != topic {
		t.Errorf("the verification request names topic %q, want %q", got, topic)
	}
	n.Publish(t, topic, "text/plain", []byte("summer"))
	s.WaitBody(t, "summer")
}

func TestRule15RequiredParameters(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	params := map[string]string{"hub.mode": "subscribe", "hub.topic": topic, "hub.callback": "http://127.0.0.1:1025/cb"}
	for param := range params {
		for how, edit := range map[string]func(m map[string]string){
			"missing": func(m map[string]string) { delete(m, param) },
			"empty":   func(m map[string]string) { m[param] = "" },
		} {
			t.Run(param+" "+how, func(t *testing.T) {
				for _, mode := range []string{"subscribe", "unsubscribe"} {
					m := map[string]string{}
					for k, v := range params {
						m[k] = v
					}
					m["hub.mode"] = mode
					edit(m)
					var pairs []string
					for k, v := range m {
						pairs = append(pairs, k, v)
					}
					wantRefusal(t, n.PostForm(t, hubtest.Form(pairs...)), param)
				}
			})
		}
	}
	for _, mode := range []string{"Subscribe", "SUBSCRIBE", "subscribe ", "sub", "denied", "verify", "0"} {
		t.Run("mode "+mode, func(t *testing.T) {
			wantRefusal(t, n.Request(t, mode, topic, "http://127.0.0.1:1025/cb"), "hub.mode")
		})
	}
}

func TestRule16LeaseIsAPositiveDecimalInteger(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	for _, lease := range []string{"-1", "1.5", "1e3", "abc", "0x10", "10s", "1 0", "٣", "+5", "NaN"} {
		t.Run(lease, func(t *testing.T) {
			wantRefusal(t, n.Request(t, "subscribe", topic, "http://127.0.0.1:1025/cb", "hub.lease_seconds", lease), "hub.lease_seconds")
		})
	}
}

func TestRule16LeaseIsClampedNotRefused(t *testing.T) {
	n := strict(t) // 60 s to 2 h, 1 h by default
	topic := newRegisteredTopic(t, n)
	for name, tt := range map[string]struct {
		asked []string
		want  string
	}{
		"none":           {nil, "3600"},
		"empty":          {[]string{"hub.lease_seconds", ""}, "3600"}, // PubSubHubbub 0.3: no wish
		"zero":           {[]string{"hub.lease_seconds", "0"}, "3600"},
		"zeros":          {[]string{"hub.lease_seconds", "00"}, "3600"},
		"within":         {[]string{"hub.lease_seconds", "1234"}, "1234"},
		"too short":      {[]string{"hub.lease_seconds", "1"}, "60"},
		"too long":       {[]string{"hub.lease_seconds", "999999999"}, "7200"},
		"beyond 63 bits": {[]string{"hub.lease_seconds", "9223372036854775808"}, "7200"},
		"40 digits":      {[]string{"hub.lease_seconds", strings.Repeat("9", 40)}, "7200"},
	} {
		t.Run(name, func(t *testing.T) {
			s := hubtest.NewSubscriber(t)
			reply := n.Request(t, "subscribe", topic, s.Callback("/cb"), tt.asked...)
			wantStatus(t, "subscribe", reply, 202)
			if got := reply.Header.Get("X-Hub-Lease-Seconds"); got != tt.want {
				t.Errorf("requested %v, the answer says %q, want %s", tt.asked, got, tt.want)
			}
			if got := s.WaitIntent(t, "subscribe", 1).Value("hub.lease_seconds"); got != tt.want {
				t.Errorf("requested %v, granted %q, want %s", tt.asked, got, tt.want)
			}
		})
	}
}

func TestRule16LeaseIsIgnoredOnUnsubscribe(t *testing.T) {
	n := shared(t)
	for _, lease := range []string{"abc", "0", "-5", ""} {
		topic := newTopic(t, n)
		_, callback := subscribed(t, n, topic)
		wantStatus(t, "unsubscribe with lease "+lease, n.Request(t, "unsubscribe", topic, callback, "hub.lease_seconds", lease), 202)
		n.WaitGone(t, topic, callback)
	}
}

func TestRule17SecretHasLessThan200Bytes(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	for name, secret := range map[string]string{
		"200 bytes":                        strings.Repeat("x", 200),
		"100 characters, 200 bytes":        strings.Repeat("é", 100),
		"67 characters, 201 bytes":         strings.Repeat("語", 67),
		"5000 bytes":                       strings.Repeat("x", 5000),
		"199 characters, one of two bytes": strings.Repeat("x", 198) + "é",
	} {
		t.Run(name, func(t *testing.T) {
			r := n.Request(t, "subscribe", topic, "http://127.0.0.1:1025/cb", "hub.secret", secret)
			wantRefusal(t, r, "hub.secret")
			if bytes.Contains(r.Body, []byte(secret[:50])) {
				t.Error("the answer repeats the secret")
			}
		})
	}
	secret := strings.Repeat("é", 99) + "x" // 199 bytes
	s, _ := subscribed(t, n, topic, "hub.secret", secret)
	n.Publish(t, topic, "text/plain", []byte("signed"))
	if r := s.WaitBody(t, "signed"); !r.SignedBy(secret) {
		t.Errorf("not signed with the longest allowed secret: %q", r.Header.Values("X-Hub-Signature"))
	}
}

func TestRule18UnknownParametersAreIgnored(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	s, _ := subscribed(t, n, topic, "hub.frobnicate", "1", "foo", "bar", "", "nothing", "hub.url", "http://127.0.0.1/other",
		"hub.verify", "async", "hub.challenge", "mine")
	intent := s.WaitIntent(t, "subscribe", 1)
	if intent.Value("hub.challenge") == "mine" {
		t.Error("the subscriber chose the challenge")
	}
	n.Publish(t, topic, "text/plain", []byte("x"))
	s.WaitBody(t, "x")
}

func TestRule23HTTPAndHTTPSURLsAreAccepted(t *testing.T) {
	n := shared(t)
	for _, topic := range []string{"http://publisher.example/" + topicName(t), "https://publisher.example/" + topicName(t)} {
		s, _ := subscribed(t, n, topic)
		if got := s.WaitIntent(t, "subscribe", 1).Value("hub.topic"); got != topic {
			t.Errorf("the verification request names topic %q, want %q", got, topic)
		}
		n.Publish(t, topic, "text/plain", []byte(topic))
		s.WaitBody(t, topic)
	}
	r := n.Request(t, "subscribe", newTopic(t, n), "https://127.0.0.1:1025/cb")
	wantStatus(t, "subscribe with an https callback", r, 202)
}

func TestRule29AnswerIs202(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	s := hubtest.NewSubscriber(t)
	wantStatus(t, "subscribe", n.Request(t, "subscribe", topic, s.Callback("/cb")), 202)
	n.WaitActive(t, topic, s.Callback("/cb"))
	wantStatus(t, "subscribe again", n.Request(t, "subscribe", topic, s.Callback("/cb")), 202)
	wantStatus(t, "unsubscribe", n.Request(t, "unsubscribe", topic, s.Callback("/cb")), 202)
}

func TestRule30VerificationFollowsSoon(t *testing.T) {
	n := shared(t)
	s := hubtest.NewSubscriber(t)
	start := time.Now()
	wantStatus(t, "subscribe", n.Request(t, "subscribe", newTopic(t, n), s.Callback("/cb")), 202)
	if took := s.WaitIntent(t, "subscribe", 1).At.Sub(start); took > 5*time.Second {
		t.Errorf("the verification request arrived after %v, want at most 5s", took)
	}
}

func TestRule31ErrorsAreToldInPlainText(t *testing.T) {
	n := shared(t)
	r := n.PostForm(t, hubtest.Form("hub.mode", "subscribe", "hub.topic", newTopic(t, n)))
	wantRefusal(t, r, "hub.callback")
}

func TestRule32PolicyRefusesAtOnce(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	for _, callback := range []string{
		"http://169.254.169.254/latest/meta-data/", "http://[fd00:ec2::254]/", "http://168.63.129.16/", "http://10.0.0.1/cb",
		"http://0.0.0.0/cb", "http://[::]/cb", "http://224.0.0.1/cb", "http://[::ffff:169.254.169.254]/cb", "http://192.168.1.1:8080/cb",
	} {
		t.Run(callback, func(t *testing.T) {
			wantRefusal(t, n.Request(t, "subscribe", topic, callback), "hub.callback")
		})
	}
	for _, callback := range []string{"http://0x7f000001/cb", "http://2130706433/cb", "http://0177.0.0.1/cb", "http://127.1/cb"} {
		t.Run("disguised "+callback, func(t *testing.T) {
			wantRefusal(t, n.Request(t, "subscribe", topic, callback), "hub.callback")
		})
	}
}

func TestRule33AnswerDoesNotDependOnVerification(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	hang := hubtest.NewSubscriber(t).OnIntent(func(hubtest.Request) hubtest.Answer { return hubtest.Answer{Hang: true} })
	no := hubtest.NewSubscriber(t).OnIntent(func(hubtest.Request) hubtest.Answer { return hubtest.Status(404) })
	yes := hubtest.NewSubscriber(t)
	nobody := "http://" + hubtest.ClosedAddr(t) + "/cb"

	want := n.Request(t, "subscribe", topic, yes.Callback("/cb"))
	wantStatus(t, "subscribe", want, 202)
	for name, r := range map[string]*hubtest.Reply{
		"hanging callback":                  n.Request(t, "subscribe", topic, hang.Callback("/cb")),
		"refusing callback":                 n.Request(t, "subscribe", topic, no.Callback("/cb")),
		"unreachable callback":              n.Request(t, "subscribe", topic, nobody),
		"unsubscribe, unknown callback":     n.Request(t, "unsubscribe", topic, "http://127.0.0.1:1025/never-subscribed"),
		"unsubscribe, unreachable callback": n.Request(t, "unsubscribe", topic, nobody),
		"unsubscribe, active subscription":  n.Request(t, "unsubscribe", topic, yes.Callback("/cb")),
		"unsubscribe, unknown topic":        n.Request(t, "unsubscribe", newTopic(t, n), "http://127.0.0.1:1025/cb"),
	} {
		if r.Status != want.Status || !bytes.Equal(r.Body, want.Body) {
			t.Errorf("%s: got %v, want the same answer as an ordinary request, %v", name, r, want)
		}
		if r.Took > 2500*time.Millisecond {
			t.Errorf("%s: the answer took %v, so it waited for the callback", name, r.Took)
		}
	}
}

func TestRule34NothingIsRedirected(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	for _, target := range []string{"/hub", "/hub/"} {
		s := hubtest.NewSubscriber(t)
		form := hubtest.Form("hub.mode", "subscribe", "hub.topic", topic, "hub.callback", s.Callback("/cb"))
		r := n.Do(t, http.MethodPost, target, hubtest.Headers("Content-Type", hubtest.FormType), []byte(form))
		wantStatus(t, "POST "+target, r, 202)
		if l := r.Header.Get("Location"); l != "" {
			t.Errorf("POST %s: got Location %q", target, l)
		}
		s.WaitIntent(t, "subscribe", 1)
	}
}

func TestRule36AcceptedRequestsAreVerified(t *testing.T) {
	n := shared(t)
	topic := newTopic(t, n)
	s, callback := subscribed(t, n, topic)
	if got := len(s.Intents("subscribe")); got != 1 {
		t.Errorf("got %d verifications for one subscribe request", got)
	}
	n.Unsubscribe(t, topic, callback)
	if got := len(s.Intents("unsubscribe")); got != 1 {
		t.Errorf("got %d verifications for one unsubscribe request", got)
	}
}
