package web_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"quorumhub/hub"
	"quorumhub/web"
)

// few allows three requests an hour in each class, so that no test sees a refill.
func few() web.Limits {
	r := hub.Rate{Requests: 3, Per: time.Hour}
	return web.Limits{Publish: r, Subscribe: r, Read: r, Admin: r, Refused: r}
}

// from sends a request from a client address.
func (f *fixture) from(addr, method, target, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Host = "hub.example.net"
	r.RemoteAddr = addr
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	f.ServeHTTP(w, r)
	return w
}

func TestLimitsByClass(t *testing.T) {
	const form = "Content-Type"
	subscribe := encode("hub.mode", "subscribe", "hub.topic", topicURL, "hub.callback", "https://reader.example/cb")
	for _, tc := range []struct {
		name, class string
		send        func(f *fixture, addr string) *httptest.ResponseRecorder
		ok          int
	}{
		{"content to a topic", "publish", func(f *fixture, a string) *httptest.ResponseRecorder {
			return f.from(a, "POST", "/topics/news", "x")
		}, 200},
		{"content to the hub", "publish", func(f *fixture, a string) *httptest.ResponseRecorder {
			return f.from(a, "POST", publishURL(topicURL), "x")
		}, 200},
		{"a batch", "publish", func(f *fixture, a string) *httptest.ResponseRecorder {
			return f.from(a, "POST", "/topics/news?hub.batch=true", "1\n2\n", form, "application/x-ndjson")
		}, 200},
		{"a thin ping", "publish", func(f *fixture, a string) *httptest.ResponseRecorder {
			return f.from(a, "POST", "/hub", encode("hub.mode", "publish", "hub.url", topicURL), form, formType)
		}, 204},
		{"subscribe", "subscribe", func(f *fixture, a string) *httptest.ResponseRecorder {
			return f.from(a, "POST", "/hub", subscribe, form, formType)
		}, 202},
		{"unsubscribe", "subscribe", func(f *fixture, a string) *httptest.ResponseRecorder {
			return f.from(a, "POST", "/hub", strings.Replace(subscribe, "subscribe", "unsubscribe", 1), form, formType)
		}, 202},
		{"a form without sense", "subscribe", func(f *fixture, a string) *httptest.ResponseRecorder {
			return f.from(a, "POST", "/hub", "hub.mode=what", form, formType)
		}, 400},
		{"a list", "read", func(f *fixture, a string) *httptest.ResponseRecorder { return f.from(a, "GET", "/v1/topics", "") }, 200},
		{"a topic that is not there", "read", func(f *fixture, a string) *httptest.ResponseRecorder { return f.from(a, "HEAD", "/topics/nothing", "") }, 404},
		{"an operation", "admin", func(f *fixture, a string) *httptest.ResponseRecorder {
			return f.from(a, "DELETE", "/v1/subscriptions/s-9", "")
		}, 404},
		{"register", "admin", func(f *fixture, a string) *httptest.ResponseRecorder {
			return f.from(a, "POST", "/hub", encode("hub.mode", "register", "hub.topic", topicURL), form, formType)
		}, 200},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t, func(_ *hub.Policy, o *web.Options) { o.Limits = few() })
			const addr = "203.0.113.7:1000"
			for left := 2; left >= 0; left-- {
				w := tc.send(f, addr)
				if w.Code != tc.ok && (tc.name != "register" || w.Code != 409) {
					t.Fatalf("with %d left: got %d %s", left, w.Code, w.Body)
				}
				if got := w.Header().Get("RateLimit-Policy"); got != fmt.Sprintf("%q;q=3;w=3600", tc.class) {
					t.Errorf("RateLimit-Policy %q", got)
				}
				if got := w.Header().Get("RateLimit"); !strings.HasPrefix(got, fmt.Sprintf("%q;r=%d;t=", tc.class, left)) {
					t.Errorf("RateLimit %q, want %d left", got, left)
				}
			}
			before := f.ledger.Batches()
			w := tc.send(f, addr)
			after, err := strconv.Atoi(w.Header().Get("Retry-After"))
			if w.Code != 429 || err != nil || after < 1000 || after > 1200 {
				t.Fatalf("got %d with %v, want 429 and a Retry-After of a third of an hour", w.Code, w.Header())
			}
			if got := w.Header().Get("RateLimit"); !strings.HasPrefix(got, fmt.Sprintf("%q;r=0;t=", tc.class)) {
				t.Errorf("RateLimit %q", got)
			}
			if f.ledger.Batches() != before {
				t.Error("the refused request was written to the log")
			}
			if got := want(t, f.send("GET", "/health", ""), 200); got == "" {
				t.Error("health checks are limited")
			}
			if w := tc.send(f, "203.0.113.8:1000"); w.Code == 429 {
				t.Error("the limit affects another client")
			}
			metrics := want(t, f.from("203.0.113.99:1", "GET", "/metrics", ""), 200)
			if want := fmt.Sprintf("quorumhub_requests_limited_total{limit=%q} 1", tc.class); !strings.Contains(metrics, want) {
				t.Errorf("the metrics lack %s", want)
			}
		})
	}
}

