package web_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"quorumhub/hub"
	"quorumhub/web"
)

const (
	topicURL    = publicURL + "/topics/news"
	callbackURL = "https://subscriber.example/cb?id=1"
)

func TestHubModes(t *testing.T) {
	for _, path := range []string{"/hub", "/hub/"} {
		for _, tc := range []struct {
			name, body      string
			status          int
			contentType, is string
		}{
			{"subscribe", encode("hub.mode", "subscribe", "hub.topic", topicURL, "hub.callback", callbackURL), 202, "text/plain; charset=utf-8", ""},
			{"unsubscribe of nothing", encode("hub.mode", "unsubscribe", "hub.topic", topicURL, "hub.callback", callbackURL), 202, "text/plain; charset=utf-8", ""},
			{"hub.verify is ignored", encode("hub.mode", "subscribe", "hub.topic", topicURL, "hub.callback", callbackURL, "hub.verify", "sync", "hub.x", "y"), 202, "text/plain; charset=utf-8", ""},
			{"malformed lease of an unsubscribe", encode("hub.mode", "unsubscribe", "hub.topic", topicURL, "hub.callback", callbackURL, "hub.lease_seconds", "x"), 202, "text/plain; charset=utf-8", ""},
			{"empty lease", subscribeForm("hub.lease_seconds", ""), 202, "text/plain; charset=utf-8", ""},
			{"lease 0", subscribeForm("hub.lease_seconds", "0"), 202, "text/plain; charset=utf-8", ""},
			{"thin ping", encode("hub.mode", "publish", "hub.url", "https://example.com/feed"), 204, "", ""},
			{"thin ping with hub.topic", encode("hub.mode", "publish", "hub.topic", "https://example.com/feed"), 204, "", ""},
			{"thin ping for several", "hub.mode=publish&hub.url=https://example.com/a&hub.url%5B%5D=https://example.com/b", 204, "", ""},
			{"register", encode("hub.mode", "register", "hub.topic", topicURL), 200, formType, "hub.mode=accepted"},
		} {
			t.Run(path+" "+tc.name, func(t *testing.T) {
				f := newFixture(t)
				w := f.send(http.MethodPost, path, tc.body, "Content-Type", formType+"; charset=UTF-8")
				body := want(t, w, tc.status)
				if got := w.Header().Get("Content-Type"); got != tc.contentType {
					t.Errorf("Content-Type is %q, want %q", got, tc.contentType)
				}
				if tc.is != "" && body != tc.is {
					t.Errorf("body is %q, want %q", body, tc.is)
				}
			})
		}
	}
}

// Rule 33: the response does not reveal the outcome, not even whether there was anything to unsubscribe.
func TestSubscribersGetOneAnswer(t *testing.T) {
	f := newFixture(t)
	params := []string{"hub.topic", topicURL, "hub.callback", callbackURL}
	first := want(t, f.form(append(params, "hub.mode", "subscribe")...), 202)
	f.ledger.verify(t)
	for _, mode := range []string{"subscribe", "unsubscribe"} {
		if got := want(t, f.form(append(params, "hub.mode", mode)...), 202); got != first {
			t.Errorf("%s of an active subscription gets %q, of an unknown one %q", mode, got, first)
		}
	}
}

func TestRegisterAndDeregister(t *testing.T) {
	f := newFixture(t)
	for _, step := range []struct {
		mode   string
		status int
	}{{"register", 200}, {"register", 409}, {"unregister", 200}, {"deregister", 404}, {"register", 200}, {"deregister", 200}} {
		want(t, f.form("hub.mode", step.mode, "hub.topic", topicURL), step.status)
	}
}

func TestUnknownTopicsWithoutAutoRegister(t *testing.T) {
	f := newFixture(t, func(r *hub.Policy, _ *web.Options) { r.AutoRegister = false })
	want(t, f.form("hub.mode", "publish", "hub.url", "https://example.com/feed"), 404)
	want(t, f.send("POST", publishURL(topicURL), "x"), 404)
	want(t, f.send("POST", "/topics/news", "x"), 404)
	want(t, f.form("hub.mode", "register", "hub.topic", topicURL), 200)
	want(t, f.send("POST", "/topics/news", "x"), 200)
}

// subscribeForm is a valid subscribe request with some parameters changed; "-" removes one.
func subscribeForm(params ...string) string {
	base := map[string]string{"hub.mode": "subscribe", "hub.topic": topicURL, "hub.callback": callbackURL}
	for i := 0; i+1 < len(params); i += 2 {
		base[params[i]] = params[i+1]
	}
	var all []string
	for k, v := range base {
		if v != "-" {
			all = append(all, k, v)
		}
	}
	return encode(all...)
}

