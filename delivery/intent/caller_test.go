package intent_test

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"quorumhub/delivery/egress"
	"quorumhub/delivery/intent"
	"quorumhub/hub"
	"quorumhub/test/fake"
)

func outbound(t testing.TB) *intent.Caller {
	return &intent.Caller{Client: fake.DevClient(t), Clock: hub.SystemClock{}, UserAgent: egress.UserAgent("1.2.3", "https://hub.example/"),
		Timeout: 5 * time.Second}
}

func challengeOf(req *http.Request) string { return req.URL.Query().Get("hub.challenge") }

func confirm(w http.ResponseWriter, req *http.Request) { _, _ = io.WriteString(w, challengeOf(req)) }

// TestIntentAppendsToTheQuery is WebSub rules 26, 27 and 64: the callback is used as is, whatever it contains.
func TestIntentAppendsToTheQuery(t *testing.T) {
	s := fake.Record(t, confirm)
	for path, want := range map[string]string{
		"/cb":                               "/cb?",
		"/cb?":                              "/cb?",
		"/cb?b=2&a=1":                       "/cb?b=2&a=1&",
		"/cb?b=2&":                          "/cb?b=2&",
		"/cb?hub.mode=mine&hub.topic":       "/cb?hub.mode=mine&hub.topic&",
		"/a%2Fb/%7Euser//x;y?q=%e4+a%20b;c": "/a%2Fb/%7Euser//x;y?q=%e4+a%20b;c&",
		"":                                  "/?",
		"?k=v":                              "/?k=v&",
		"/cb?topic=http%3A%2F%2Ft%2F&hub=h": "/cb?topic=http%3A%2F%2Ft%2F&hub=h&",
		"/{t}%2Fx":                          "/%7Bt%7D%2Fx?",
		"/cb?user=josé":                     "/cb?user=jos%C3%A9&",
		"/é|%7c?a|b={c}&d[]=%5b":            "/%C3%A9%7C%7c?a%7Cb=%7Bc%7D&d[]=%5b&",
	} {
		topic := "http://topic.example/a b?x=1&y=\u00e9"
		res := outbound(t).Ask(t.Context(), intent.Question{Callback: s.URL + path, Mode: "subscribe", Topic: topic,
			LeaseSeconds: 864000, VerifyToken: "tok/1"})
		reqs := s.All()
		got := reqs[len(reqs)-1]
		re := regexp.QuoteMeta(want+"hub.mode=subscribe&hub.topic=http%3A%2F%2Ftopic.example%2Fa%20b%3Fx%3D1%26y%3D%C3%A9&hub.challenge=") +
			"[A-Za-z0-9]{22,}" + regexp.QuoteMeta("&hub.lease_seconds=864000&hub.verify_token=tok%2F1")
		if !regexp.MustCompile("^" + re + "$").MatchString(got.URI) {
			t.Errorf("%q: request for %s", path, got.URI)
		}
		if got.Method != "GET" || got.Header.Get("User-Agent") != "quorumhub/1.2.3 (+https://hub.example/)" {
			t.Errorf("%q: %s by %q", path, got.Method, got.Header.Get("User-Agent"))
		}
		if want := intent.Confirmed; res.Outcome != want && !strings.Contains(path, "hub.challenge") {
			t.Errorf("%q: outcome %v (%s)", path, res.Outcome, res.Reason)
		}
	}
}

func TestIntentUnsubscribeSendsNoLease(t *testing.T) {
	s := fake.Record(t, confirm)
	res := outbound(t).Ask(t.Context(), intent.Question{Callback: s.URL, Mode: "unsubscribe", Topic: "http://t/", LeaseSeconds: 5})
	if res.Outcome != intent.Confirmed || strings.Contains(s.All()[0].URI, "lease") {
		t.Errorf("outcome %v, request %s", res.Outcome, s.All()[0].URI)
	}
}

func TestIntentChallengesAreFresh(t *testing.T) {
	seen := map[string]bool{}
	s := fake.Record(t, func(w http.ResponseWriter, req *http.Request) {
		seen[challengeOf(req)] = true
		confirm(w, req)
	})
	o := outbound(t)
	for range 20 {
		o.Ask(t.Context(), intent.Question{Callback: s.URL, Mode: "subscribe", Topic: "http://t/"})
	}
	if len(seen) != 20 {
		t.Errorf("%d different challenges in 20 requests", len(seen))
	}
}