// Classes are independent, and public routes have no limit.
func TestLimitsAreIndependent(t *testing.T) {
	f := newFixture(t, func(_ *hub.Policy, o *web.Options) { o.Limits = few() })
	for range 4 {
		f.send("POST", "/topics/news", "x")
	}
	want(t, f.send("POST", "/topics/news", "x"), 429)
	want(t, f.send("GET", "/topics/news", ""), 200)
	want(t, f.form("hub.mode", "subscribe", "hub.topic", topicURL, "hub.callback", "https://reader.example/cb"), 202)
	for range 10 {
		w := f.send("GET", "/health/ready", "")
		if want(t, w, 200); w.Header().Get("RateLimit") != "" {
			t.Fatal("health checks are limited")
		}
	}
}

func TestRateLimitedFollowsAccept(t *testing.T) {
	f := newFixture(t, func(_ *hub.Policy, o *web.Options) { o.Limits = few() })
	for range 3 {
		f.send("POST", "/topics/news", "x")
		f.send("GET", "/v1/topics", "")
	}
	checkErrorLine(t, want(t, f.send("POST", "/topics/news", "x"), 429))
	for _, w := range []*httptest.ResponseRecorder{f.send("POST", "/topics/news", "x", "Accept", "application/problem+json"), f.send("GET", "/v1/topics", "")} {
		var p struct{ Code, Detail string }
		if err := json.Unmarshal([]byte(want(t, w, 429)), &p); err != nil || p.Code != "rate_limited" || !strings.Contains(p.Detail, "limits.") {
			t.Errorf("got %+v (%v)", p, err)
		}
		if got := w.Header().Get("Content-Type"); got != "application/problem+json" {
			t.Errorf("Content-Type %q", got)
		}
	}
}

func TestRateLimitedInCompatibleProfiles(t *testing.T) {
	for _, profile := range []web.Profile{web.ProfileBallerina, web.ProfileMOSIP} {
		f := newFixture(t, func(_ *hub.Policy, o *web.Options) { o.Limits, o.Profile = few(), profile })
		for range 3 {
			want(t, f.send("POST", publishURL(topicURL), "{}", "Content-Type", "application/json"), 200)
		}
		w := f.send("POST", publishURL(topicURL), "{}", "Content-Type", "application/json")
		if got := want(t, w, 429); !strings.HasPrefix(got, "hub.mode=denied&hub.reason=too many requests") {
			t.Errorf("%s: got %q", profile, got)
		}
		if w.Header().Get("Retry-After") == "" || w.Header().Get("Content-Type") != formType {
			t.Errorf("%s: got %v", profile, w.Header())
		}
		want(t, f.form("hub.mode", "subscribe", "hub.topic", topicURL, "hub.callback", "https://reader.example/cb"), 202)
	}
}