type invalidRequest struct {
	name, target, contentType, body string
	status                          int
	param                           string
}

func invalidSubscribes() []invalidRequest {
	longURL := "https://example.com/" + strings.Repeat("a", 2048)
	return []invalidRequest{
		{"no body, no type", "/hub", "", "", 415, "Content-Type"},
		{"JSON", "/hub", "application/json", `{"hub.mode":"subscribe"}`, 415, "Content-Type"},
		{"multipart", "/hub", "multipart/form-data; boundary=x", "--x--", 415, "Content-Type"},
		{"empty form", "/hub", formType, "", 400, "hub.mode"},
		{"malformed value", "/hub", formType, "hub.mode=subscribe&hub.topic=%zz", 400, "hub.topic"},
		{"malformed name", "/hub", formType, "hub.mode=subscribe&%zz=1", 400, "parameter 2"},
		{"cut-off escape", "/hub", formType, "hub.mode=subscribe&hub.callback=http://a/%4", 400, "hub.callback"},
		{"no mode", "/hub", formType, subscribeForm("hub.mode", "-"), 400, "hub.mode"},
		{"empty mode", "/hub", formType, subscribeForm("hub.mode", ""), 400, "hub.mode"},
		{"wrong mode", "/hub", formType, subscribeForm("hub.mode", "Subscribe"), 400, "hub.mode"},
		{"mode twice", "/hub", formType, "hub.mode=subscribe&hub.mode=subscribe", 400, "hub.mode"},
		{"mode of the hub's own requests", "/hub", formType, subscribeForm("hub.mode", "denied"), 400, "hub.mode"},
		{"no topic", "/hub", formType, subscribeForm("hub.topic", "-"), 400, "hub.topic"},
		{"empty topic", "/hub", formType, subscribeForm("hub.topic", ""), 400, "hub.topic"},
		{"relative topic", "/hub", formType, subscribeForm("hub.topic", "/feed"), 400, "hub.topic"},
		{"bare name as topic", "/hub", formType, subscribeForm("hub.topic", "news"), 400, "hub.topic"},
		{"ftp topic", "/hub", formType, subscribeForm("hub.topic", "ftp://example.com/feed"), 400, "hub.topic"},
		{"topic with fragment", "/hub", formType, subscribeForm("hub.topic", "https://example.com/feed#x"), 400, "hub.topic"},
		{"topic with user info", "/hub", formType, subscribeForm("hub.topic", "https://u:p@example.com/feed"), 400, "hub.topic"},
		{"long topic", "/hub", formType, subscribeForm("hub.topic", longURL), 400, "hub.topic"},
		{"topic twice", "/hub", formType, subscribeForm() + "&hub.topic=" + topicURL, 400, "hub.topic"},
		{"topic not UTF-8", "/hub", formType, subscribeForm("hub.topic", "https://example.com/\xff"), 400, "hub.topic"},
		{"hosted topic without name", "/hub", formType, subscribeForm("hub.topic", publicURL+"/topics/"), 400, "hub.topic"},
		{"no callback", "/hub", formType, subscribeForm("hub.callback", "-"), 400, "hub.callback"},
		{"empty callback", "/hub", formType, subscribeForm("hub.callback", ""), 400, "hub.callback"},
		{"relative callback", "/hub", formType, subscribeForm("hub.callback", "cb"), 400, "hub.callback"},
		{"javascript callback", "/hub", formType, subscribeForm("hub.callback", "javascript:alert(1)"), 400, "hub.callback"},
		{"callback with user info", "/hub", formType, subscribeForm("hub.callback", "https://u@example.com/"), 400, "hub.callback"},
		{"callback with octal address", "/hub", formType, subscribeForm("hub.callback", "http://0177.0.0.1/"), 400, "hub.callback"},
		{"callback with address in one word", "/hub", formType, subscribeForm("hub.callback", "http://2130706433/"), 400, "hub.callback"},
		{"callback with a space", "/hub", formType, subscribeForm("hub.callback", "https://example.com/a b"), 400, "hub.callback"},
		{"callback with a line break", "/hub", formType, subscribeForm("hub.callback", "https://example.com/\r\nX: y"), 400, "hub.callback"},
		{"callback that policy refuses", "/hub", formType, subscribeForm("hub.callback", "https://forbidden.example/"), 403, "hub.callback"},
		{"negative lease", "/hub", formType, subscribeForm("hub.lease_seconds", "-1"), 400, "hub.lease_seconds"},
		{"fractional lease", "/hub", formType, subscribeForm("hub.lease_seconds", "1.5"), 400, "hub.lease_seconds"},
		{"lease in words", "/hub", formType, subscribeForm("hub.lease_seconds", "a day"), 400, "hub.lease_seconds"},
		{"secret of 200 bytes", "/hub", formType, subscribeForm("hub.secret", strings.Repeat("s", 200)), 400, "hub.secret"},
		{"secret of 100 characters in 200 bytes", "/hub", formType, subscribeForm("hub.secret", strings.Repeat("é", 100)), 400, "hub.secret"},
		{"secret twice", "/hub", formType, subscribeForm("hub.secret", "a") + "&hub.secret=b", 400, "hub.secret"},
		{"long verify token", "/hub", formType, subscribeForm("hub.verify_token", strings.Repeat("t", 2000)), 400, "hub.verify_token"},
		{"verify token not UTF-8", "/hub", formType, subscribeForm("hub.verify_token", "\xff"), 400, "hub.verify_token"},
		{"unknown hash algorithms only", "/hub", formType, subscribeForm("hub.hash_algorithms", "md5"), 400, "hub.hash_algorithms"},
	}
}