// TestIntentOutcomes is WebSub rules 41 to 44: only a 2xx with exactly the challenge is a yes.
func TestIntentOutcomes(t *testing.T) {
	const yes, no, later = intent.Confirmed, intent.Refused, intent.Retryable
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, req *http.Request) { w.WriteHeader(code); confirm(w, req) }
	}
	body := func(f func(c string) string) http.HandlerFunc {
		return func(w http.ResponseWriter, req *http.Request) { _, _ = io.WriteString(w, f(challengeOf(req))) }
	}
	for _, c := range []struct {
		name   string
		h      http.HandlerFunc
		want   intent.Outcome
		reason egress.Reason
	}{
		{"200", status(200), yes, ""}, {"201", status(201), yes, ""}, {"202", status(202), yes, ""}, {"299", status(299), yes, ""},
		{"204", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) }, no, egress.ReasonChallenge},
		{"newline", body(func(c string) string { return c + "\n" }), no, egress.ReasonChallenge},
		{"prefix", body(func(c string) string { return " " + c }), no, egress.ReasonChallenge},
		{"junk behind", body(func(c string) string { return c + "junk" }), no, egress.ReasonChallenge},
		{"much junk behind", body(func(c string) string { return c + strings.Repeat("x", 1<<20) }), no, egress.ReasonChallenge},
		{"shorter", body(func(c string) string { return c[1:] }), no, egress.ReasonChallenge},
		{"other case", body(strings.ToLower), no, egress.ReasonChallenge},
		{"empty", body(func(string) string { return "" }), no, egress.ReasonChallenge},
		{"301", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/ok?"+r.URL.RawQuery, http.StatusMovedPermanently)
		}, no, egress.ReasonStatus},
		{"307", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/ok?"+r.URL.RawQuery, http.StatusTemporaryRedirect)
		}, no, egress.ReasonStatus},
		{"404", status(404), no, egress.ReasonStatus}, {"400", status(400), no, egress.ReasonStatus},
		{"410", status(410), no, egress.ReasonStatus}, {"403", status(403), no, egress.ReasonStatus},
		{"408", status(408), later, egress.ReasonStatus}, {"429", status(429), later, egress.ReasonStatus},
		{"500", status(500), later, egress.ReasonStatus}, {"503", status(503), later, egress.ReasonStatus},
		{"cut off", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, later, egress.ReasonUnreachable},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := fake.Record(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/ok" {
					confirm(w, r)
					return
				}
				c.h(w, r)
			})
			res := outbound(t).Ask(t.Context(), intent.Question{Callback: s.URL + "/cb", Mode: "subscribe", Topic: "http://t/", LeaseSeconds: 60})
			if res.Outcome != c.want || res.Reason != c.reason {
				t.Errorf("outcome %v (%q), want %v (%q)", res.Outcome, res.Reason, c.want, c.reason)
			}
			if n := len(s.All()); n != 1 {
				t.Errorf("%d requests, want 1", n)
			}
		})
	}
}

func TestIntentWithoutAnswer(t *testing.T) {
	o := outbound(t)
	o.Timeout = 50 * time.Millisecond
	hang := make(chan struct{})
	s := fake.Record(t, func(http.ResponseWriter, *http.Request) { <-hang })
	defer close(hang)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := "http://" + l.Addr().String()
	_ = l.Close()
	for _, c := range []struct {
		callback string
		want     intent.Outcome
		reason   egress.Reason
	}{
		{s.URL, intent.Retryable, egress.ReasonTimeout},
		{closed, intent.Retryable, egress.ReasonUnreachable},
		{"http://10.0.0.1:8080/", intent.Refused, egress.ReasonDenied},
		{"https://" + strings.TrimPrefix(closed, "http://"), intent.Retryable, egress.ReasonUnreachable},
	} {
		res := o.Ask(t.Context(), intent.Question{Callback: c.callback, Mode: "subscribe", Topic: "http://t/"})
		if res.Outcome != c.want || res.Reason != c.reason || res.Status != 0 {
			t.Errorf("%s: %+v, want %v (%s)", c.callback, res, c.want, c.reason)
		}
	}
}

func TestIntentTLSFailure(t *testing.T) {
	s := httptest.NewUnstartedServer(http.HandlerFunc(confirm))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS() // with an untrusted certificate
	defer s.Close()
	res := outbound(t).Ask(t.Context(), intent.Question{Callback: s.URL, Mode: "subscribe", Topic: "http://t/"})
	if res.Outcome != intent.Retryable || res.Reason != egress.ReasonTLS {
		t.Errorf("%+v, want retryable (tls)", res)
	}
}

func TestIntentRetryAfter(t *testing.T) {
	for header, want := range map[string]time.Duration{
		"7": 7 * time.Second, " 120 ": 2 * time.Minute, "99999": time.Hour, "99999999999999999999": time.Hour,
		"-3": 0, "soon": 0, "": 0, "Wed, 21 Oct 2015 07:28:00 GMT": 0,
		time.Now().Add(10 * time.Hour).UTC().Format(http.TimeFormat): time.Hour,
	} {
		s := fake.Record(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", header)
			w.WriteHeader(503)
		})
		res := outbound(t).Ask(t.Context(), intent.Question{Callback: s.URL, Mode: "subscribe", Topic: "http://t/"})
		if res.RetryAfter != want {
			t.Errorf("Retry-After %q: %v, want %v", header, res.RetryAfter, want)
		}
	}
}

// TestDeniedNotice is WebSub rule 37; the callback's response does not matter.
func TestDeniedNotice(t *testing.T) {
	for _, code := range []int{200, 302, 404, 500} {
		s := fake.Record(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
		res := outbound(t).Deny(t.Context(), s.URL+"/cb?x=%7e", "http://t/\u00e9", "topic is gone")
		want := "/cb?x=%7e&hub.mode=denied&hub.topic=" + url.QueryEscape("http://t/\u00e9") + "&hub.reason=topic%20is%20gone"
		if got := s.All()[0].URI; got != want {
			t.Errorf("request for %s, want %s", got, want)
		}
		if res.Outcome != intent.Confirmed {
			t.Errorf("status %d: outcome %v, want Confirmed", code, res.Outcome)
		}
	}
}

func ExampleUserAgent() {
	fmt.Println(egress.UserAgent("1.0.0", "https://hub.example/"))
	fmt.Println(egress.UserAgent("", ""))
	// Output:
	// quorumhub/1.0.0 (+https://hub.example/)
	// quorumhub/dev
}