func TestLimitsByClientAddress(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, tc := range []struct {
		name       string
		a, b       string // addresses, and X-Forwarded-For behind a bar
		sameClient bool
		trusted    []netip.Prefix
	}{
		{"ports", "203.0.113.7:1", "203.0.113.7:2", true, nil},
		{"addresses", "203.0.113.7:1", "203.0.113.8:1", false, nil},
		{"one IPv6 network", "[2001:db8:1:2::1]:1", "[2001:db8:1:2:ffff::9]:1", true, nil},
		{"two IPv6 networks", "[2001:db8:1:2::1]:1", "[2001:db8:1:3::1]:1", false, nil},
		{"IPv4 in IPv6", "[::ffff:203.0.113.7]:1", "203.0.113.7:2", true, nil},
		{"an untrusted header", "203.0.113.7:1|198.51.100.1", "203.0.113.7:1|198.51.100.2", true, nil},
		{"a header from elsewhere than a proxy", "203.0.113.7:1|198.51.100.1", "203.0.113.7:1|198.51.100.2", true, proxies},
		{"clients of a proxy", "10.0.0.1:1|198.51.100.1", "10.0.0.1:1|198.51.100.2", false, proxies},
		{"a client of two proxies", "10.0.0.1:1|198.51.100.1", "10.0.0.2:1|198.51.100.1", true, proxies},
		{"a chain of proxies", "10.0.0.1:1|198.51.100.1, 10.9.9.9", "[fd00::1]:1|198.51.100.1", true, proxies},
		{"what the client made up", "10.0.0.1:1|1.1.1.1, 198.51.100.1", "10.0.0.1:1|2.2.2.2, 198.51.100.1", true, proxies},
		{"forged in a separate line", "10.0.0.1:1|1.1.1.1|198.51.100.1", "10.0.0.1:1|2.2.2.2|198.51.100.1", true, proxies},
		{"with a port", "10.0.0.1:1|198.51.100.1:77", "10.0.0.1:1|198.51.100.1", true, proxies},
		{"words", "10.0.0.1:1|1.1.1.1, unknown", "10.0.0.1:1|unknown", true, proxies},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t, func(_ *hub.Policy, o *web.Options) { o.Limits, o.TrustedProxies = few(), tc.trusted })
			send := func(from string) int {
				parts := strings.Split(from, "|")
				var header []string
				for _, line := range parts[1:] {
					header = append(header, "X-Forwarded-For", line)
				}
				return f.from(parts[0], "POST", "/topics/news", "x", header...).Code
			}
			for range 3 {
				if got := send(tc.a); got != 200 {
					t.Fatalf("got %d", got)
				}
			}
			want := http.StatusOK
			if tc.sameClient {
				want = http.StatusTooManyRequests
			}
			if got := send(tc.b); got != want {
				t.Errorf("the other one got %d, want %d", got, want)
			}
		})
	}
}

// An exhausted budget refills by itself.
func TestLimitsRefill(t *testing.T) {
	f := newFixture(t, func(_ *hub.Policy, o *web.Options) { o.Limits.Publish = hub.Rate{Requests: 20, Per: time.Second} })
	taken := 0
	for f.send("POST", "/topics/news", "x").Code == 200 {
		if taken++; taken > 100_000 {
			t.Fatal("there is no limit")
		}
	}
	for end := time.Now().Add(20 * time.Second); f.send("POST", "/topics/news", "x").Code != 200; {
		if time.Now().After(end) {
			t.Fatal("the budget never refills")
		}
	}
}

func TestNoLimitHeadersWithoutLimits(t *testing.T) {
	f := newFixture(t)
	w := f.send("POST", "/topics/news", "x")
	if want(t, w, 200); w.Header().Get("RateLimit") != "" || w.Header().Get("RateLimit-Policy") != "" {
		t.Errorf("got %v", w.Header())
	}
}