func invalidPublishes() []invalidRequest {
	return []invalidRequest{
		{"ping without topic", "/hub", formType, "hub.mode=publish", 400, "hub.url"},
		{"ping with an empty one", "/hub", formType, "hub.mode=publish&hub.url=", 400, "hub.url"},
		{"ping with a bad one", "/hub", formType, "hub.mode=publish&hub.url=https://example.com/&hub.url[]=nonsense", 400, "hub.url[]"},
		{"ping for too many", "/hub", formType, "hub.mode=publish" + manyURLs(101), 400, "hub.url"},
		{"register without topic", "/hub", formType, "hub.mode=register", 400, "hub.topic"},
		{"form too large", "/hub", formType, "hub.mode=subscribe&x=" + strings.Repeat("y", 300<<10), 413, "body"},
		{"too many parameters", "/hub", formType, "hub.mode=subscribe" + strings.Repeat("&a=1", 1001), 400, "body"},
		{"subscribe in the query", "/hub?" + subscribeForm(), "", "", 400, "hub.mode"},
		{"subscribe in the query, empty form", "/hub?" + subscribeForm(), formType, "", 400, "hub.mode"},
		{"subscribe in the query, JSON body", "/hub?hub.mode=subscribe", "application/json", "{}", 400, "hub.mode"},
		{"publish in the query without topic", "/hub?hub.mode=publish", "text/plain", "x", 400, "hub.topic"},
		{"publish with a relative topic", "/hub?hub.mode=publish&hub.topic=news", "text/plain", "x", 400, "hub.topic"},
		{"publish with two topics", publishURL(topicURL) + "&hub.topic=https://example.com/", "text/plain", "x", 400, "hub.topic"},
		{"publish with mode twice", publishURL(topicURL) + "&hub.mode=publish", "text/plain", "x", 400, "hub.mode"},
		{"publish with a malformed topic", "/hub?hub.mode=publish&hub.topic=https://a/%zz", "text/plain", "x", 400, "hub.topic"},
		{"publish with bytes as type", publishURL(topicURL), "text/plain; a=\xff", "x", 400, "Content-Type"},
		{"publish with a long type", publishURL(topicURL), "text/" + strings.Repeat("x", 300), "x", 400, "Content-Type"},
		{"publish of too much", publishURL(topicURL), "text/plain", strings.Repeat("x", 4097), 413, ""},
		{"hosted topic without a name", "/topics/", "text/plain", "x", 400, "topic"},
		{"hosted topic with dots", "/topics/a/../b", "text/plain", "x", 400, "topic"},
		{"hosted topic with encoded dots", "/topics/a/%2e%2e/b", "text/plain", "x", 400, "topic"},
		{"hosted topic with a control character", "/topics/a%00b", "text/plain", "x", 400, "topic"},
		{"hosted topic not UTF-8", "/topics/a%ffb", "text/plain", "x", 400, "topic"},
		{"hosted topic with a long name", "/topics/" + strings.Repeat("a", 513), "text/plain", "x", 400, "topic"},
	}
}

