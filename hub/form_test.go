package hub_test

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"quorumhub/hub"
)

var leases = hub.LeasePolicy{Min: time.Minute, Default: 10 * 24 * time.Hour, Max: 30 * 24 * time.Hour}

func namer(tb testing.TB) *hub.TopicNamer {
	tb.Helper()
	n, err := hub.NewTopicNamer("https://hub.example", "http://10.0.0.1:8080/base/")
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

// form builds a form from alternating names and values.
func form(params ...string) url.Values {
	v := url.Values{}
	for i := 0; i+1 < len(params); i += 2 {
		v.Add(params[i], params[i+1])
	}
	return v
}

// subscribeForm returns a valid request with parameters replaced; "-" removes one.
func subscribeForm(params ...string) url.Values {
	v := form("hub.mode", "subscribe", "hub.topic", "https://example.com/feed", "hub.callback", "https://subscriber.example/cb")
	for i := 0; i+1 < len(params); i += 2 {
		v.Del(params[i])
		if params[i+1] != "-" {
			v.Set(params[i], params[i+1])
		}
	}
	return v
}

// wantParam checks that err refuses the request, names param and is a single line.
func wantParam(tb testing.TB, err error, param string) {
	tb.Helper()
	var e *hub.Error
	switch {
	case err == nil:
		tb.Errorf("accepted, want an error about %s", param)
	case !errors.As(err, &e) || e.Code != hub.CodeInvalid || e.Param != param:
		tb.Errorf("got %v, want an error about %s", err, param)
	case strings.ContainsAny(err.Error(), "\r\n"):
		tb.Errorf("the error has several lines: %q", err)
	}
}

// WebSub 5.1, rules 1 to 5, 14 to 19 and 22.
func TestSubscribeForm(t *testing.T) {
	const day = 86400
	for _, tc := range []struct {
		name  string
		form  url.Values
		check func(*hub.SubscribeRequest) error
	}{
		{"the three required parameters", subscribeForm(), func(r *hub.SubscribeRequest) error {
			if r.Mode != hub.ModeSubscribe || r.Topic != "https://example.com/feed" || r.Callback != "https://subscriber.example/cb" ||
				r.LeaseSeconds != 10*day || r.Secret != nil || r.Signature != "" || r.VerifyToken != "" {
				return fmt.Errorf("%+v", r)
			}
			return nil
		}},
		{"rule 16: the lease is granted", subscribeForm("hub.lease_seconds", "3600"), lease(3600)},
		{"rule 16: a long lease is lowered", subscribeForm("hub.lease_seconds", "99999999"), lease(30 * day)},
		{"rule 16: a short lease is raised", subscribeForm("hub.lease_seconds", "1"), lease(60)},
		{"an empty lease is no wish", subscribeForm("hub.lease_seconds", ""), lease(10 * day)},
		{"a lease of 0 is no wish", subscribeForm("hub.lease_seconds", "0"), lease(10 * day)},
		{"rule 17: 199 bytes of secret", subscribeForm("hub.secret", strings.Repeat("s", 199)), secret(strings.Repeat("s", 199))},
		{"rule 17: bytes, not characters", subscribeForm("hub.secret", strings.Repeat("é", 99)+"s"), secret(strings.Repeat("é", 99) + "s")},
		{"a secret need not be text", subscribeForm("hub.secret", "\x00\xff"), secret("\x00\xff")},
		{"an empty secret means none", subscribeForm("hub.secret", ""), secret("")},
		{"rule 18: unknown parameters are ignored", subscribeForm("hub.unknown", "x", "foo", "\xff", "hub.verify", "sync"), lease(10 * day)},
		{"unknown parameters may be repeated", url.Values{"hub.mode": {"subscribe"}, "hub.topic": {"https://example.com/feed"},
			"hub.callback": {"https://subscriber.example/cb"}, "x": {"1", "2"}, "hub.verify": {"sync", "async"}}, lease(10 * day)},
		{"hub.verify_token is kept", subscribeForm("hub.verify_token", "t&= é"), func(r *hub.SubscribeRequest) error {
			if r.VerifyToken != "t&= é" {
				return fmt.Errorf("token %q", r.VerifyToken)
			}
			return nil
		}},
		{"the strongest known method is chosen", subscribeForm("hub.hash_algorithms", "md5, SHA384,sha1"), func(r *hub.SubscribeRequest) error {
			if r.Signature != "sha384" {
				return fmt.Errorf("method %q", r.Signature)
			}
			return nil
		}},
		{"rules 23, 25, 64: both schemes; the raw URL for use, the normalised one as key", subscribeForm("hub.callback", "HTTP://Subscriber.Example:80/%7ecb?b=%2f&a=1", "hub.topic", "http://EXAMPLE.com"), func(r *hub.SubscribeRequest) error {
			if r.Callback != "HTTP://Subscriber.Example:80/%7ecb?b=%2f&a=1" || r.CallbackKey != "http://subscriber.example/~cb?b=%2F&a=1" ||
				r.TopicRaw != "http://EXAMPLE.com" || r.Topic != "http://example.com/" {
				return fmt.Errorf("%+v", r)
			}
			return nil
		}},
		{"unsubscribe", subscribeForm("hub.mode", "unsubscribe"), func(r *hub.SubscribeRequest) error {
			if r.Mode != hub.ModeUnsubscribe {
				return fmt.Errorf("mode %v", r.Mode)
			}
			return nil
		}},
		{"rule 16: unsubscribe ignores a malformed lease", subscribeForm("hub.mode", "unsubscribe", "hub.lease_seconds", "soon"), lease(0)},
		{"unsubscribe ignores any secret", subscribeForm("hub.mode", "unsubscribe", "hub.secret", strings.Repeat("s", 500)), secret("")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r, err := hub.ParseSubscribe(tc.form, namer(t), leases)
			if err == nil {
				err = tc.check(r)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
}

func lease(want int64) func(*hub.SubscribeRequest) error {
	return func(r *hub.SubscribeRequest) error {
		if r.LeaseSeconds != want {
			return fmt.Errorf("lease %d, want %d", r.LeaseSeconds, want)
		}
		return nil
	}
}

func secret(want string) func(*hub.SubscribeRequest) error {
	return func(r *hub.SubscribeRequest) error {
		if string(r.Secret) != want {
			return fmt.Errorf("secret %q, want %q", r.Secret, want)
		}
		return nil
	}
}

func TestInvalidSubscribeForms(t *testing.T) {
	for _, tc := range []struct {
		form  url.Values
		param string
	}{
		{url.Values{}, "hub.mode"},
		{subscribeForm("hub.mode", "-"), "hub.mode"},
		{subscribeForm("hub.mode", ""), "hub.mode"},
		{subscribeForm("hub.mode", "SUBSCRIBE"), "hub.mode"},
		{subscribeForm("hub.mode", "publish"), "hub.mode"},
		{subscribeForm("hub.mode", "denied"), "hub.mode"},
		{subscribeForm("hub.topic", "-"), "hub.topic"},
		{subscribeForm("hub.topic", ""), "hub.topic"},
		{subscribeForm("hub.topic", "news"), "hub.topic"},
		{subscribeForm("hub.callback", "-"), "hub.callback"},
		{subscribeForm("hub.callback", "//subscriber.example/cb"), "hub.callback"},
		{subscribeForm("hub.lease_seconds", "soon"), "hub.lease_seconds"},
		{subscribeForm("hub.lease_seconds", "-3600"), "hub.lease_seconds"},
		{subscribeForm("hub.secret", strings.Repeat("s", 200)), "hub.secret"},
		{subscribeForm("hub.secret", strings.Repeat("é", 100)), "hub.secret"},
		{subscribeForm("hub.verify_token", strings.Repeat("t", 513)), "hub.verify_token"},
		{subscribeForm("hub.verify_token", "\xff"), "hub.verify_token"},
		{subscribeForm("hub.hash_algorithms", "md5"), "hub.hash_algorithms"},
		{subscribeForm("hub.hash_algorithms", ""), "hub.hash_algorithms"},
		{url.Values{"hub.mode": {"subscribe", "unsubscribe"}}, "hub.mode"},
		{url.Values{"hub.mode": {"subscribe"}, "hub.callback": {"https://a/", "https://b/"}, "hub.topic": {"https://c/"}}, "hub.callback"},
	} {
		_, err := hub.ParseSubscribe(tc.form, namer(t), leases)
		t.Run(tc.form.Encode(), func(t *testing.T) { wantParam(t, err, tc.param) })
	}
}

// Pings as publishers send them: hub.url once or repeated (Shaarli), hub.url[] (PHP), hub.topic (websub.rocks).
func TestPingForm(t *testing.T) {
	for _, tc := range []struct {
		form url.Values
		want []string
	}{
		{url.Values{"hub.url": {"https://example.com/a"}}, []string{"https://example.com/a"}},
		{url.Values{"hub.url": {"https://example.com/a", "https://example.com/b"}}, []string{"https://example.com/a", "https://example.com/b"}},
		{url.Values{"hub.url[]": {"https://example.com/a", "https://example.com/b"}}, []string{"https://example.com/a", "https://example.com/b"}},
		{url.Values{"hub.topic": {"https://example.com/a"}}, []string{"https://example.com/a"}},
		{url.Values{"hub.url": {"https://example.com/a"}, "hub.topic": {"HTTPS://example.com:443/%61"}}, []string{"https://example.com/a"}},
		{url.Values{"hub.url": {"https://hub.example/topics/news"}}, []string{"news"}},
		{url.Values{"hub.url": {"https://example.com/a,https://example.com/b"}}, []string{"https://example.com/a", "https://example.com/b"}},
		{url.Values{"hub.url[]": {"https://example.com/a , HTTP://example.com/b,https://example.com/a"}, "hub.topic": {"https://example.com/c,https://hub.example/topics/x"}},
			[]string{"https://example.com/a", "http://example.com/b", "https://example.com/c", "x"}},
		{url.Values{"hub.url": {"https://example.com/a,b"}}, []string{"https://example.com/a,b"}},
		{url.Values{"hub.url": {"https://example.com/a?x=,&u=b,https://example.com/c,"}}, []string{"https://example.com/a?x=,&u=b", "https://example.com/c,"}},
		{url.Values{"hub.url": {"https://example.com/known,https://example.com/b"}}, []string{"https://example.com/known,https://example.com/b"}},
	} {
		topics, err := hub.ParsePing(tc.form, namer(t), func(name string) bool { return name == "https://example.com/known,https://example.com/b" })
		var got []string
		for _, p := range topics {
			got = append(got, p.Name)
		}
		if err != nil || !slices.Equal(got, tc.want) {
			t.Errorf("%s: got %v, %v, want %v", tc.form.Encode(), got, err, tc.want)
		}
	}
	many := url.Values{}
	for i := range 101 {
		many.Add("hub.url", fmt.Sprintf("https://example.com/%d", i))
	}
	for _, tc := range []struct {
		form  url.Values
		param string
	}{
		{url.Values{}, "hub.url"},
		{url.Values{"hub.url": {""}}, "hub.url"},
		{url.Values{"hub.url": {"https://example.com/"}, "hub.topic": {"x"}}, "hub.topic"},
		{url.Values{"hub.url[]": {"x"}}, "hub.url[]"},
		{url.Values{"hub.url": {"https://example.com/a,https://u@example.com/b"}}, "hub.url"},
		{many, "hub.url"},
	} {
		_, err := hub.ParsePing(tc.form, namer(t), func(string) bool { return false })
		wantParam(t, err, tc.param)
	}
}

func TestTopicForm(t *testing.T) {
	if got, err := hub.ParseTopicForm(form("hub.topic", "https://hub.example/topics/a%2Fb"), namer(t)); err != nil || got != "a/b" {
		t.Errorf("got %q, %v", got, err)
	}
	for _, f := range []url.Values{{}, form("hub.topic", ""), form("hub.topic", "x"), {"hub.topic": {"https://a/", "https://b/"}}} {
		_, err := hub.ParseTopicForm(f, namer(t))
		wantParam(t, err, "hub.topic")
	}
}