func TestInvalidRequests(t *testing.T) {
	for _, tc := range slices.Concat(invalidSubscribes(), invalidPublishes()) {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			var header []string
			if tc.contentType != "" {
				header = []string{"Content-Type", tc.contentType}
			}
			w := f.send(http.MethodPost, tc.target, tc.body, header...)
			body := want(t, w, tc.status)
			if got := w.Header().Get("Content-Type"); got != "text/plain; charset=utf-8" {
				t.Errorf("Content-Type is %q, want plain text", got)
			}
			checkErrorLine(t, body)
			if tc.param != "" && !strings.HasPrefix(body, tc.param+": ") {
				t.Errorf("the response %q does not begin with the parameter %q", body, tc.param)
			}
			if n := f.ledger.state.Counts(); n != (hub.Counts{}) {
				t.Errorf("a refused request changed the state: %+v", n)
			}
		})
	}
}

func manyURLs(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("&hub.url=https://example.com/")
		b.WriteString(strings.Repeat("x", i))
	}
	return b.String()
}

// checkErrorLine checks that a plain text error is one readable line.
func checkErrorLine(tb testing.TB, body string) {
	tb.Helper()
	line, ok := strings.CutSuffix(body, "\n")
	if !ok || strings.ContainsAny(line, "\r\n\x00\x1b") || len(line) < 10 {
		tb.Errorf("the error %q is not one readable line", body)
	}
}

// Rule 14: the query never affects a request in the body.
func TestQueryDoesNotChangeForm(t *testing.T) {
	f := newFixture(t)
	body := encode("hub.mode", "subscribe", "hub.topic", topicURL, "hub.callback", callbackURL)
	want(t, f.send("POST", "/hub?hub.mode=unsubscribe&hub.callback=https://other.example/", body, "Content-Type", formType), 202)
	reqs := f.ledger.state.Requests(0, 10, nil)
	if len(reqs) != 1 || reqs[0].Mode != hub.ModeSubscribe || reqs[0].Callback != callbackURL {
		t.Fatalf("recorded %+v, want the subscribe request in the body", reqs)
	}
}

func TestUnavailableSetsRetryAfter(t *testing.T) {
	for _, err := range []error{hub.ErrNoLeader, hub.ErrOverloaded, hub.ErrStopping, hub.ErrDiskFull, hub.ErrAmbiguous} {
		f := newFixture(t)
		f.ledger.refuse = err
		sub := []string{"hub.mode", "subscribe", "hub.topic", topicURL, "hub.callback", callbackURL}
		for name, w := range map[string]interface {
			Header() http.Header
		}{
			"subscribe": f.form(sub...),
			"ping":      f.form("hub.mode", "publish", "hub.url", "https://example.com/feed"),
			"publish":   f.send("POST", publishURL(topicURL), "x"),
			"register":  f.form("hub.mode", "register", "hub.topic", topicURL),
		} {
			if w.Header().Get("Retry-After") == "" {
				t.Errorf("%s with %v: no Retry-After", name, err)
			}
		}
		want(t, f.form(sub...), 503)
		want(t, f.send("POST", publishURL(topicURL), "x"), 503)
	}
}

func TestHubMethods(t *testing.T) {
	f := newFixture(t)
	for _, method := range []string{"GET", "HEAD", "PUT", "DELETE", "PATCH"} {
		w := f.send(method, "/hub", "")
		want(t, w, 405)
		if got := w.Header().Get("Allow"); got != "OPTIONS, POST" {
			t.Errorf("%s: Allow is %q", method, got)
		}
	}
	if body := want(t, f.send("GET", "/hub/", ""), 405); !strings.Contains(body, "WebSub") {
		t.Errorf("GET /hub/ gets %q, which does not say what this is", body)
	}
	want(t, f.send("OPTIONS", "/hub", ""), 204)
	want(t, f.send("BREW", "/hub", ""), 405)
}

// WebSub clients turn a redirected POST into a GET or give up, so the hub must not redirect.
func TestNoRedirects(t *testing.T) {
	f := newFixture(t)
	for _, path := range []string{"/hub", "/hub/", "/hub//", "//hub", "/Hub", "/topics/a/b", "/topics", "/v1/topics/"} {
		w := f.send("POST", path, "hub.mode=publish&hub.url=https://example.com/", "Content-Type", formType)
		if w.Code >= 300 && w.Code < 400 || w.Header().Get("Location") != "" {
			t.Errorf("POST %s gets %d with Location %q", path, w.Code, w.Header().Get("Location"))
		}
	}
}

// A client that reaches the hub by an address the hub does not know, and calls a topic by it, is told the topic's URL instead of
// being given a foreign topic.
func TestTopicsCalledByAnUnknownAddressOfTheHub(t *testing.T) {
	const hubAt, called = "http://192.0.2.7:8080/hub", "http://192.0.2.7:8080/topics/news"
	for _, profile := range []web.Profile{web.ProfileNative, web.ProfileBallerina} {
		f := newFixture(t, func(_ *hub.Policy, o *web.Options) { o.Profile = profile })
		for _, tc := range []struct{ name, target, contentType, body string }{
			{"subscribe", hubAt, formType, subscribeForm("hub.topic", called)},
			{"unsubscribe", hubAt, formType, subscribeForm("hub.topic", called, "hub.mode", "unsubscribe")},
			{"register", hubAt, formType, encode("hub.mode", "register", "hub.topic", called)},
			{"thin ping", hubAt, formType, encode("hub.mode", "publish", "hub.topic", called)},
			{"thin ping of several", hubAt, formType, encode("hub.mode", "publish", "hub.topic", called, "hub.url", called+"-2")},
			{"content", hubAt + "?hub.mode=publish&hub.topic=" + url.QueryEscape(called), "text/plain", "x"},
			{"batch", hubAt + "?hub.mode=publish&hub.batch=true&hub.topic=" + url.QueryEscape(called), "application/x-ndjson", "{}"},
		} {
			w := f.send(http.MethodPost, tc.target, tc.body, "Content-Type", tc.contentType)
			if profile != web.ProfileNative && tc.name == "batch" {
				continue // not in that dialect
			}
			if w.Code != 400 || !strings.Contains(w.Body.String(), publicURL+"/topics/news") {
				t.Errorf("%s, %s: %d %s", profile, tc.name, w.Code, w.Body)
			}
		}
		if n := f.ledger.state.Counts().Topics; n != 0 {
			t.Errorf("%s: %d topics were made", profile, n)
		}
	}
}

// One topic of a ping that is unknown or refused keeps none of the others from being announced.
func TestPingAnnouncesWhatItMay(t *testing.T) {
	f := newFixture(t, func(p *hub.Policy, _ *web.Options) {
		p.AutoRegister = false
		p.CheckTopic = func(u *url.URL) error {
			if u.Hostname() == "10.0.0.1" {
				return errors.New("the address is not allowed")
			}
			return nil
		}
	})
	const known, hosted = "https://example.com/feed", publicURL + "/topics/news"
	for _, topic := range []string{known, hosted, "http://10.0.0.1/feed"} {
		want(t, f.form("hub.mode", "register", "hub.topic", topic), 200)
	}
	pings := func() (n uint64) {
		f.ledger.View(func(st *hub.State) { topic, _ := st.TopicByName(known); n = topic.Ping })
		return n
	}
	for i, body := range []string{
		encode("hub.mode", "publish", "hub.url", known, "hub.url", "https://example.com/unknown", "hub.url", "http://10.0.0.1/feed", "hub.topic", hosted),
		encode("hub.mode", "publish", "hub.url", "https://example.com/unknown,http://10.0.0.1/feed,"+known+","+hosted),
	} {
		var got struct {
			Refused []struct {
				Topic  string `json:"topic"`
				Status int    `json:"status"`
				Code   string `json:"code"`
				Detail string `json:"detail"`
			} `json:"refused"`
		}
		answer := want(t, f.send(http.MethodPost, "/hub", body, "Content-Type", formType), 207)
		if err := json.Unmarshal([]byte(answer), &got); err != nil {
			t.Fatalf("%v in %s", err, answer)
		}
		status := map[string]int{}
		for _, r := range got.Refused {
			if status[r.Topic] = r.Status; r.Code == "" || r.Detail == "" {
				t.Errorf("%+v does not say why", r)
			}
		}
		if !reflect.DeepEqual(status, map[string]int{"https://example.com/unknown": 404, "http://10.0.0.1/feed": 403}) {
			t.Errorf("refused: %v", status)
		}
		if pings() != uint64(i+1) {
			t.Errorf("%d pings after %d requests", pings(), i+1)
		}
	}
	want(t, f.form("hub.mode", "publish", "hub.url", known+","+hosted), 204)
	body := want(t, f.form("hub.mode", "publish", "hub.url", "https://example.com/x,https://example.com/y"), 404)
	if !strings.Contains(body, "https://example.com/x") || !strings.Contains(body, "other") {
		t.Errorf("nothing is accepted: %s", body)
	}
}
